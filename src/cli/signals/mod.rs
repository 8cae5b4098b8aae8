//! `baton signals`: which there are, what became of one, what would become of another, and an operator's word on one.

mod dry_run;
mod list;
mod word;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::books::listed;
use crate::cli::call::Target;
use crate::cli::errors::moment;
use crate::cli::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// What to do with signals.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Count signals, by type and by what became of them.
    #[command(after_help = "Examples:
  baton signals count
  baton signals count -o json | jq '.counts[] | select(.status == \"refused\")'")]
    Count(Target),
    /// Ask what would become of a signal if it were delivered now; nothing is stored or sent.
    DryRun(dry_run::DryRun),
    /// End a signal that waits, before it is decided.
    Drop(word::Drop),
    /// List signals, the newest first.
    List(list::List),
    /// Put a refused signal in again, under a key of its own.
    Replay(word::Replay),
    /// Show what became of a signal, why, and its orders.
    #[command(after_help = "The id is in the webhook's answer.

Examples:
  baton signals show 0199a1b2-0000-7000-8000-000000000001
  baton signals show 0199a1b2-0000-7000-8000-000000000001 -o json | jq .decision")]
    Show(Show),
}

/// Which signal.
#[derive(Clone, Debug, clap::Args)]
pub struct Show {
    /// The signal's id.
    pub id: Uuid,
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
}

/// Runs a verb of `baton signals`.
///
/// # Errors
/// No instance answers; there is no such signal; stdout cannot be written to.
pub async fn run(verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Count(target) => {
            let answer = target.caller(inputs)?.get("/api/v1/signals").await?;
            print(&answer, counts, output)
        }
        Verb::Drop(word) => word.run(inputs, output).await,
        Verb::DryRun(args) => dry_run::run(args, inputs, output).await,
        Verb::List(list) => list::run(list, inputs, output).await,
        Verb::Replay(word) => word.run(inputs, output).await,
        Verb::Show(show) => {
            let path = format!("/api/v1/signals/{}", show.id);
            print(&show.target.caller(inputs)?.get(&path).await?, signal, output)
        }
    }
}

/// Prints an answer for scripts as it is, for people by `show`.
fn print(
    answer: &Value,
    show: impl Fn(&Value, &Output) -> anyhow::Result<()>,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(answer)?;
    } else {
        show(answer, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn counts(answer: &Value, output: &Output) -> anyhow::Result<()> {
    let rows: Vec<Vec<Cell>> = listed(answer, "counts").iter().map(count).collect();
    Ok(output.table(&["TYPE", "STATUS", "COUNT"], &rows)?)
}

fn count(row: &Value) -> Vec<Cell> {
    let status = text(row, "status");
    let colour = colour(&status);
    vec![Cell::of(text(row, "type")), Cell::of(status).in_colour(colour), Cell::of(&row["count"])]
}

fn signal(signal: &Value, output: &Output) -> anyhow::Result<()> {
    let status = text(signal, "status");
    output.line(format!(
        "{} {} by {} is {}",
        text(signal, "type"),
        text(signal, "instrument"),
        text(signal, "strategy"),
        output.paint(colour(&status), &status)
    ))?;
    output.line(format!("  stored {} by {}", time(signal, "received_at"), text(signal, "received_by")))?;
    if signal["finished_at"].is_string() {
        output.line(format!("  final {}", time(signal, "finished_at")))?;
    }
    for reason in listed(signal, "reasons") {
        output.line(format!("  {}: {}", text(reason, "code"), text(reason, "sentence")))?;
    }
    let rows: Vec<Vec<Cell>> = listed(signal, "orders").iter().map(order).collect();
    if !rows.is_empty() {
        output.table(&["ORDER", "CLASS", "SIDE", "UNITS", "FILLED", "PRICE", "STATE", "REASON"], &rows)?;
    }
    Ok(())
}

fn order(order: &Value) -> Vec<Cell> {
    vec![
        Cell::of(text(order, "id")),
        Cell::of(text(order, "class")),
        Cell::of(text(order, "side")),
        Cell::of(&order["quantity"]),
        Cell::of(&order["filled_quantity"]),
        Cell::of(text(order, "average_price")),
        Cell::of(text(order, "state")),
        Cell::of(order["reason"].as_str().unwrap_or("")),
    ]
}

fn colour(status: &str) -> Colour {
    match status {
        "executed" => Colour::Green,
        "pending" | "working" | "refused" => Colour::Yellow,
        _ => Colour::Red,
    }
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or("-").to_owned()
}

fn time(row: &Value, name: &str) -> String {
    moment(row[name].as_str().unwrap_or_default())
}
