//! `baton signals dry-run`: what a sender's signal would do.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::call::Target;
use crate::cli::output::{Colour, Output};
use crate::config::Inputs;

/// Asks the leader what it would do about a signal.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit code 0 when it would act now, 1 when it would be refused or would have to wait, or on an error.
The token is signals.token of the configuration; where senders use signals.secret, it belongs into the body.

Examples:
  baton signals dry-run alert.json
  jq '.price = 140000' alert.json | baton signals dry-run -"
)]
pub struct DryRun {
    /// A file that holds the webhook's body; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
///
/// # Errors
/// The body cannot be read, is no signal, or no leader answers.
pub(super) async fn run(args: DryRun, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let DryRun { file, target } = args;
    let body = body(&file)?;
    tell(&target.sender(inputs)?.ask("/api/v1/signals/dry-run", &body).await?, output)
}

/// Prints what the leader would do.
///
/// # Errors
/// Stdout cannot be written to.
pub(super) fn tell(answer: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    let acts = ["order", "move_stops", "note"].iter().any(|word| answer["would"] == *word);
    let now = acts && answer["held_by_switch"].is_null() && listed(&answer["waits_for"]).is_empty();
    let code = if now { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.json(answer)?;
        return Ok(code);
    }
    for (text, colour) in told(answer) {
        output.line(output.paint(colour, &text))?;
    }
    Ok(code)
}

fn body(file: &PathBuf) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    if text.trim().is_empty() {
        bail!("{} is empty; it must hold the body of a webhook call", file.display());
    }
    Ok(text)
}

/// The answer in lines.
fn told(answer: &Value) -> Vec<(String, Colour)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = Vec::new();
    let head =
        format!("{} {} ({})", text(&answer["type"]), text(&answer["instrument"]), text(&answer["key"]));
    lines.push((head, Colour::Bold));
    if let Some(first) = answer["repeat_of"].as_object() {
        let line = format!("a repeat of {}, which is {}", text(&first["id"]), text(&first["status"]));
        lines.push((line, Colour::Yellow));
    }
    for order in answer["orders"].as_array().into_iter().flatten() {
        let named = |name: &str| text(&order[name]);
        let what = format!(
            "would {} {} {} on {} ({}, {})",
            named("side"),
            named("quantity"),
            named("symbol"),
            named("exchange"),
            named("price_type"),
            named("product")
        );
        lines.push((what, Colour::Green));
    }
    for stop in answer["stops"].as_array().into_iter().flatten() {
        let line = format!(
            "would move the stop of {} from {} to {}",
            text(&stop["label"]),
            text(&stop["from"]),
            text(&stop["to"])
        );
        lines.push((line, Colour::Green));
    }
    let reasons = |list: &Value, before: &str, colour| -> Vec<(String, Colour)> {
        let told = listed(list).into_iter();
        told.map(|reason| {
            (format!("{before} {}: {}", text(&reason["code"]), text(&reason["sentence"])), colour)
        })
        .collect()
    };
    lines.extend(reasons(&answer["reasons"], "refused,", Colour::Red));
    lines.extend(reasons(&Value::from_iter(answer.get("reason").cloned()), "noted,", Colour::Green));
    lines.extend(reasons(&answer["waits_for"], "would wait,", Colour::Yellow));
    if let Some(switch) = answer["held_by_switch"].as_str() {
        lines.push((format!("held back by a switch: {switch}"), Colour::Yellow));
    }
    if let Some(decision) = answer["decision"].as_object() {
        for (name, value) in decision.iter().filter(|(_, value)| !value.is_null()) {
            lines.push((format!("  {name}: {}", text(value)), Colour::Dim));
        }
    }
    lines
}

fn listed(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}
