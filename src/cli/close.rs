//! `baton close` and `baton flatten`: an operator's exits, which no switch holds back.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::call::{Change, Target};
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// Closes the positions of a symbol or an instrument, or one position.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0 when everything named is closed, 1 when it is not yet, or on an error. Asking again makes no second exit.

Examples:
  baton close GOLDM05DEC25FUT --reason 'news' --yes
  baton close GOLD_MINI --reason 'news'"
)]
pub struct Close {
    /// A tradable symbol, an instrument's name, or a position's id.
    #[arg(value_name = "SYMBOL")]
    name: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

/// Closes every position.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals that come afterwards open positions again: `baton halt` first if they should not.

Examples:
  baton flatten --reason 'end of the experiment'"
)]
pub struct Flatten {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

impl Close {
    /// Closes and tells what became of it.
    ///
    /// # Errors
    /// Not confirmed, nothing of that name is held, or no leader took it.
    pub async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let caller = self.target.caller(inputs)?;
        caller.confirm(&self.change, &format!("Close {}", self.name), output).await?;
        let field = if self.name.parse::<uuid::Uuid>().is_ok() { "position" } else { "symbol" };
        let body = json!({ field: self.name, "reason": self.change.reason });
        told(&caller.post("/api/v1/positions/close", &body).await?, output)
    }
}

impl Flatten {
    /// Closes everything and tells what became of it.
    ///
    /// # Errors
    /// Not confirmed, or no leader took it.
    pub async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let caller = self.target.caller(inputs)?;
        caller.confirm(&self.change, "Close every position", output).await?;
        let body = json!({ "reason": self.change.reason });
        told(&caller.post("/api/v1/positions/flatten", &body).await?, output)
    }
}

fn told(answer: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    let entries = answer["entries_closed_when_filled"].as_i64().unwrap_or(0);
    let done = ["filled", "flat"].contains(&answer["status"].as_str().unwrap_or_default()) && entries == 0;
    let code = if done { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.json(answer)?;
        return Ok(code);
    }
    let positions = answer["positions"].as_array().cloned().unwrap_or_default();
    if positions.is_empty() {
        output.line("Nothing is held.")?;
    }
    let rows = positions.iter().map(|position| {
        let text = |name: &str| match &position[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let colour = match position["outcome"].as_str() {
            Some("filled") => Colour::Green,
            Some("refused" | "in_doubt") => Colour::Red,
            _ => Colour::Yellow,
        };
        vec![
            Cell::of(text("symbol")),
            Cell::of(text("label")),
            Cell::of(text("outcome")).in_colour(colour),
            Cell::of(text("sold")),
            Cell::of(text("held")),
            Cell::of(text("average_price")),
            Cell::of(text("reason")),
        ]
    });
    let heading = ["SYMBOL", "LABEL", "OUTCOME", "SOLD", "HELD", "PRICE", "WHY"];
    if !positions.is_empty() {
        output.table(&heading, &rows.collect::<Vec<_>>())?;
    }
    for left in answer["not_sold"].as_array().into_iter().flatten() {
        let text = |name: &str| left[name].as_str().unwrap_or_default().to_owned();
        output.line(format!(
            "{}: the broker holds {}, this sells {}: {}",
            text("contract"),
            left["held"],
            left["sold_by_this"],
            text("why")
        ))?;
    }
    if entries > 0 {
        output.line(format!("{entries} entries are on their way; what they fill is closed at once."))?;
    }
    Ok(code)
}
