//! `baton restore`: a backup becomes the ledger again, and the cluster starts on it reduce-only.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use super::output::{Colour, Output};
use super::{ask, backup as shown};
use crate::backup::Script;
use crate::config::{self, Config, Inputs};
use crate::emergency::mark::Marks;
use crate::ledger::Ledger;
use crate::ledger::contents::Contents;
use crate::ledger::repair::Operator;
use crate::ledger::restore::{RestoreError, Restored, Restoring};
use crate::recovery::{Finding, Recovered};

/// How long Redis may take.
const REDIS: Duration = Duration::from_secs(1);

/// How `baton restore` runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every instance must be stopped. All of it is one transaction: the backup is loaded, verified (schema, audit chain, the
recovery's own validation) and made fit to lead by, or nothing is changed. Made fit means: a new epoch above all that are
known, reduce-only until you clear it, signals and messages that waited are ended. RUNBOOK.md#backup-and-restore says
what to compare with the broker before you do.

Exit codes: 0 restored (or, with --dry-run, it could be); 1 not.

Examples:
  baton restore baton.dump --reason 'disk lost'
  baton restore baton.dump --reason 'drill' --dry-run
  baton restore baton.dump --reason 'wrong migration' --replace --yes"
)]
pub struct Args {
    /// What `baton backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Why; kept with the switch and in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who you are; the user's name when left out.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Put the ledger that is there aside, into a schema of its own, instead of refusing.
    #[arg(long)]
    replace: bool,
    /// Do everything but the commit.
    #[arg(long)]
    dry_run: bool,
    /// Redis is lost: which epochs were minted since the backup is not known, so many are skipped.
    #[arg(long)]
    without_redis: bool,
    /// Restore it though it does not add up: the next leader is a custodian then.
    #[arg(long)]
    damaged: bool,
    /// Do it without asking for the cluster's name.
    #[arg(long)]
    yes: bool,
}

/// Restores and tells what was done.
///
/// # Errors
/// Nothing was changed.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    let name = ask::operator(args.operator.as_deref(), inputs)?;
    let epoch_in_redis = if args.without_redis { None } else { nobody_in_redis(&config).await? };
    let (script, ended) = Script::of(&args.file)?.parts();
    if !args.dry_run {
        let what = format!("Restore {} as the ledger", args.file.display());
        ask::configured(&what, &config, args.yes, output)?;
    }
    let (session, tls) = (config.postgres.session.clone(), config.postgres.tls.clone());
    let ledger = Ledger::open(session, tls, 1, "baton/restore")?;
    let how = Restoring {
        operator: Operator { name: &name, reason: &args.reason },
        replace: args.replace,
        epoch_in_redis,
        dry_run: args.dry_run,
    };
    let mut findings = Vec::new();
    let restored = ledger
        .restore(
            how,
            script,
            async || ended().await.map_err(|error| RestoreError::Broken(error.to_string())),
            |contents, state| {
                findings = Recovered::judged(state, config.trading.capital, &config.instruments);
                worth_keeping(&config, contents, &findings, args.damaged)
            },
        )
        .await?;
    told(&args, &restored, &findings, output)?;
    Ok(ExitCode::SUCCESS)
}

/// What Redis says of instances, and the highest epoch that it remembers.
async fn nobody_in_redis(config: &Config) -> anyhow::Result<Option<i64>> {
    let unknown = || {
        "Redis must say whether an instance lives and which epochs were minted; if it is lost, stop every instance and say \
         --without-redis"
    };
    let marks =
        Marks::new(&config.redis.access(), &config.cluster.name, REDIS).context("Redis cannot be used")?;
    let there = marks.registered().await.with_context(unknown)?;
    if !there.is_empty() {
        let names: Vec<String> =
            there.iter().map(|instance| format!("{} at {}", instance.member, instance.address)).collect();
        bail!(
            "instances show in Redis ({}): stop them first; one that died goes within seconds",
            names.join(", ")
        );
    }
    if let Some(lease) = marks.lease().await.with_context(unknown)? {
        bail!(
            "somebody holds the leader's lease ({lease}): stop every instance first; it ends within seconds"
        );
    }
    marks.epoch().await.with_context(unknown)
}

fn worth_keeping(
    config: &Config,
    contents: &Contents,
    findings: &[Finding],
    damaged: bool,
) -> Result<(), RestoreError> {
    let name = &config.cluster.name;
    let mut wrong: Vec<String> =
        findings.iter().filter(|f| f.is_critical()).map(ToString::to_string).collect();
    wrong.extend(contents.audit.faults.iter().map(|fault| format!("the audit chain is broken: {fault}")));
    match &contents.cluster {
        // Whatever the operator says: no other cluster's orders are this one's.
        Some(other) if other != name => {
            Err(RestoreError::NotWhole(vec![format!("it is the ledger of cluster {other}, not of {name}")]))
        }
        _ if wrong.is_empty() || damaged => Ok(()),
        _ => Err(RestoreError::NotWhole(wrong)),
    }
}

fn told(args: &Args, restored: &Restored, findings: &[Finding], output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&json!({
            "applied": !args.dry_run, "restored": restored, "findings": findings, "reduce_only": true,
        }))?;
        return Ok(());
    }
    let Restored { contents, epoch, kept_as, ended_signals, dropped_messages } = restored;
    output.line(match args.dry_run {
        true => output.paint(Colour::Yellow, "it can be restored (nothing was changed)"),
        false => output.paint(Colour::Green, "restored and verified"),
    })?;
    shown::told(contents, findings, output)?;
    output.line(format!("  epoch {epoch} is held by nobody; reduce-only is on until you clear it"))?;
    if let Some(schema) = kept_as {
        output.line(format!("  the ledger that was there is kept as schema {schema}"))?;
    }
    if *dropped_messages > 0 {
        output.line(format!("  {dropped_messages} messages that waited are not sent"))?;
    }
    for signal in ended_signals {
        let ended = output.paint(Colour::Yellow, "ended, as it may have acted since:");
        output.line(format!("  {ended} {} {} {}", signal.kind, signal.instrument, signal.key))?;
    }
    let next =
        "start one instance, compare with the broker (`baton positions diff`), then `baton reduce-only off`";
    output.line(format!("  next: {next}: RUNBOOK.md#backup-and-restore"))?;
    Ok(())
}
