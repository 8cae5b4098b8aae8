//! `baton backup`: one moment of the ledger as a file.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::output::{Colour, Output};
use crate::backup::{self, BackupError};
use crate::config::{self, Inputs};
use crate::ledger::Ledger;
use crate::ledger::contents::Contents;
use crate::recovery::{Finding, Recovered};

/// How `baton backup` runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The cluster goes on trading meanwhile. The file is in pg_dump's custom format, complete or not there at all, and for
this user alone: it holds every order and position. Keep it away from the database's machine, and the printed audit
head with it. `baton restore FILE --dry-run` on an empty database proves that it can be restored.

Exit codes: 0 copied, and whole; 1 not copied, or a copy of a ledger that is damaged.

Examples:
  baton backup /backups/baton-$(date +%F).dump
  baton backup baton.dump -o json | jq -r .contents.audit.head"
)]
pub struct Args {
    /// Where the copy goes; nothing is overwritten.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Copies, judges what was copied, and tells.
///
/// # Errors
/// There is no copy.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    let (session, tls) = (config.postgres.session.clone(), config.postgres.tls.clone());
    let ledger = Ledger::open(session, tls, 1, "baton/backup")?;
    ledger.check_schema().await?;
    let mut bytes = 0;
    let (contents, state) = ledger
        .held_still(async |snapshot: &str| {
            bytes = backup::dump(&config.postgres, snapshot, &args.file).await?;
            Ok::<_, BackupError>(())
        })
        .await?;
    let findings = Recovered::judged(state, config.trading.capital, &config.instruments);
    let whole = contents.audit.ok && !findings.iter().any(Finding::is_critical);
    let file = args.file.display();
    if output.is_json() {
        output.json(&json!({
            "file": args.file, "bytes": bytes, "whole": whole, "contents": contents, "findings": findings,
        }))?;
    } else {
        output.line(format!("{} {file}, {bytes} bytes", output.paint(Colour::Green, "copied to")))?;
        told(&contents, &findings, output)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a copy holds, and what does not add up in it.
pub(super) fn told(contents: &Contents, findings: &[Finding], output: &Output) -> anyhow::Result<()> {
    let cluster = contents.cluster.as_deref().unwrap_or("no cluster yet");
    let newest = contents.newest.map_or_else(|| "none".to_owned(), |at| at.format("%F %T UTC").to_string());
    output.line(format!(
        "  {cluster}, schema {}, epoch {}: {} open positions, {} open orders, {} signals that wait",
        contents.schema,
        contents.epoch,
        contents.open_positions,
        contents.open_orders,
        contents.waiting_signals
    ))?;
    output.line(format!(
        "  audit chain: {} rows, the newest of {newest}, head {}",
        contents.audit.rows, contents.audit.head
    ))?;
    let broken = contents.audit.faults.iter().map(|fault| format!("the audit chain is broken: {fault}"));
    for fault in broken.chain(findings.iter().map(ToString::to_string)) {
        output.line(format!("  {} {fault}", output.paint(Colour::Red, "damaged:")))?;
    }
    Ok(())
}
