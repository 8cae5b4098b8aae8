//! A restored ledger: an older truth, made fit to lead by in the transaction that brings it back.
//!
//! All of it is one transaction, so whoever dies has changed nothing, and no instance can start on a ledger that was
//! loaded and not yet made fit. Whoever leads holds the pin, and whoever starts waits for the table `leadership`, or where
//! there is none for the migration lock; all are held here.
//!
//! What the ledger has forgotten may exist at the broker. So:
//!
//! - an epoch is minted that nobody holds, above every one that is known, in the ledger or in Redis: what was committed
//!   under another is another ledger's;
//! - reduce-only is set, as an operator's word, which nothing but an operator's word ends;
//! - signals that waited are ended: they may have acted since;
//! - messages that waited are dropped: they may have been sent since.
//!
//! Orders under way stay: the next leader finds their ends in the broker's books, like those of a dead one.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::ClientWrapper;
use deadpool_postgres::Transaction;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::connect::connect;
use super::contents::{self, Contents};
use super::repair::Operator;
use super::snapshot::{self, Depth, Snapshot};
use super::{Ledger, LedgerError, audit, migrate};
use crate::failpoint;

/// Epochs that are skipped where Redis cannot tell which were minted since the backup.
const UNKNOWN_EPOCHS: i64 = 1000;
/// Pieces in which rows go to the server.
const PIECE: usize = 64 * 1024;
/// How long the locks of whoever still uses the ledger are waited for.
const LOCK_PATIENCE: &str = "5s";

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct Restoring<'a> {
    /// By whose word, and why.
    pub operator: Operator<'a>,
    /// Put a ledger that is there aside, into a schema of its own.
    pub replace: bool,
    /// The highest epoch that Redis remembers; none if Redis could not be asked.
    pub epoch_in_redis: Option<i64>,
    /// Take it all back at the end: it was only tried.
    pub dry_run: bool,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What the backup held.
    pub contents: Contents,
    /// The epoch that nobody holds; the next leader's is above it.
    pub epoch: i64,
    /// Where the ledger went that was there before.
    pub kept_as: Option<String>,
    /// Signals that waited, ended by the restore.
    pub ended_signals: Vec<EndedSignal>,
    /// Messages that waited and are not sent.
    pub dropped_messages: u64,
}

/// A signal that a restore ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndedSignal {
    /// Its key: what its sender called it, or what makes it.
    pub key: String,
    /// `EXIT`, say.
    pub kind: String,
    /// Of what.
    pub instrument: String,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Somebody leads, or migrates.
    #[error("{by}: stop every instance first (`baton instances`), then restore")]
    Occupied {
        /// Who.
        by: String,
    },
    /// Something is there.
    #[error(
        "the database is not empty ({tables} tables): restore into an empty one, or have what is there put aside with --replace"
    )]
    NotEmpty {
        /// How many tables.
        tables: i64,
    },
    /// Another version's backup.
    #[error(
        "the backup is of schema version {found}, this binary's is {known}: restore it with the version of baton that made \
         it, then let this one migrate it"
    )]
    OtherSchema {
        /// The backup's.
        found: i32,
        /// This binary's.
        known: i32,
    },
    /// The backup's text could not be read.
    #[error("the backup cannot be read: {0}")]
    Script(#[from] std::io::Error),
    /// The program that reads it gave up.
    #[error("the backup cannot be read: {0}")]
    Broken(String),
    /// What was restored does not add up.
    #[error("what the backup holds is not whole, so it was not restored: {}", .0.join("; "))]
    NotWhole(Vec<String>),
}

impl Ledger {
    /// Loads a backup's script and makes the ledger fit to lead by; `ended` says whether the script was all of it,
    /// `prove` whether what was loaded is to be kept.
    ///
    /// # Errors
    /// Nothing was changed then. A lost connection during the commit leaves it unknown.
    pub async fn restore(
        &self,
        how: Restoring<'_>,
        script: impl AsyncBufRead + Unpin,
        ended: impl AsyncFnOnce() -> Result<(), RestoreError>,
        prove: impl FnOnce(&Contents, Result<Snapshot, LedgerError>) -> Result<(), RestoreError>,
    ) -> Result<Restored, RestoreError> {
        let (client, mut messages) = connect(&self.config, &self.tls, "connect for the restore").await?;
        let driver = tokio::spawn(async move { while let Some(Ok(_)) = messages.next().await {} });
        // With the means of a pooled client to keep statements; its task is the driver, which is waited for.
        let mut client = ClientWrapper::new(client, tokio::spawn(async {}));
        let failed = LedgerError::during("restore the ledger");
        let tx = client.transaction().await.map_err(&failed)?;
        let limits = format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
             SET LOCAL lock_timeout = '{LOCK_PATIENCE}'"
        );
        tx.batch_execute(&limits).await.map_err(&failed)?;
        let (schema, path) = alone(&tx).await?;
        let kept_as = put_aside(&tx, &schema, how.replace).await?;
        load(&tx, script).await?;
        ended().await?;
        tx.query_one("SELECT set_config('search_path', $1, true)", &[&path]).await.map_err(&failed)?;
        let (found, known) = (migrate::stored_version(tx.client()).await?, migrate::known_version());
        if found != known {
            return Err(RestoreError::OtherSchema { found, known });
        }
        let contents = contents::read(&tx).await?;
        prove(&contents, snapshot::read(&tx, Depth::Whole, &Arc::default()).await)?;
        let restored = make_fit(&tx, how, contents, kept_as).await?;
        failpoint::hit("restore_before_commit");
        if how.dry_run {
            tx.rollback().await.map_err(&failed)?;
        } else {
            tx.commit().await.map_err(&failed)?;
        }
        drop(client);
        // Ends with the session; its own errors are of no interest any more.
        let _ = driver.await;
        Ok(restored)
    }
}

/// Sees to it that nobody else uses the ledger until the transaction ends; gives the schema and the search path.
async fn alone(tx: &Transaction<'_>) -> Result<(String, String), RestoreError> {
    let failed = LedgerError::during("see whether anybody uses the ledger");
    let locks = "SELECT pg_try_advisory_xact_lock($1), pg_try_advisory_xact_lock($2)";
    let locks = tx.query_one(locks, &[&ha::locks::PIN, &ha::locks::MIGRATION]).await.map_err(&failed)?;
    let occupied = |by: &str| RestoreError::Occupied { by: by.to_owned() };
    if !locks.get::<_, bool>(0) {
        return Err(occupied("an instance leads, or another restore is under way"));
    }
    if !locks.get::<_, bool>(1) {
        return Err(occupied("somebody migrates the schema"));
    }
    let place =
        "SELECT current_schema(), current_setting('search_path'), to_regclass('leadership') IS NOT NULL";
    let place = tx.query_one(place, &[]).await.map_err(&failed)?;
    if place.get(2) {
        // Whoever comes now waits here, and finds what was restored.
        tx.batch_execute("LOCK TABLE leadership IN ACCESS EXCLUSIVE MODE").await.map_err(&failed)?;
    }
    let sessions = "SELECT string_agg(DISTINCT application_name, ', ') FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'baton/%' AND application_name <> 'baton/restore'";
    let sessions: Option<String> = tx.query_one(sessions, &[]).await.map_err(&failed)?.get(0);
    if let Some(sessions) = sessions {
        let by = format!("sessions of instances are open on the database ({sessions})");
        return Err(RestoreError::Occupied { by });
    }
    let schema: Option<String> = place.get(0);
    Ok((schema.unwrap_or_else(|| "public".to_owned()), place.get(1)))
}

/// Makes room for the backup; gives where what was there went.
async fn put_aside(
    tx: &Transaction<'_>,
    schema: &str,
    replace: bool,
) -> Result<Option<String>, RestoreError> {
    let failed = LedgerError::during("put the ledger aside that is there");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
    let tables: i64 = tx.query_one(tables, &[&schema]).await.map_err(&failed)?.get(0);
    if tables == 0 {
        return Ok(None);
    }
    if !replace {
        return Err(RestoreError::NotEmpty { tables });
    }
    let name =
        "SELECT 'before_restore_' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MISS_US')";
    let name: String = tx.query_one(name, &[]).await.map_err(&failed)?.get(0);
    let moved = "SELECT format('ALTER SCHEMA %I RENAME TO %I', $1::text, $2::text), format('CREATE SCHEMA %I', $1::text)";
    let moved = tx.query_one(moved, &[&schema, &name]).await.map_err(&failed)?;
    tx.batch_execute(moved.get(0)).await.map_err(&failed)?;
    // A backup makes every schema but this one itself.
    if schema == "public" {
        tx.batch_execute(moved.get(1)).await.map_err(&failed)?;
    }
    Ok(Some(name))
}

/// Runs what `pg_restore` prints: statements, and rows between `COPY … FROM stdin;` and `\.`.
async fn load(tx: &Transaction<'_>, mut script: impl AsyncBufRead + Unpin) -> Result<(), RestoreError> {
    let mut statements = String::new();
    let mut line = Vec::new();
    while script.read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line);
        if text.starts_with("COPY ") && text.trim_end().ends_with("FROM stdin;") {
            run(tx, &mut statements).await?;
            rows(tx, text.trim_end(), &mut script).await?;
        } else if !is_for_another(&text) {
            statements.push_str(&text);
        }
        line.clear();
    }
    run(tx, &mut statements).await
}

/// What psql does by itself, and a setting that older servers do not know.
fn is_for_another(line: &str) -> bool {
    line.starts_with('\\') || line.starts_with("SET transaction_timeout")
}

async fn run(tx: &Transaction<'_>, statements: &mut String) -> Result<(), RestoreError> {
    tx.batch_execute(statements).await.map_err(LedgerError::during("run the backup's statements"))?;
    statements.clear();
    Ok(())
}

async fn rows(
    tx: &Transaction<'_>,
    statement: &str,
    script: &mut (impl AsyncBufRead + Unpin),
) -> Result<(), RestoreError> {
    let failed = LedgerError::during("load the backup's rows");
    let sink = tx.copy_in::<_, Bytes>(statement).await.map_err(&failed)?;
    let mut sink = std::pin::pin!(sink);
    let (mut piece, mut line) = (Vec::with_capacity(PIECE), Vec::new());
    loop {
        line.clear();
        if script.read_until(b'\n', &mut line).await? == 0 {
            return Err(RestoreError::Broken("it ends in the middle of a table".to_owned()));
        }
        if line == b"\\.\n" {
            break;
        }
        piece.extend_from_slice(&line);
        if piece.len() >= PIECE {
            sink.send(Bytes::from(std::mem::take(&mut piece))).await.map_err(&failed)?;
        }
    }
    sink.send(Bytes::from(piece)).await.map_err(&failed)?;
    sink.finish().await.map_err(&failed)?;
    Ok(())
}

const MINT: &str = "
UPDATE leadership SET epoch = $1, holder_member = NULL, holder_incarnation = NULL, backend_pid = NULL,
    backend_start = NULL, successor_member = NULL, successor_incarnation = NULL, offer = NULL, successor_since = NULL,
    reduce_only = true, reduce_only_until = NULL";

const SIGNALS: &str = "
UPDATE signal SET status = 'refused', finished_at = now(), reasons = $1 WHERE status = 'pending'
RETURNING key, type, instrument";

async fn make_fit(
    tx: &Transaction<'_>,
    how: Restoring<'_>,
    contents: Contents,
    kept_as: Option<String>,
) -> Result<Restored, RestoreError> {
    let failed = LedgerError::during("make the restored ledger fit to lead by");
    let Operator { name, reason } = how.operator;
    let epoch = match how.epoch_in_redis {
        Some(known) => known.max(contents.epoch).saturating_add(1),
        None => contents.epoch.saturating_add(UNKNOWN_EPOCHS),
    };
    let why = format!("restored from a backup ({}): {reason}", age(&contents));
    tx.execute(MINT, &[&epoch]).await.map_err(&failed)?;
    for end in [
        "UPDATE leadership_history SET ended_at = now(), end_reason = 'restored' WHERE ended_at IS NULL",
        "UPDATE instance SET status = 'gone' WHERE status <> 'gone'",
        "DELETE FROM notification_item",
    ] {
        tx.execute(end, &[]).await.map_err(&failed)?;
    }
    let minted = "INSERT INTO leadership_history (epoch, reason, ended_at, end_reason) VALUES ($1, 'restored', now(), 'vacant')";
    tx.execute(minted, &[&epoch]).await.map_err(&failed)?;
    let switch = "INSERT INTO switch_history (switch, value, who, why) VALUES ('reduce_only', true, $1, $2)";
    tx.execute(switch, &[&name, &why]).await.map_err(&failed)?;
    let sentence = "it waited when the backup was made; whether it acted since is not known: send it again if it should act";
    let reasons = json!([{ "code": "RESTORED", "sentence": sentence }]);
    let signals = tx.query(SIGNALS, &[&reasons]).await.map_err(&failed)?;
    let ended_signals: Vec<EndedSignal> = signals
        .iter()
        .map(|row| EndedSignal { key: row.get(0), kind: row.get(1), instrument: row.get(2) })
        .collect();
    let drop = "UPDATE notification_outbox SET state = 'expired', finished_at = now(), claimed_by = NULL,
        claimed_until = NULL, last_error = 'the ledger was restored' WHERE state = 'queued'";
    let dropped_messages = tx.execute(drop, &[]).await.map_err(&failed)?;
    let told = json!({
        "reason": reason, "epoch": epoch, "backup_epoch": contents.epoch, "backup_head": contents.audit.head,
        "kept_as": kept_as, "ended_signals": ended_signals,
    });
    audit::append(tx, "restore", name, &told).await?;
    Ok(Restored { contents, epoch, kept_as, ended_signals, dropped_messages })
}

/// How old a backup's newest row is, in words.
fn age(contents: &Contents) -> impl fmt::Display {
    contents
        .newest
        .map_or_else(|| "empty".to_owned(), |newest| format!("newest row of {}", newest.format("%F %T UTC")))
}
