//! From nothing to a recovered member of the cluster, and back to it after every involuntary loss.

use std::sync::Arc;
use std::time::Duration;

use ha::{BootClock, Handle, Member, Role, Status, Timing};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::health::operational::OperationalState;
use crate::ledger::{Ledger, LedgerError};
use crate::recovery::{CrashRecoveryManager, RecoveryError};

/// Between two tries at a store that is away.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for an operator's word.
const STORM_RECHECK: Duration = Duration::from_secs(1);
/// Between two looks at what only an operator can mend.
const RECHECK: Duration = Duration::from_secs(5);

/// Migrates, checks the account, and joins; waits for as long as the database is away.
///
/// # Errors
/// A setting that the protocol refuses.
pub(super) async fn join(
    config: &Config,
    address: &str,
    ledger: &Ledger,
    operational: &OperationalState,
    start: Uuid,
) -> anyhow::Result<Handle> {
    let mut storm = false;
    loop {
        match prepare(config, ledger, start, &mut storm).await {
            Ok(true) => break,
            Ok(false) => {
                operational.error("RESTART_STORM", storm_sentence(config));
                tokio::time::sleep(STORM_RECHECK).await;
            }
            Err(error) => tokio::time::sleep(explain(&error, operational)).await,
        }
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
         looked why and runs `baton ack restart-storm`",
        config.cluster.member,
        config.health.max_restarts,
        config.health.restart_window.as_secs()
    )
}

/// Tells the operator what is wrong, and says how long to wait before looking again.
fn explain(error: &LedgerError, operational: &OperationalState) -> Duration {
    let cause = error_chain(error);
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
        _ => {
            operational.waiting(format!(
                "DB_UNAVAILABLE: {cause}: check that PostgreSQL runs and that postgres.url is right; trying again every second"
            ));
            RETRY
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
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: build_number(env!("CARGO_PKG_VERSION")),
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

/// Recovers whenever the status is recovering: at the start, and after each involuntary loss of leadership. A follower
/// that took an ERROR along from leading proves stored state again, too: nothing else lifts it.
pub(super) async fn stay_recovered(
    handle: Arc<Handle>,
    recovery: CrashRecoveryManager,
    operational: OperationalState,
    drain: CancellationToken,
) {
    let (mut role, mut stats) = (handle.role(), handle.stats());
    let mut recovered = false;
    while !drain.is_cancelled() {
        let status = stats.borrow_and_update().status;
        let follows = matches!(*role.borrow_and_update(), Role::Follower { .. });
        if follows && (!recovered || status == Some(Status::Recovering) || operational.is_error()) {
            recovered = false;
            match recovery.recover().await {
                Ok(_) if drain.is_cancelled() => return,
                Ok(_) => {
                    recovered = true;
                    operational.mended("stored state was read back and is whole");
                    handle.set_status(Status::Active).await;
                    // Seen before the next look, which would else take the old status for a new loss.
                    let active = async {
                        let _ = stats.wait_for(|stats| stats.status == Some(Status::Active)).await;
                    };
                    let _ = tokio::time::timeout(RETRY, active).await;
                }
                Err(error) => {
                    tokio::time::sleep(halt(&error, &operational)).await;
                }
            }
            continue;
        }
        tokio::select! {
            _ = role.changed() => {}
            _ = stats.changed() => {}
            () = drain.cancelled() => {}
        }
    }
}

fn halt(error: &RecoveryError, operational: &OperationalState) -> Duration {
    let sentence = format!("{}: {}", error.code(), error_chain(error));
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

/// An error and its causes in one sentence.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        source = cause.source();
    }
    sentence
}
