//! `baton recover`: is stored state whole, and what would mend it.
//!
//! Opens the database itself: it is for the hour in which no instance may be up, and the right to the database is the
//! right to repair it.

mod check;
mod repair;

use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use rust_decimal::Decimal;

use super::output::Output;
use crate::config::{self, Config, Inputs};
use crate::domain::money::Price;
use crate::ledger::{Ledger, LedgerError};
use crate::recovery::CrashRecoveryManager;
use crate::telemetry::metrics::Metrics;

/// How `baton recover` runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 stored state is whole, 1 it is not, or could not be read.

Examples:
  baton recover --check
  baton recover --check -o json | jq '.findings[]'
  baton recover --repair
  baton recover --repair --apply --reason \"closed by hand during the outage\"
  baton recover --repair --apply --reason \"closed by hand during the outage\" --yes")]
pub struct Args {
    /// Check stored state, all of its history included, and list everything that does not add up.
    #[arg(long, required_unless_present = "repair", conflicts_with = "repair")]
    pub check: bool,
    /// Propose what would mend it, from orders, fills, audit log and the broker's verified book; writes nothing without --apply.
    #[arg(long)]
    pub repair: bool,
    /// Set what is proposed, proven and in one transaction.
    #[arg(long, requires_all = ["repair", "reason"])]
    pub apply: bool,
    /// Why; kept in the audit log.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who you are; the user's name when left out.
    #[arg(long, value_name = "NAME")]
    pub operator: Option<String>,
    /// The price that a symbol was sold at by hand, where the trade book does not say; may be repeated.
    #[arg(long, value_name = "SYMBOL=PRICE")]
    pub price: Vec<Given>,
    /// Do it without asking for the cluster's name.
    #[arg(long, requires = "apply")]
    pub yes: bool,
}

/// A price that the operator knows.
#[derive(Clone, Debug)]
pub struct Given {
    symbol: String,
    price: Price,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (symbol, price) = text.split_once('=').ok_or("expected SYMBOL=PRICE")?;
        let price: Decimal = price.parse().map_err(|_| format!("{price:?} is no price"))?;
        if price <= Decimal::ZERO || symbol.is_empty() {
            return Err("expected SYMBOL=PRICE with a price above zero".to_owned());
        }
        Ok(Self { symbol: symbol.to_owned(), price: Price(price) })
    }
}

/// Checks, or proposes a repair.
///
/// # Errors
/// The configuration has faults, the schema is another version's, or stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    if args.repair {
        repair::run(&args, &config, inputs, output).await
    } else {
        check::run(&config, output).await
    }
}

fn ledger(config: &Config) -> anyhow::Result<Ledger> {
    let postgres = &config.postgres;
    Ok(Ledger::open(postgres.session.clone(), postgres.tls.clone(), 2, "baton/recover")?)
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

/// An error of the ledger, with what it means and the section of RUNBOOK.md that helps: a database that is away is not a damaged one.
pub(super) fn unread(error: LedgerError, what: &str) -> anyhow::Error {
    let section = match &error {
        error if error.is_corruption() => "data_corrupt",
        error if error.is_refused_login() => "db_auth",
        _ => "db_unavailable",
    };
    anyhow::Error::new(error).context(format!("{what}: RUNBOOK.md#{section}"))
}

/// A schema of another version would make every sentence about its rows a guess.
async fn same_schema(ledger: &Ledger) -> anyhow::Result<()> {
    match ledger.check_schema().await {
        Err(error) if !error.is_transient() => Err(error).context("stored state cannot be judged"),
        // The check says it better, with its attempts.
        _ => Ok(()),
    }
}
