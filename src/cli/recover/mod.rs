//! `baton recover`: is stored state whole, and what would mend it.
//!
//! Opens the database itself: it is for the hour in which no instance may be up, and the right to the database is the
//! right to repair it.

mod check;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;

use super::output::Output;
use crate::config::{self, Config, Inputs};
use crate::ledger::Ledger;
use crate::recovery::CrashRecoveryManager;
use crate::telemetry::metrics::Metrics;

/// How `baton recover` runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 stored state is whole, 1 it is not, or could not be read.

Examples:
  baton recover --check
  baton recover --check -o json | jq '.findings[]'")]
pub struct Args {
    /// Check stored state, all of its history included, and list everything that does not add up.
    #[arg(long, required = true)]
    pub check: bool,
}

/// Checks, or proposes a repair.
///
/// # Errors
/// The configuration has faults, the schema is another version's, or stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    let Args { check: true } = args else { unreachable!("clap demands one of them") };
    check::run(&config, output).await
}

fn ledger(config: &Config) -> anyhow::Result<Ledger> {
    Ok(Ledger::new(config.postgres.url.expose_secret(), 2, "baton/recover")?)
}

fn manager(config: &Config, ledger: Ledger) -> CrashRecoveryManager {
    CrashRecoveryManager::new(
        ledger,
        Arc::new(config.instruments.clone()),
        config.trading.capital,
        config.recovery.attempts,
        config.recovery.backoff,
        Arc::new(Metrics::new()),
    )
}

/// A schema of another version would make every sentence about its rows a guess.
async fn same_schema(ledger: &Ledger) -> anyhow::Result<()> {
    match ledger.check_schema().await {
        Err(error) if !error.is_transient() => Err(error).context("stored state cannot be judged"),
        // The check says it better, with its attempts.
        _ => Ok(()),
    }
}
