//! From nothing to a recovered member of the cluster, and back to it after every involuntary loss.

use std::sync::Arc;
use std::time::Duration;

use ha::{BootClock, Clock as _, Handle, Member, Moment, Role, Stats, Status, Timing};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::away::Attempts;
use crate::causes::with_causes;
use crate::config::Config;
use crate::failpoint;
use crate::health::operational::OperationalState;
use crate::ledger::migrate::known_version;
use crate::ledger::snapshot::Depth;
use crate::ledger::{Ledger, LedgerError};
use crate::recovery::{CrashRecoveryManager, Finding, RecoveryError};
use crate::telemetry::metrics::Metrics;

/// Between two tries at a store that is away.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for an operator's word.
const STORM_RECHECK: Duration = Duration::from_secs(1);
/// Between two looks at what only an operator can mend.
const RECHECK: Duration = Duration::from_secs(5);
/// A leader's heartbeat that did not change for so long is nobody's.
const VACANT: Duration = Duration::from_secs(4);

/// Migrates, checks the account, and joins; waits for as long as the database is away.
///
/// # Errors
/// A setting that the protocol refuses.
pub(super) async fn join(
    config: &Config,
    address: &str,
    ledger: &Ledger,
    operational: &OperationalState,
    metrics: &Metrics,
    start: Uuid,
) -> anyhow::Result<Handle> {
    let mut storm = false;
    let mut attempts = Attempts::new(config.recovery);
    loop {
        let prepared = prepare(config, ledger, start, &mut storm).await;
        if !prepared.as_ref().is_err_and(is_away) {
            attempts.over();
        }
        let wait = match prepared {
            Ok(true) => break,
            Ok(false) => {
                operational.error("RESTART_STORM", storm_sentence(config));
                STORM_RECHECK
            }
            Err(error) if is_away(&error) => attempts.failed(&error, operational, metrics),
            Err(error) => explain(&error, operational, metrics),
        };
        tokio::time::sleep(wait).await;
    }
    let handle = Handle::join(membership(config, address)?, Arc::new(BootClock)).await?;
    tracing::info!(instance = %handle.instance(), "[HA] joined cluster {}", config.cluster.name);
    handle.set_status(Status::Recovering).await;
    Ok(handle)
}

/// Says whether the instance may join: not while a restart storm waits for an operator's acknowledgement.
async fn prepare(
    config: &Config,
    ledger: &Ledger,
    start: Uuid,
    storm: &mut bool,
) -> Result<bool, LedgerError> {
    if *storm {
        *storm = !ledger.start_acknowledged(start).await?;
        return Ok(!*storm);
    }
    let migrated = ledger.migrate().await?;
    if !migrated.applied.is_empty() {
        tracing::info!(applied = ?migrated.applied, version = migrated.version, "the database was migrated");
    }
    if migrated.version > known_version() {
        tracing::warn!(
            "the database is at schema version {} and this version knows {}: it may go on with it, until it is replaced",
            migrated.version,
            known_version()
        );
    }
    // Whatever else is wrong with it a recovery tells.
    if let Ok(Some(cash)) = ledger.cash().await
        && let Some(warning) = cash.opened_otherwise(config.trading.capital)
    {
        tracing::warn!("[RECOVERY] {warning}");
    }
    if let Some(account) = &config.broker.account {
        ledger.guard_account(account, &config.cluster.name).await?;
    }
    let window = config.health.restart_window.as_secs_f64();
    let starts = ledger.process_started(start, &config.cluster.member, window).await?;
    *storm = starts.unclean > i64::from(config.health.max_restarts);
    Ok(!*storm)
}

fn storm_sentence(config: &Config) -> String {
    format!(
        "{} was started more than {} times within {} s without a clean stop between: it does not trade until somebody has \
         looked why and runs `baton ack restart-storm --reason …`",
        config.cluster.member,
        config.health.max_restarts,
        config.health.restart_window.as_secs()
    )
}

/// The database was not reached, or was lost: everything else is its answer, which stays the same however often it is asked.
fn is_away(error: &LedgerError) -> bool {
    let is_answer = matches!(
        error,
        LedgerError::SchemaTooNew { .. } | LedgerError::AccountTaken { .. } | LedgerError::Migrate(_)
    );
    !is_answer && !error.is_refused_login() && !error.is_corruption()
}

/// Tells the operator what the database's answer means, and says how long to wait before looking again.
fn explain(error: &LedgerError, operational: &OperationalState, metrics: &Metrics) -> Duration {
    let cause = with_causes(error);
    match error {
        LedgerError::SchemaTooNew { .. } => {
            operational.error("SCHEMA_TOO_NEW", cause);
            RECHECK
        }
        LedgerError::AccountTaken { .. } => {
            operational.error("ACCOUNT_TAKEN", cause);
            RECHECK
        }
        error if error.is_refused_login() => {
            operational.error(
                "DB_AUTH",
                format!("{cause}: check the user and password in postgres.url (DATABASE_URL), then this instance goes on by itself"),
            );
            RECHECK
        }
        LedgerError::Migrate(_) => {
            operational.waiting(format!(
                "MIGRATION_FAILED: {cause}: see in pg_stat_activity what uses the table (a backup, a long query) and end it, or \
                 mend what PostgreSQL names; what was applied stays; trying again every second"
            ));
            RETRY
        }
        _ => {
            metrics.recovery_failures.with_label_values(&["DATA_CORRUPT"]).inc();
            operational.error(
                "DATA_CORRUPT",
                format!("DATA_CORRUPT: {cause}: stored state cannot be used; this instance goes on by itself once it is mended"),
            );
            RECHECK
        }
    }
}

fn membership(config: &Config, address: &str) -> anyhow::Result<ha::Config> {
    let timing = Timing {
        ttl: config.timing.lease_ttl,
        renew: config.timing.renew,
        margin: config.timing.margin,
        watch: config.timing.watch,
    };
    Ok(ha::Config {
        cluster: config.cluster.name.clone(),
        member: Member::new(config.cluster.member.clone())?,
        version: failpoint::version().to_owned(),
        build: build_number(failpoint::version()),
        address: address.to_owned(),
        priority: config.cluster.priority,
        timing,
        postgres: config.postgres.session.clone(),
        tls: config.postgres.tls.clone(),
        redis: config.redis.access(),
        on_hang: ha::OnHang::Abort,
    })
}

/// Orders versions: `1.2.3` is 1 002 003.
fn build_number(version: &str) -> i64 {
    version.split(['.', '-', '+']).take(3).fold(0, |sum, part| sum * 1000 + part.parse::<i64>().unwrap_or(0))
}

/// Recovers whenever the status is recovering: at the start, and after each involuntary loss of leadership; and looks
/// again every `every` while it follows. A follower that took an ERROR along from leading proves stored state at once:
/// nothing else lifts it.
///
/// What a follower finds damaged it reports: the leader looks again, and the leader's finding decides (HA.md rule 14).
/// Such a follower may lead only as custodian, so it is ready to where a leader has found the same, or where nobody
/// leads: an instance that alone cannot read what the others trade by must not end their trading.
pub(super) async fn stay_recovered(
    handle: Arc<Handle>,
    ledger: Ledger,
    recovery: CrashRecoveryManager,
    operational: OperationalState,
    every: Duration,
    drain: CancellationToken,
) {
    let (mut role, mut stats) = (handle.role(), handle.stats());
    let mut recovered = false;
    let mut damaged_since = None;
    let mut next_look = Instant::now() + every;
    while !drain.is_cancelled() {
        let status = stats.borrow_and_update().status;
        let follows = matches!(*role.borrow_and_update(), Role::Follower { .. });
        if follows && (!recovered || status == Some(Status::Recovering) || operational.is_error()) {
            recovered = false;
            match recovery.recover().await {
                Ok(_) if drain.is_cancelled() => return,
                Ok(_) => {
                    recovered = true;
                    damaged_since = None;
                    operational.mended("stored state was read back and is whole");
                    stand_as(Status::Active, &handle, &mut stats).await;
                }
                Err(error) => {
                    let wait = halt(&error, &operational);
                    if !error.findings().is_empty() {
                        let since = *damaged_since.get_or_insert_with(|| BootClock.now());
                        found_damage(&handle, &ledger, &error, since, &mut stats).await;
                    }
                    // Leadership may come meanwhile: then the engine says what state is in.
                    let _ = tokio::time::timeout(wait, role.changed()).await;
                }
            }
            continue;
        }
        tokio::select! {
            _ = role.changed() => {}
            _ = stats.changed() => {}
            // What is seen of the others changes all the time: a deadline, or the time would never come.
            () = tokio::time::sleep_until(next_look), if follows => {
                next_look = Instant::now() + every;
                let found = recovery.examine(Depth::Open).await;
                recovered &= !found.findings.iter().any(Finding::is_critical);
            }
            () = drain.cancelled() => {}
        }
    }
}

/// Reports what a follower found, and is ready to lead as custodian only where there is to be one.
async fn found_damage(
    handle: &Handle,
    ledger: &Ledger,
    error: &RecoveryError,
    since: Moment,
    stats: &mut watch::Receiver<Stats>,
) {
    if let Err(failed) = ledger.report_damage(handle.instance(), error.code(), &error.to_string()).await {
        tracing::warn!(error = &failed as &dyn std::error::Error, "[RECOVERY] the leader was not told");
    }
    let now = BootClock.now();
    let seen = stats.borrow().leader_seen;
    let vacant = [Some(since), seen].into_iter().flatten().all(|at| now.since(at) >= VACANT);
    let agreed = matches!(ledger.custody().await, Ok(Some(_)));
    let status = if agreed || vacant { Status::Active } else { Status::Recovering };
    if stats.borrow().status != Some(status) {
        tracing::warn!(%status, agreed, vacant, "[RECOVERY] stored state is damaged: ready to lead as custodian where nobody else does");
        stand_as(status, handle, stats).await;
    }
}

/// Sets the status and waits until it is seen: the next look would else take the old one for a new loss.
async fn stand_as(status: Status, handle: &Handle, stats: &mut watch::Receiver<Stats>) {
    handle.set_status(status).await;
    let seen = async {
        let _ = stats.wait_for(|stats| stats.status == Some(status)).await;
    };
    let _ = tokio::time::timeout(RETRY, seen).await;
}

fn halt(error: &RecoveryError, operational: &OperationalState) -> Duration {
    let sentence = format!("{}: {}", error.code(), with_causes(error));
    match error {
        RecoveryError::DbUnavailable { .. } => {
            operational.waiting(sentence);
            RETRY
        }
        RecoveryError::DataCorrupt(_) | RecoveryError::ValidationFailed(_) => {
            operational.error(error.code(), sentence);
            RECHECK
        }
    }
}
