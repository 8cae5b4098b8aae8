//! `baton runbook`: what to do about an alert or a code, from the program itself.

use std::process::ExitCode;

use serde_json::json;

use super::output::Output;
use crate::runbook;

/// What is looked up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton runbook NoLeader
  baton runbook DATA_CORRUPT
  baton runbook | less")]
pub struct Args {
    /// An alert, a code or a section; all sections are listed without one.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// Prints a section, or the list of them.
///
/// # Errors
/// There is no such section, or stdout cannot be written to.
pub fn run(args: &Args, output: &Output) -> anyhow::Result<ExitCode> {
    let Some(name) = &args.name else {
        return list(output);
    };
    let Some(section) = runbook::section(name) else {
        anyhow::bail!("the runbook has no section {name}; `baton runbook` lists them");
    };
    if output.is_json() {
        output.json(&described(&section))?;
    } else {
        output.line(section.text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(&runbook::sections().map(|section| described(&section)).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for section in runbook::sections() {
        let alerts: Vec<&str> = section.alerts().collect();
        output.line(format!("{:<28}{}", section.name, alerts.join(", ")).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn described(section: &runbook::Section) -> serde_json::Value {
    json!({ "name": section.name, "alerts": section.alerts().collect::<Vec<_>>(), "text": section.text })
}
