//! `baton errors`: what went wrong, as the whole cluster saw it.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Caller, Change, Target};
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// How `baton errors` finds the cluster, and what it shows.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton errors
  baton errors --all
  baton errors summary -o json
  baton errors acknowledge 17 --reason 'the line is being mended'")]
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
#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Count by kind: unresolved, occurrences, notified, throttled.
    Summary,
    /// Take note of an error: it is told no more until it is over.
    Acknowledge(Word),
    /// End an error by your word.
    Resolve(Word),
}

/// An operator's word on an error.
#[derive(Clone, Debug, clap::Args)]
struct Word {
    /// The error's number.
    id: i64,
    #[command(flatten)]
    change: Change,
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
        Some(Verb::Acknowledge(word)) => say(&caller, &word, "acknowledge", output).await,
        Some(Verb::Resolve(word)) => say(&caller, &word, "resolve", output).await,
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
    vec![
        Cell::of(&error["id"]),
        state,
        Cell::of(text("severity")),
        Cell::of(name(error)),
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

/// The error is read whether or not it is shown: the word is about the time that it lasts now, and no later one.
async fn say(caller: &Caller, word: &Word, what: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let Word { id, change } = word;
    let open = unresolved(caller).await?;
    let error = open.iter().find(|error| error["id"] == *id);
    let error =
        error.with_context(|| format!("there is no unresolved error {id}; `baton errors` lists them"))?;
    let does = match what {
        "resolve" => "End it by your word, whoever still reports it,",
        _ => "Acknowledge it: no more messages of it until it is over,",
    };
    caller.confirm(change, &format!("{}\n{does}", sentence(error)), output).await?;
    let body = json!({ "reason": change.reason, "open_since": error["open_since"] });
    let answer = caller.post(&format!("/api/v1/errors/{id}/{what}"), &body).await?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        let past = if what == "resolve" { "is over" } else { "is noted" };
        output.line(format!("Error {id} ({}) {past}", answer["error_type"].as_str().unwrap_or_default()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The errors that are not over.
pub(super) async fn unresolved(caller: &Caller) -> anyhow::Result<Vec<Value>> {
    let mut answer = caller.get("/api/v1/errors?limit=10000").await?;
    Ok(answer["errors"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// An error in a line: which, how often since when, and what it says.
pub(super) fn sentence(error: &Value) -> String {
    let since = moment(error["open_since"].as_str().unwrap_or_default());
    let said = error["error_message"].as_str().unwrap_or_default();
    format!("Error {}, {} ×{} since {since}: {said}", error["id"], name(error), error["occurrence_count"])
}

/// The kind, with what it is of.
fn name(error: &Value) -> String {
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    [text("error_type"), text("scope")].join(" ").trim_end().to_owned()
}
