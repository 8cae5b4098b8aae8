//! Schema migrations: embedded in the binary, run under an advisory lock, never edited after release.
//!
//! refinery takes no lock of its own: two migrators on a fresh database fail each other.
//!
//! Two versions work on one schema while an upgrade rolls, and after a step back from it (ADR 42). So a schema that is newer
//! than this binary knows is used, as long as its `schema_floor` is not above what the binary knows. And instances trade
//! while a migration runs: it never waits long for a table, since everybody else would wait behind it.

use std::time::Duration;

use futures_util::StreamExt;
use refinery::{Migration, Runner};
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
        let (mut client, mut messages) =
            connect(&config, &self.tls).await.map_err(LedgerError::during("connect for the migrations"))?;
        let driver = tokio::spawn(async move { while let Some(Ok(_)) = messages.next().await {} });
        client
            .execute("SELECT pg_advisory_lock($1)", &[&ha::locks::MIGRATION])
            .await
            .map_err(LedgerError::during("take the migration lock"))?;
        let found = stored_version(&client).await?;
        if found > known_version() {
            admits(&client, found).await?;
            return Ok(Migrated { applied: Vec::new(), version: found });
        }
        let applied = apply(&mut client).await?;
        drop(client);
        // Ends with the session, and so frees the lock; its own errors are of no interest any more.
        let _ = driver.await;
        Ok(Migrated { applied: applied.iter().map(ToString::to_string).collect(), version: known_version() })
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

/// Applies what is missing, each migration in a transaction of its own, and again from where it met a table in use.
async fn apply(client: &mut Client) -> Result<Vec<Migration>, LedgerError> {
    let patience = format!("SET lock_timeout = {}", LOCK_PATIENCE.as_millis());
    client.batch_execute(&patience).await.map_err(LedgerError::during("limit the migrations' patience"))?;
    let runner = Runner::new(&held());
    let mut applied = Vec::new();
    let mut tries = 1;
    loop {
        match runner.run_async(client).await {
            Ok(report) => {
                applied.extend_from_slice(report.applied_migrations());
                return Ok(applied);
            }
            Err(error) if is_in_use(&error) && tries < LOCK_TRIES => {
                if let Some(report) = error.report() {
                    applied.extend_from_slice(report.applied_migrations());
                }
                tracing::warn!(
                    tries,
                    "a table that is to be migrated is in use (a backup, a long query?): {error}"
                );
                tries += 1;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(LedgerError::Migrate(error)),
        }
    }
}

/// A table's lock was not to be had in time; nothing of that migration was applied.
fn is_in_use(error: &refinery::Error) -> bool {
    let refused =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    refused.is_some_and(|refused| refused.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
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
