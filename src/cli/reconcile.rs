//! `baton reconcile`: the leader compares the ledger with the broker's books, now.

use std::process::ExitCode;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::books::listed;
use super::call::Target;
use super::output::{Cell, Colour, Output};
use super::positions::{self, Diff};
use crate::config::Inputs;

/// How `baton reconcile` finds the cluster.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 they agree, 1 something drifts, is in doubt or absent, or could not be compared: then nothing is
known. It books and trades nothing.

Orders: agrees; under_way (it moves); ended (the next reading books it); in_doubt (nobody heard what became of it);
absent (the broker's book does not show it). Foreign orders are not Baton's: never touched.

Examples:
  baton reconcile
  baton reconcile -o json | jq '.orders[] | select(.verdict == \"in_doubt\")'"
)]
pub struct Args {
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
}

#[derive(Deserialize)]
struct Report {
    by: String,
    positions: Diff,
}

/// Asks for the comparison and prints it.
///
/// # Errors
/// No leader answers, or the broker's books could not be verified; stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = args.target.caller(inputs)?.ask("/api/v1/reconcile", "{}").await?;
    let report: Report = serde_json::from_value(answer.clone())
        .context("the instance answers, but not as one of this version does")?;
    let orders = listed(&answer, "orders");
    let bad = |order: &&Value| matches!(order["verdict"].as_str(), Some("in_doubt" | "absent"));
    let agrees = report.positions.agrees() && !orders.iter().any(|order| bad(&order));
    if output.is_json() {
        output.json(&answer)?;
    } else {
        told(&report, orders, listed(&answer, "foreign"), output)?;
    }
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(report: &Report, orders: &[Value], foreign: &[Value], output: &Output) -> anyhow::Result<()> {
    output.line(format!("compared by {}", report.by))?;
    positions::told(&report.positions, output)?;
    if orders.is_empty() {
        output.line("no order is open")?;
    } else {
        let rows: Vec<Vec<Cell>> = orders.iter().map(row).collect();
        output.table(&["ORDER", "SYMBOL", "SIDE", "UNITS", "LEDGER", "BROKER", "VERDICT"], &rows)?;
    }
    let named: Vec<&str> = foreign.iter().filter_map(Value::as_str).collect();
    if !named.is_empty() {
        let told = format!("not Baton's: {}: RUNBOOK.md#foreign-orders", named.join(", "));
        output.line(output.paint(Colour::Yellow, told))?;
    }
    Ok(())
}

fn row(order: &Value) -> Vec<Cell> {
    let text = |name: &str| order[name].as_str().unwrap_or("-").to_owned();
    let verdict = text("verdict");
    let colour = match verdict.as_str() {
        "agrees" => Colour::Green,
        "in_doubt" | "absent" => Colour::Red,
        _ => Colour::Yellow,
    };
    vec![
        Cell::of(text("id")),
        Cell::of(text("symbol")),
        Cell::of(text("side")),
        Cell::of(&order["quantity"]),
        Cell::of(text("state")),
        Cell::of(text("broker_status")),
        Cell::of(verdict).in_colour(colour),
    ]
}
