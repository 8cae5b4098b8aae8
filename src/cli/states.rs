//! `baton states`: how the instances' operational states changed, the newest first.

use std::process::ExitCode;

use serde_json::Value;

use super::call::Target;
use super::errors::moment;
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// `baton states`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton states
  baton states --member b2 --limit 100
  baton states -o json | jq '.changes[] | select(.to == \"ERROR\")'")]
pub struct Args {
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
    /// Only this member's.
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// How many changes.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only changes with a number below this one.
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
}

/// Shows them.
///
/// # Errors
/// No instance answers, or PostgreSQL is away.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    let before = args.before.map(|number| format!("&before={number}")).unwrap_or_default();
    let member = args.member.map(|name| format!("&member={name}")).unwrap_or_default();
    let path = format!("/api/v1/monitoring/states?limit={}{before}{member}", args.limit);
    let page = caller.get(&path).await?;
    if output.is_json() {
        output.json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let changes = page["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<Cell>> = changes.iter().map(change).collect();
    output.table(&["AT", "MEMBER", "FROM", "TO", "CODE", "REASON"], &rows)?;
    if let Some(next) = page["next"].as_i64() {
        output.line(format!("older ones: baton states --before {next}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn change(change: &Value) -> Vec<Cell> {
    let text = |key: &str| change[key].as_str().unwrap_or("-").to_owned();
    let to = text("to");
    let colour = match to.as_str() {
        "ACTIVE" => Colour::Green,
        "ERROR" => Colour::Red,
        _ => Colour::Yellow,
    };
    vec![
        Cell::of(moment(&text("at"))),
        Cell::of(text("member")),
        Cell::of(text("from")),
        Cell::of(to).in_colour(colour),
        Cell::of(text("code")),
        Cell::of(text("reason")),
    ]
}
