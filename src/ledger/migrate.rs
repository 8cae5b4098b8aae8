//! Schema migrations: embedded in the binary, run under an advisory lock, never edited after release.
//!
//! refinery takes no lock of its own: two migrators on a fresh database fail each other.
//!
//! Two versions work on one schema while an upgrade rolls, and after a step back from it (ADR 42). So a schema that is newer
//! than this binary knows is used, as long as its `schema_floor` is not above what the binary knows. And instances trade
//! while a migration runs: it never waits long for a table, since everybody else would wait behind it.

use std::time::Duration;

use futures_util::StreamExt;
use refinery::{Migration, Report, Runner};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::connect;
use super::{Ledger, LedgerError};
use crate::failpoint;

#[allow(missing_docs)]
mod embedded {
    refinery::embed_migrations!("migrations");
}

use embedded::migrations;

/// How long a migration waits for a table that somebody reads or writes. A leader's statements wait behind it, and its
/// heartbeat is due within a second.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
/// How long it waits for autovacuum, which then gives way.
const YIELD_PATIENCE: Duration = Duration::from_millis(100);
/// From one try to the next.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// How often it is tried.
const LOCK_TRIES: u32 = 60;

/// What a migration run did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// Names of the migrations applied now, e.g. `V2__ledger`.
    pub applied: Vec<String>,
    /// The schema version afterwards.
    pub version: i32,
}

impl Ledger {
    /// Brings the schema to this binary's version; many processes may call it at once.
    ///
    /// # Errors
    /// [`LedgerError::SchemaTooNew`] when a newer binary migrated the database and this one may not use it any more;
    /// otherwise the failed step.
    pub async fn migrate(&self) -> Result<Migrated, LedgerError> {
        // A session of its own: the lock must not outlive a pooled connection's user, nor its timeouts apply.
        let mut config = self.config.clone();
        // Behind the operator's own, such as a search_path; the last of two wins.
        let own = config.get_options().unwrap_or_default();
        let options = format!("{own} -c statement_timeout=0 -c lock_timeout=0");
        config.options(options.trim_start());
        let (mut client, mut messages) = connect(&config, &self.tls, "connect for the migrations").await?;
        let driver = tokio::spawn(async move { while let Some(Ok(_)) = messages.next().await {} });
        let migrated = bring_up(&mut client).await?;
        drop(client);
        // Ends with the session, and so frees the lock; its own errors are of no interest any more.
        let _ = driver.await;
        Ok(migrated)
    }

    /// Says whether the schema fits this binary, without changing it.
    ///
    /// # Errors
    /// [`LedgerError::SchemaTooNew`], [`LedgerError::SchemaTooOld`], or the failed statement.
    pub async fn check_schema(&self) -> Result<(), LedgerError> {
        let client = self.client().await?;
        let (found, known) = (stored_version(&client).await?, known_version());
        match found.cmp(&known) {
            std::cmp::Ordering::Greater => admits(&client, found).await,
            std::cmp::Ordering::Less => Err(LedgerError::SchemaTooOld { found, known }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

/// Applies what is missing, each migration in a transaction of its own, and again from where it met a table in use. Whoever
/// misses nothing waits for no migrator; and none keeps the lock while it waits for its next try.
async fn bring_up(client: &mut Client) -> Result<Migrated, LedgerError> {
    wait_for_restore(client).await?;
    if let Some(version) = usable_version(client).await? {
        return Ok(Migrated { applied: Vec::new(), version });
    }
    ask_autovacuum_to_yield(client).await?;
    let lock = format!("SET lock_timeout = 0; SELECT pg_advisory_lock({})", ha::locks::MIGRATION);
    let unlock = format!("SELECT pg_advisory_unlock({})", ha::locks::MIGRATION);
    let patience = format!("SET lock_timeout = {}", LOCK_PATIENCE.as_millis());
    let runner = Runner::new(&held());
    let mut applied = Vec::new();
    let mut tries = 1;
    loop {
        client.batch_execute(&lock).await.map_err(LedgerError::during("take the migration lock"))?;
        // Whoever had the lock before may have applied it.
        if let Some(version) = usable_version(client).await? {
            return Ok(Migrated { applied, version });
        }
        client
            .batch_execute(&patience)
            .await
            .map_err(LedgerError::during("limit the migrations' patience"))?;
        let mut note =
            |report: &Report| applied.extend(report.applied_migrations().iter().map(Migration::to_string));
        match runner.run_async(client).await {
            Ok(report) => {
                note(&report);
                return Ok(Migrated { applied, version: known_version() });
            }
            Err(error) if is_in_use(&error) && tries < LOCK_TRIES => {
                error.report().into_iter().for_each(&mut note);
                tracing::warn!(
                    tries,
                    "a table that is to be migrated is in use (a backup, a long query?): {error}"
                );
            }
            Err(error) => return Err(LedgerError::Migrate(error)),
        }
        tries += 1;
        client.batch_execute(&unlock).await.map_err(LedgerError::during("free the migration lock"))?;
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// A restore holds this table until the ledger is whole: what is read after it is what was restored.
async fn wait_for_restore(client: &Client) -> Result<(), LedgerError> {
    let during = LedgerError::during("see whether a restore is under way");
    let exists =
        client.query_one("SELECT to_regclass('leadership') IS NOT NULL", &[]).await.map_err(&during)?;
    if exists.get(0) {
        client.batch_execute("SELECT FROM leadership").await.map_err(&during)?;
    }
    Ok(())
}

/// PostgreSQL has autovacuum give way to whoever has waited `deadlock_timeout` for it, which is longer than a migration
/// waits. Not every role may set it; then autovacuum is waited for like everybody else.
async fn ask_autovacuum_to_yield(client: &Client) -> Result<(), LedgerError> {
    let sooner = format!("SET deadlock_timeout = {}", YIELD_PATIENCE.as_millis());
    match client.batch_execute(&sooner).await {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            tracing::info!(
                "this role may not set deadlock_timeout, so autovacuum does not give way to a migration"
            );
            Ok(())
        }
        set => set.map_err(LedgerError::during("have autovacuum give way to the migrations")),
    }
}

/// A table's lock was not to be had in time, or only by way of a deadlock; nothing of that migration was applied.
fn is_in_use(error: &refinery::Error) -> bool {
    let refused =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let in_use = [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED];
    refused.and_then(tokio_postgres::Error::code).is_some_and(|code| in_use.contains(&code))
}

/// The schema's version, if this binary misses nothing of it; none if there is something to apply.
async fn usable_version(client: &Client) -> Result<Option<i32>, LedgerError> {
    let (found, known) = (stored_version(client).await?, known_version());
    if found > known {
        admits(client, found).await?;
    }
    Ok((found >= known).then_some(found))
}

/// Whether a schema that is newer than this binary knows still takes it.
async fn admits(client: &Client, found: i32) -> Result<(), LedgerError> {
    let known = known_version();
    let row = client
        .query_opt("SELECT version FROM schema_floor", &[])
        .await
        .map_err(LedgerError::during("read which binaries the schema takes"))?;
    let floor: i32 = row.map_or(found, |row| row.get(0));
    if floor <= known { Ok(()) } else { Err(LedgerError::SchemaTooNew { found, floor, known }) }
}

/// The migrations that this binary holds.
fn held() -> Vec<Migration> {
    let mut held = migrations::runner().get_migrations().clone();
    held.extend(failpoint::later_migrations());
    held
}

/// The newest schema version this binary holds.
pub fn known_version() -> i32 {
    held().iter().map(Migration::version).max().unwrap_or(0)
}

pub(super) async fn stored_version(client: &Client) -> Result<i32, LedgerError> {
    let during = LedgerError::during("read the schema version");
    let exists = client
        .query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[])
        .await
        .map_err(&during)?;
    if !exists.get::<_, bool>(0) {
        return Ok(0);
    }
    let row = client
        .query_one("SELECT coalesce(max(version), 0)::int4 FROM refinery_schema_history", &[])
        .await
        .map_err(&during)?;
    Ok(row.get(0))
}
