//! `baton strategies list|enable|disable`: what may enter, and what it did.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Change, Target};
use super::output::{Cell, Colour, Output};
use super::release::Shown;
use crate::config::Inputs;

/// What to do with strategies.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the strategies: kind, state, signals of the day, positions, last signal.
    List(List),
    /// Let a strategy enter.
    Enable(Say),
    /// Have a strategy enter nothing more; its exits act, and its stops stay watched.
    #[command(after_help = "Examples:
  baton strategies disable default --reason 'the charts are wrong' --yes
  baton strategies list")]
    Disable(Say),
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    target: Target,
}

/// Which strategy.
#[derive(Debug, clap::Args)]
pub struct Say {
    /// Its name, as `baton strategies list` shows it.
    name: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
///
/// # Errors
/// Not confirmed, or no instance answers.
pub async fn run(verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List(List { target }) => show(&target.caller(inputs)?.get("/api/v1/strategies").await?, output),
        Verb::Enable(say) => say.run(true, inputs, output).await,
        Verb::Disable(say) => say.run(false, inputs, output).await,
    }
}

impl Say {
    async fn run(self, enabled: bool, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let Self { name, change, target } = self;
        let caller = target.caller(inputs)?;
        let path = format!("/api/v1/strategies/{name}");
        let mut body = json!({ "enabled": enabled, "reason": change.reason });
        let what = if enabled {
            let reading = caller.get("/api/v1/strategies").await?;
            let shown = Shown::of(&reading, "strategies", |row| row["name"] == name.as_str());
            shown.carried_by(&mut body);
            let stopped = shown.sentence(|row| row["enabled"] == false, |_| format!("{name} is disabled"));
            format!("{stopped}\nLet strategy {name} enter")
        } else {
            format!("Stop the entries of strategy {name}")
        };
        caller.confirm(&change, &what, output).await?;
        show(&caller.post(&path, &body).await?, output)
    }
}

fn show(strategies: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(strategies)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = strategies["strategies"].as_array().into_iter().flatten().map(|strategy| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let state = match strategy["enabled"].as_bool() {
            Some(true) => Cell::of("enabled"),
            _ => Cell::of("disabled").in_colour(Colour::Yellow),
        };
        let last = &strategy["last_signal"];
        let last = match last["type"].as_str() {
            Some(kind) => format!("{kind} {} ({})", text(&last["instrument"]), text(&last["status"])),
            None => "-".to_owned(),
        };
        vec![
            Cell::of(text(&strategy["name"])),
            Cell::of(text(&strategy["kind"])),
            state,
            Cell::of(strategy["signals_today"].to_string()),
            Cell::of(strategy["open_positions"].to_string()),
            Cell::of(last),
            Cell::of(text(&strategy["who"])),
            Cell::of(text(&strategy["why"])),
        ]
    });
    let heads = ["STRATEGY", "KIND", "STATE", "TODAY", "OPEN", "LAST SIGNAL", "SET BY", "WHY"];
    output.table(&heads, &rows.collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}
