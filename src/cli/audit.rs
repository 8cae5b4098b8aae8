//! `baton audit`: is the record of what was decided as it was written.

use std::process::ExitCode;

use clap::Subcommand;

use super::output::{Colour, Output};
use crate::config::{self, Inputs};
use crate::ledger::Ledger;

/// What to do with the audit log.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Walk the whole chain; exit code 1 when a row was changed, taken out or put in.
    #[command(
        after_help = "Keep the printed head elsewhere: a chain that was written anew as a whole has another one.

Examples:
  baton audit verify
  baton audit verify -o json | jq -r .head"
    )]
    Verify,
}

/// Runs a verb of `baton audit`.
///
/// # Errors
/// The configuration has faults, the database is not reached, or stdout cannot be written to.
pub async fn run(verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let Verb::Verify = verb;
    let postgres = config::load(inputs)?.postgres;
    let ledger = Ledger::open(postgres.session, postgres.tls, 1, "baton/audit")?;
    ledger.check_schema().await?;
    let report = ledger.verify_audit().await?;
    if output.is_json() {
        output.json(&report)?;
    } else if report.ok {
        let verdict = output.paint(Colour::Green, "the audit chain is whole");
        output.line(format!("{verdict}: {} rows, head {}", report.rows, report.head))?;
    } else {
        output.line(output.paint(Colour::Red, "the audit chain is broken: RUNBOOK.md#audit-broken"))?;
        for fault in &report.faults {
            output.line(format!("  {fault}"))?;
        }
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
