//! Schema migrations: embedded in the binary, run under an advisory lock, never edited after release.
//!
//! refinery takes no lock of its own: two migrators on a fresh database fail each other.

use futures_util::StreamExt;

use super::connect::connect;
use super::{Ledger, LedgerError};

#[allow(missing_docs)]
mod embedded {
    refinery::embed_migrations!("migrations");
}

use embedded::migrations;

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
    /// [`LedgerError::SchemaTooNew`] when a newer binary migrated the database; otherwise the failed step.
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
            return Err(LedgerError::SchemaTooNew { found, known: known_version() });
        }
        let report = migrations::runner().run_async(&mut client).await.map_err(LedgerError::Migrate)?;
        drop(client);
        // Ends with the session, and so frees the lock; its own errors are of no interest any more.
        let _ = driver.await;
        let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
        Ok(Migrated { applied, version: known_version() })
    }

    /// Says whether the schema fits this binary, without changing it.
    ///
    /// # Errors
    /// [`LedgerError::SchemaTooNew`], [`LedgerError::SchemaTooOld`], or the failed statement.
    pub async fn check_schema(&self) -> Result<(), LedgerError> {
        let (found, known) = (stored_version(&*self.client().await?).await?, known_version());
        match found.cmp(&known) {
            std::cmp::Ordering::Greater => Err(LedgerError::SchemaTooNew { found, known }),
            std::cmp::Ordering::Less => Err(LedgerError::SchemaTooOld { found, known }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

/// The newest schema version this binary holds.
pub fn known_version() -> i32 {
    let runner = migrations::runner();
    runner.get_migrations().iter().map(|migration| migration.version()).max().unwrap_or(0)
}

pub(super) async fn stored_version(client: &tokio_postgres::Client) -> Result<i32, LedgerError> {
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
