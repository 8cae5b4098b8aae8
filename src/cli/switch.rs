//! `baton halt`, `unhalt`, `reduce-only`, `pause`, `resume` and `switches`: what the operator forbids.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::call::{Change, Target};
use super::output::{Cell, Colour, Output};
use super::release::Shown;
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
  baton halt --instrument GOLD_MINI --until today --reason 'odd prices'
  baton halt --all --until 30m --reason 'broker maintenance'"
)]
pub struct Halt {
    /// Protective stops, too.
    #[arg(long, conflicts_with = "instrument")]
    all: bool,
    /// Of this instrument only.
    #[arg(long, value_name = "NAME")]
    instrument: Option<String>,
    #[command(flatten)]
    on: On,
}

/// Ends the cluster's halt, that of everything too, or that of one instrument.
#[derive(Debug, clap::Args)]
#[command(after_help = "Without --instrument the halts of instruments stay; the answer names them.")]
pub struct Unhalt {
    /// Of this instrument only; a halt of the cluster stays.
    #[arg(long, value_name = "NAME")]
    instrument: Option<String>,
    #[command(flatten)]
    off: Off,
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
    /// Of this instrument only.
    #[arg(long, value_name = "NAME")]
    instrument: Option<String>,
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
        let wanted = Wanted { switch, on: true, instrument: self.instrument, until: self.on.until };
        set(wanted, &self.on.change, self.on.target, what, inputs, output).await
    }
}

impl On {
    /// Pauses automatic failover.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn pause(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let wanted = Wanted { switch: "paused", on: true, instrument: None, until: self.until };
        set(wanted, &self.change, self.target, "Pause automatic failover", inputs, output).await
    }
}

impl Unhalt {
    /// Ends the cluster's halt, or that of one instrument; says which stay.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let Off { change, target } = self.off;
        let what = match self.instrument {
            Some(_) => "End the halt",
            None => "End the cluster's halt (those of instruments stay)",
        };
        let wanted = Wanted { switch: "halted", on: false, instrument: self.instrument, until: None };
        set(wanted, &change, target, what, inputs, output).await
    }
}

impl Off {
    /// Resumes automatic failover.
    ///
    /// # Errors
    /// Not confirmed, or no instance took it.
    pub async fn resume(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let wanted = Wanted { switch: "paused", on: false, instrument: None, until: None };
        set(wanted, &self.change, self.target, "Resume automatic failover", inputs, output).await
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
        let wanted = Wanted { switch: "reduce_only", on, instrument: self.instrument, until };
        set(wanted, &change, target, what, inputs, output).await
    }
}

/// A switch as it is to be.
struct Wanted {
    switch: &'static str,
    on: bool,
    instrument: Option<String>,
    until: Option<String>,
}

async fn set(
    wanted: Wanted,
    change: &Change,
    target: Target,
    what: &str,
    inputs: &Inputs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let caller = target.caller(inputs)?;
    let Wanted { switch, on, instrument, until } = wanted;
    let what = match &instrument {
        Some(instrument) => format!("{what} of {instrument} alone"),
        None => what.to_owned(),
    };
    let mut body = json!({ "switch": switch, "on": on, "reason": change.reason, "until": until });
    let what = if on {
        what
    } else {
        let reading = caller.get("/api/v1/switches").await?;
        let shown = Shown::of(&reading, "switches", |row| ends((switch, instrument.as_deref()), row));
        shown.carried_by(&mut body);
        format!("{}\n{what}", shown.sentence(|row| row["on"] == true, name))
    };
    caller.confirm(change, &what, output).await?;
    let path = instrument.map_or(String::new(), |instrument| format!("/{instrument}"));
    let switches = caller.post(&format!("/api/v1/switches{path}"), &body).await?;
    let code = show(&switches, output)?;
    if let Some(sentence) = still_halted(&switches).filter(|_| (switch, on) == ("halted", false)) {
        eprintln!("{sentence}");
    }
    Ok(code)
}

/// Whether the release of a switch ends this one: a halt of everything ends with the halt.
fn ends((switch, instrument): (&str, Option<&str>), row: &Value) -> bool {
    let named = row["switch"] == switch
        || (switch, instrument, &row["switch"]) == ("halted", None, &json!("halt_all"));
    named && row["instrument"].as_str() == instrument
}

fn name(switch: &Value) -> String {
    let name = switch["switch"].as_str().unwrap_or("-");
    match switch["instrument"].as_str() {
        Some(instrument) => format!("{name} of {instrument}"),
        None => name.to_owned(),
    }
}

/// Which halts are on, of those that the end of another leaves.
fn still_halted(switches: &Value) -> Option<String> {
    let on = switches["switches"].as_array().into_iter().flatten().filter(|switch| switch["on"] == true);
    let halts = on.filter(|switch| switch["switch"] == "halted");
    let of = halts.map(|switch| switch["instrument"].as_str().unwrap_or("the cluster"));
    let of = of.collect::<Vec<_>>().join(", ");
    (!of.is_empty()).then(|| format!("still halted: {of}"))
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
            Cell::of(name(switch)),
            state,
            Cell::of(text("until")),
            Cell::of(text("who")),
            Cell::of(text("why")),
        ]
    });
    output.table(&["SWITCH", "STATE", "UNTIL", "SET BY", "WHY"], &rows.collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_end_of_a_halt_leaves_halted_is_named() {
        let on =
            |instrument: Value, switch, on| json!({ "instrument": instrument, "switch": switch, "on": on });
        let said = |switches: &[Value]| still_halted(&json!({ "switches": switches }));
        assert_eq!(said(&[on(Value::Null, "halted", false), on("COPPER".into(), "reduce_only", true)]), None);
        let gold = on("GOLD_MINI".into(), "halted", true);
        assert_eq!(
            said(&[on(Value::Null, "halted", false), gold.clone()]).unwrap(),
            "still halted: GOLD_MINI"
        );
        let both = said(&[on(Value::Null, "halted", true), gold]).unwrap();
        assert_eq!(both, "still halted: the cluster, GOLD_MINI");
    }
}
