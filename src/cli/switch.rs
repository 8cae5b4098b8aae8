//! `baton halt`, `unhalt`, `reduce-only`, `pause`, `resume` and `switches`: what the operator forbids.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::call::{Change, Target};
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// Lists the switches.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    target: Target,
}

/// Switches something on, for a time or until it is switched off.
#[derive(Debug, clap::Args)]
pub struct On {
    /// When it ends by itself: a time (RFC 3339), a duration such as 30m or 2h, or today (midnight in India).
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

/// Stops entries and the exits of signals.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Protective stops go on under a halt; with --all they do not. `baton close` and `baton flatten` always work.
An EXIT that arrives meanwhile waits, and acts when the halt ends.

Examples:
  baton halt --reason 'exchange problem' --yes
  baton halt --all --until 30m --reason 'broker maintenance'"
)]
pub struct Halt {
    /// Protective stops, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    on: On,
}

/// Switches something off.
#[derive(Debug, clap::Args)]
pub struct Off {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

/// On or off.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Toggle {
    /// No entries from now on.
    On,
    /// Entries again.
    Off,
}

/// Stops entries only.
#[derive(Debug, clap::Args)]
pub struct ReduceOnly {
    /// On or off.
    toggle: Toggle,
    #[command(flatten)]
    on: On,
}

impl Show {
    /// Prints the switches.
    ///
    /// # Errors
    /// No instance answers.
    pub async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let switches = self.target.caller(inputs)?.get("/api/v1/switches").await?;
        show(&switches, output)
    }
}

impl Halt {
    /// Halts.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let (switch, what) = match self.all {
            true => ("halt_all", "Halt all trading, protective stops included,"),
            false => ("halted", "Halt entries and the exits of signals"),
        };
        self.on.set(switch, what, inputs, output).await
    }
}

impl On {
    /// Pauses automatic failover.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn pause(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        self.set("paused", "Pause automatic failover", inputs, output).await
    }

    async fn set(
        self,
        switch: &str,
        what: &str,
        inputs: &Inputs,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        set((switch, true), self.until, &self.change, self.target, what, inputs, output).await
    }
}

impl Off {
    /// Ends every halt.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn unhalt(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        set(("halted", false), None, &self.change, self.target, "End the halt", inputs, output).await
    }

    /// Resumes automatic failover.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn resume(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let what = "Resume automatic failover";
        set(("paused", false), None, &self.change, self.target, what, inputs, output).await
    }
}

impl ReduceOnly {
    /// Stops entries, or lets them through again.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let (on, what) = match self.toggle {
            Toggle::On => (true, "Stop entries"),
            Toggle::Off => (false, "Let entries through again"),
        };
        let On { until, change, target } = self.on;
        set(("reduce_only", on), until, &change, target, what, inputs, output).await
    }
}

async fn set(
    (switch, on): (&str, bool),
    until: Option<String>,
    change: &Change,
    target: Target,
    what: &str,
    inputs: &Inputs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let caller = target.caller(inputs)?;
    caller.confirm(change, what, output).await?;
    let body = json!({ "switch": switch, "on": on, "reason": change.reason, "until": until });
    let switches = caller.post("/api/v1/switches", &body).await?;
    show(&switches, output)
}

fn show(switches: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(switches)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = switches["switches"].as_array().into_iter().flatten().map(|switch| {
        let text = |name: &str| switch[name].as_str().unwrap_or("-").to_owned();
        let state = match switch["on"].as_bool() {
            Some(true) => Cell::of("on").in_colour(Colour::Yellow),
            _ => Cell::of("off"),
        };
        vec![
            Cell::of(text("switch")),
            state,
            Cell::of(text("until")),
            Cell::of(text("who")),
            Cell::of(text("why")),
        ]
    });
    output.table(&["SWITCH", "STATE", "UNTIL", "SET BY", "WHY"], &rows.collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}
