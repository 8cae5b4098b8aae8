//! `baton migrate`: brings the database's schema to this binary's version.

use std::process::ExitCode;

use super::output::Output;
use crate::config::{self, Inputs};
use crate::ledger::Ledger;

/// How `baton migrate` runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Instances migrate by themselves when they start; this is for doing it beforehand. Several may
run at once.

Examples:
  baton migrate
  DATABASE_URL=postgres://baton@db/baton baton migrate -o json"
)]
pub struct Args {}

/// Migrates and says what was applied.
///
/// # Errors
/// The configuration has faults, the database is not reached, or a migration fails.
pub async fn run(_args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    let postgres = config.postgres;
    let migrated = Ledger::open(postgres.session, postgres.tls, 1, "baton/migrate")?.migrate().await?;
    if output.is_json() {
        output.json(&migrated)?;
    } else if migrated.applied.is_empty() {
        output.line(format!("the schema is at version {} already", migrated.version))?;
    } else {
        output.line(format!(
            "applied {}; the schema is at version {}",
            migrated.applied.join(", "),
            migrated.version
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
