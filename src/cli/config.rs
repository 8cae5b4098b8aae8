//! `baton config check` and `baton config show`.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::output::{Colour, Output};
use crate::config::{self, Config, Entry, Error, Fault, Inputs, Mode, Source};

/// What to do with the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Verb {
    /// Check the configuration and list every fault; exit code 0 when it is sound, else 1.
    #[command(after_help = "Examples:
  baton config check
  baton --config /etc/baton/baton.toml config check
  baton config check -o json | jq '.faults[].key'")]
    Check,
    /// Show every setting in force and who set it; secrets show as ***.
    #[command(after_help = "Examples:
  baton config show
  baton config show --defaults
  baton config show -o json | jq '.[] | select(.source != \"default\")'")]
    Show {
        /// Every setting's default and range instead, whatever is set.
        #[arg(long)]
        defaults: bool,
    },
}

/// The answer of `config check` in JSON.
#[derive(Serialize)]
struct Check {
    ok: bool,
    faults: Vec<Fault>,
    /// What is sound and has a danger nevertheless.
    warnings: Vec<String>,
    /// Why nothing could be judged, when the file cannot be read.
    error: Option<String>,
}

/// Runs a verb of `baton config`.
///
/// # Errors
/// `show` of a configuration with faults; stdout cannot be written to.
pub fn run(verb: &Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Check => check(inputs, output),
        Verb::Show { defaults: true } => show(&config::defaults(inputs), true, output),
        Verb::Show { defaults: false } => show(&config::load(inputs)?.entries, false, output),
    }
}

fn check(inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let outcome = config::load(inputs);
    if output.is_json() {
        let ok = outcome.is_ok();
        let warnings = outcome.as_ref().map(Config::warnings).unwrap_or_default();
        let (faults, error) = match outcome {
            Ok(_) => (Vec::new(), None),
            Err(Error::Faults(faults)) => (faults.0, None),
            Err(error) => (Vec::new(), Some(format!("{:#}", anyhow::Error::from(error)))),
        };
        output.json(&Check { ok, faults, warnings, error })?;
        return Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let config = outcome?;
    let set = config.entries.iter().filter(|entry| entry.source != Source::Default).count();
    let orders = match config.broker.mode {
        Mode::Paper => "orders are simulated (mode paper)",
        Mode::Live => "ORDERS ARE REAL (mode live)",
    };
    output.line(format!(
        "{}: member {} of cluster {}, {set} of {} settings set, {orders}",
        output.paint(Colour::Green, "The configuration is sound"),
        config.cluster.member,
        config.cluster.name,
        config.entries.len(),
    ))?;
    for warning in config.warnings() {
        output.line(format!("{}: {warning}", output.paint(Colour::Yellow, "warning")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(entries: &[Entry], ranges: bool, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut section = "";
    let width = entries.iter().map(|entry| line(entry).chars().count()).max().unwrap_or(0).min(60);
    for entry in entries {
        let (this, _) = entry.key.rsplit_once('.').unwrap_or_default();
        if this != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            output.line(format!("{gap}{}", output.paint(Colour::Bold, format!("[{this}]"))))?;
            section = this;
        }
        let line = line(entry);
        let padding = " ".repeat(width.saturating_sub(line.chars().count()));
        let allowed = entry.allowed.as_ref().filter(|_| ranges);
        let allowed = allowed.map(|range| format!(", {range}")).unwrap_or_default();
        let source = output.paint(Colour::Dim, format!("# {}{allowed}", entry.source));
        output.line(format!("{line}{padding}  {source}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One setting as TOML would write it; an optional one that nobody set as a comment.
fn line(entry: &Entry) -> String {
    let (_, name) = entry.key.rsplit_once('.').unwrap_or(("", &entry.key));
    match (&entry.value, &entry.source) {
        (serde_json::Value::Null, Source::Default) => format!("# {name} is not set"),
        (serde_json::Value::Null, _) => format!("{name} = \"none\""),
        (value, _) => format!("{name} = {value}"),
    }
}
