//! `baton positions`: what the ledger holds, and that against what the broker holds.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::adopt;
use super::books::{listed, rupees};
use super::call::Target;
use super::errors::moment;
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// What to do with positions.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Compare the ledger's positions with the broker's position book; exit code 1 when they drift.
    #[command(
        after_help = "Exit codes: 0 they agree, 1 they drift, or could not be compared: then nothing is known.

Verdicts: agrees; unsettled (an order is under way or in doubt); foreign (not Baton's: never touched);
missing (the broker holds less: exits sell no more than that); surplus (the broker holds more).

Examples:
  baton positions diff
  baton positions diff -o json | jq '.rows[] | select(.verdict == \"missing\")'"
    )]
    Diff(Target),
    /// List what is held, with stops and what it is worth now; or what was held.
    #[command(
        after_help = "PRICE is what the leader watches the position by, AGE how old it is; a dash is what is not known.

Examples:
  baton positions list
  baton positions list --closed --limit 20
  baton positions list -o json | jq .portfolio"
    )]
    List(List),
    /// Take up a position that the broker holds and the ledger does not; writes nothing without --apply.
    Adopt(adopt::Args),
}

/// Which positions.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    /// Those that are closed instead, the newest first.
    #[arg(long)]
    closed: bool,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
}

/// A comparison as an instance tells it.
#[derive(Deserialize)]
pub(super) struct Diff {
    drift: usize,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    symbol: String,
    exchange: String,
    product: Option<String>,
    ledger: i64,
    broker: i64,
    verdict: String,
}

/// Runs a verb of `baton positions`.
///
/// # Errors
/// No instance answers, or the broker's book could not be verified; stdout cannot be written to.
pub async fn run(verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let at = match verb {
        Verb::Adopt(args) => return adopt::run(args, inputs, output).await,
        Verb::List(args) => return list(args, inputs, output).await,
        Verb::Diff(at) => at,
    };
    let body = at.caller(inputs)?.get("/api/v1/positions/diff").await?;
    let diff: Diff = serde_json::from_value(body.clone())
        .context("the instance answers, but not as one of this version does")?;
    if output.is_json() {
        output.json(&body)?;
    } else {
        told(&diff, output)?;
    }
    Ok(if diff.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn list(args: List, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let status = if args.closed { "closed" } else { "open" };
    let path = format!("/api/v1/positions?status={status}&limit={}", args.limit);
    let page = args.target.caller(inputs)?.get(&path).await?;
    if output.is_json() {
        output.json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let positions = listed(&page, "positions");
    if positions.is_empty() {
        output.line(format!("no position is {status}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |position: &Value| {
        let mut row = held(position);
        if !args.closed {
            row.splice(WORTH_AT..WORTH_AT, worth(position));
        }
        row
    };
    let rows: Vec<Vec<Cell>> = positions.iter().map(row).collect();
    let mut columns = vec![
        "SYMBOL", "LABEL", "STRATEGY", "STATUS", "UNITS", "ENTRY", "STOP", "REALISED", "CHARGES", "OPENED",
    ];
    if !args.closed {
        columns.splice(WORTH_AT..WORTH_AT, ["PRICE", "AGE", "UNREALISED"]);
    }
    output.table(&columns, &rows)?;
    if !args.closed && page["prices"] != "watched" {
        output.line("prices are not known there: the leader watches them, and it did not answer")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Before which column it says what a position is worth.
const WORTH_AT: usize = 7;

fn worth(position: &Value) -> [Cell; 3] {
    let age = position["price_age_seconds"].as_f64();
    let profit = rupees(position, "unrealised_pnl");
    let colour = if profit.starts_with('-') { Colour::Red } else { Colour::Green };
    [
        Cell::of(rupees(position, "current_price")),
        Cell::of(age.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s"))),
        Cell::of(&profit).in_colour(if profit == "-" { Colour::Dim } else { colour }),
    ]
}

fn held(position: &Value) -> Vec<Cell> {
    let text = |name: &str| position[name].as_str().unwrap_or("-").to_owned();
    let status = text("status");
    let colour = if status == "open" { Colour::Green } else { Colour::Yellow };
    vec![
        Cell::of(text("symbol")),
        Cell::of(text("label")),
        Cell::of(text("strategy")),
        Cell::of(status).in_colour(colour),
        Cell::of(&position["quantity"]),
        Cell::of(rupees(position, "entry_price")),
        Cell::of(rupees(position, "current_stop")),
        Cell::of(rupees(position, "realised")),
        Cell::of(rupees(position, "charges")),
        Cell::of(moment(&text("opened_at"))),
    ]
}

impl Diff {
    /// No contract drifts.
    pub(super) fn agrees(&self) -> bool {
        self.drift == 0
    }
}

pub(super) fn told(diff: &Diff, output: &Output) -> anyhow::Result<()> {
    let verdict = match diff.drift {
        0 => output.paint(Colour::Green, "ledger and broker agree"),
        1 => output.paint(Colour::Red, "1 contract drifts: RUNBOOK.md#position_drift"),
        n => output.paint(Colour::Red, format!("{n} contracts drift: RUNBOOK.md#position_drift")),
    };
    output.line(verdict)?;
    if diff.rows.is_empty() {
        output.line("  neither holds anything")?;
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = diff.rows.iter().map(row).collect();
    output.table(&["SYMBOL", "EXCHANGE", "PRODUCT", "LEDGER", "BROKER", "VERDICT"], &rows)?;
    Ok(())
}

fn row(row: &Row) -> Vec<Cell> {
    let colour = match row.verdict.as_str() {
        "agrees" => Colour::Green,
        "missing" | "surplus" => Colour::Red,
        _ => Colour::Yellow,
    };
    vec![
        Cell::of(&row.symbol),
        Cell::of(&row.exchange),
        Cell::of(row.product.as_deref().unwrap_or("other")),
        Cell::of(row.ledger),
        Cell::of(row.broker),
        Cell::of(&row.verdict).in_colour(colour),
    ]
}
