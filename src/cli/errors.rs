//! `baton errors`: what went wrong, as the whole cluster saw it.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Caller, Target};
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// How `baton errors` finds the cluster, and what it shows.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton errors
  baton errors --all
  baton errors summary -o json
  baton errors acknowledge 17")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Also those that are over.
    #[arg(long)]
    all: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do with errors.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Verb {
    /// Count by kind: unresolved, occurrences, notified, throttled.
    Summary,
    /// Take note of an error: it is told no more until it is over.
    Acknowledge {
        /// The error's number.
        id: i64,
    },
    /// End an error by your word.
    Resolve {
        /// The error's number.
        id: i64,
    },
}

/// Runs the verb.
///
/// # Errors
/// No instance answers, or it refuses.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    match args.verb {
        None => list(&caller, args.all, output).await,
        Some(Verb::Summary) => summary(&caller, output).await,
        Some(Verb::Acknowledge { id }) => change(&caller, id, "acknowledge", output).await,
        Some(Verb::Resolve { id }) => change(&caller, id, "resolve", output).await,
    }
}

async fn list(caller: &Caller, all: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = caller.get(&format!("/api/v1/errors?all={all}")).await?;
    if output.is_json() {
        output.json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    if errors.is_empty() {
        output.line(output.paint(Colour::Green, "No unresolved errors"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<Cell>> = errors.iter().map(row).collect();
    output.table(&["ID", "STATE", "SEVERITY", "TYPE", "COUNT", "SINCE", "LAST", "MESSAGE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(error: &Value) -> Vec<Cell> {
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let state = match (error["resolved"].as_bool(), error["acknowledged_by"].as_str()) {
        (Some(true), _) => Cell::of("over"),
        (_, Some(who)) => Cell::of(format!("noted by {who}")),
        _ => Cell::of("open").in_colour(Colour::Red),
    };
    let name = match text("scope").as_str() {
        "" => text("error_type"),
        scope => format!("{} {scope}", text("error_type")),
    };
    vec![
        Cell::of(&error["id"]),
        state,
        Cell::of(text("severity")),
        Cell::of(name),
        Cell::of(&error["occurrence_count"]),
        Cell::of(moment(&text("open_since"))),
        Cell::of(moment(&text("last_occurrence"))),
        Cell::of(text("error_message")),
    ]
}

/// In the time of those who read it.
pub(super) fn moment(text: &str) -> String {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok();
    time.map_or_else(|| text.to_owned(), |time| crate::notify::compose::moment(time.to_utc()))
}

async fn summary(caller: &Caller, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = caller.get("/api/v1/errors/summary").await?;
    if output.is_json() {
        output.json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(format!(
        "{} unresolved ({} not acknowledged), {} occurrences, {} notified, {} undelivered",
        answer["unresolved"],
        answer["unacknowledged"],
        answer["occurrences"],
        answer["notified"],
        answer["undelivered"]
    ))?;
    let types = answer["types"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<Cell>> = types
        .iter()
        .map(|kind| {
            let columns = ["unresolved", "occurrences", "notified", "throttled"];
            let name = Cell::of(kind["error_type"].as_str().unwrap_or_default());
            let last = Cell::of(moment(kind["last_occurrence"].as_str().unwrap_or_default()));
            let counts = columns.iter().map(|column| Cell::of(&kind[*column]));
            std::iter::once(name).chain(counts).chain([last]).collect()
        })
        .collect();
    if !rows.is_empty() {
        output.table(&["TYPE", "UNRESOLVED", "OCCURRENCES", "NOTIFIED", "THROTTLED", "LAST"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn change(caller: &Caller, id: i64, what: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = caller.post(&format!("/api/v1/errors/{id}/{what}"), &json!({})).await?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        let past = if what == "resolve" { "is over" } else { "is noted" };
        output.line(format!("Error {id} ({}) {past}", answer["error_type"].as_str().unwrap_or_default()))?;
    }
    Ok(ExitCode::SUCCESS)
}
