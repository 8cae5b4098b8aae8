//! What a copy of the ledger holds, and a moment of it held still while somebody copies it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::{IsolationLevel, Transaction};

use super::audit::{self, AuditReport};
use super::snapshot::{self, Depth, Snapshot};
use super::{Ledger, LedgerError, migrate};

/// What a ledger holds, for people to recognise it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The schema's version.
    pub schema: i32,
    /// The cluster that it belongs to; none if nobody ever led.
    pub cluster: Option<String>,
    /// The epoch in force.
    pub epoch: i64,
    /// Positions that are not closed.
    pub open_positions: i64,
    /// Orders that may still change.
    pub open_orders: i64,
    /// Signals that wait for a decision.
    pub waiting_signals: i64,
    /// When the newest row of its audit log was written; none if there is no row.
    pub newest: Option<DateTime<Utc>>,
    /// Whether its audit chain is whole.
    pub audit: AuditReport,
}

const COUNTS: &str = "
SELECT cluster, epoch,
    (SELECT count(*) FROM position WHERE status <> 'closed'),
    (SELECT count(*) FROM order_intent WHERE state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')),
    (SELECT count(*) FROM signal WHERE status = 'pending'),
    (SELECT to_timestamp(at_us / 1e6) FROM audit_log ORDER BY seq DESC LIMIT 1)
FROM leadership";

/// Reads it all in a transaction that is open already.
pub(super) async fn read(tx: &Transaction<'_>) -> Result<Contents, LedgerError> {
    let schema = migrate::stored_version(tx.client()).await?;
    let row = tx.query_one(COUNTS, &[]).await.map_err(LedgerError::during("count what the ledger holds"))?;
    let audit = audit::verify(tx).await?;
    Ok(Contents {
        schema,
        cluster: row.get(0),
        epoch: row.get(1),
        open_positions: row.get(2),
        open_orders: row.get(3),
        waiting_signals: row.get(4),
        newest: row.get(5),
        audit,
    })
}

impl Ledger {
    /// Has `copy` copy one moment of the ledger, named by a snapshot that other sessions can take up; then tells what
    /// that moment holds. Its open state comes apart: it may be damaged, and a copy of it is worth having all the same.
    ///
    /// # Errors
    /// What `copy` says, or any database error.
    pub async fn held_still<E: From<LedgerError>>(
        &self,
        copy: impl AsyncFnOnce(&str) -> Result<(), E>,
    ) -> Result<(Contents, Result<Snapshot, LedgerError>), E> {
        let failed = LedgerError::during("hold a moment of the ledger still");
        let mut client = self.client().await?;
        let begin =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let tx = begin.start().await.map_err(&failed)?;
        Self::unhurried(&tx).await?;
        // It waits for the copy, and holds no lock that anybody waits for.
        tx.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await.map_err(&failed)?;
        let name: String = tx.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(&failed)?.get(0);
        copy(&name).await?;
        let contents = read(&tx).await?;
        let state = snapshot::read(&tx, Depth::Whole, &Arc::default()).await;
        Ok((contents, state))
    }
}
