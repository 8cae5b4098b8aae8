//! What is known of the senders of orders: their word that they wrote nothing, and which processes they are.
//!
//! Neither changes an intent's state. A sender whose term is over does not lead any more and decides nothing; it gives
//! evidence, and whoever leads acts on it under the fence.

use ha::Incarnation;
use uuid::Uuid;

use super::planned::Planned;
use super::{Ledger, LedgerError};
use crate::domain::ids::IntentId;

/// A process as its kernel knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessRow {
    /// The kernel's boot.
    pub boot: String,
    /// Its namespaces of pids and time.
    pub space: String,
    /// Its pid there.
    pub pid: i32,
    /// Its start in clock ticks since the boot.
    pub started: i64,
}

impl Ledger {
    /// Notes that no byte of these intents left, by the word of the process that would have sent them. Gives how many of
    /// them have a row that still asks.
    ///
    /// # Errors
    /// Any database error.
    pub async fn note_unsent(&self, intents: &[IntentId], why: &str) -> Result<u64, LedgerError> {
        let ids: Vec<Uuid> = intents.iter().map(|id| id.0).collect();
        self.client()
            .await?
            .execute(
                "UPDATE order_intent SET unsent = $2 WHERE id = ANY ($1) AND state IN ('journaled', 'in_doubt')",
                &[&ids, &why],
            )
            .await
            .map_err(LedgerError::during("note that orders were not sent"))
    }

    /// Those of these intents of which their sender says that no byte left, with its reason.
    ///
    /// # Errors
    /// Any database error.
    pub async fn unsent(&self, intents: &[IntentId]) -> Result<Vec<(IntentId, String)>, LedgerError> {
        let ids: Vec<Uuid> = intents.iter().map(|id| id.0).collect();
        let rows = self
            .client()
            .await?
            .rows("SELECT id, unsent FROM order_intent WHERE id = ANY ($1) AND unsent IS NOT NULL", &[&ids])
            .await
            .map_err(LedgerError::during("read what senders say of orders in doubt"))?;
        Ok(rows.iter().map(|row| (IntentId(row.get(0)), row.get(1))).collect())
    }

    /// Notes which process an incarnation is, before it sends anything.
    ///
    /// # Errors
    /// Any database error.
    pub async fn note_process(
        &self,
        incarnation: Incarnation,
        process: &ProcessRow,
    ) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "WITH forgotten AS (DELETE FROM sender_process WHERE noted_at < now() - interval '30 days')
                 INSERT INTO sender_process (incarnation, boot, space, pid, started) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING",
                &[
                    &incarnation.as_uuid(),
                    &process.boot,
                    &process.space,
                    &process.pid,
                    &process.started,
                ],
            )
            .await
            .map_err(LedgerError::during("note a sender's process"))?;
        Ok(())
    }

    /// The processes of these incarnations, as far as they are known.
    ///
    /// # Errors
    /// Any database error.
    pub async fn processes(&self, incarnations: &[Uuid]) -> Result<Vec<(Uuid, ProcessRow)>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT incarnation, boot, space, pid, started FROM sender_process WHERE incarnation = ANY ($1)",
                &[&incarnations],
            )
            .await
            .map_err(LedgerError::during("read senders' processes"))?;
        let process = |row: &tokio_postgres::Row| ProcessRow {
            boot: row.get(1),
            space: row.get(2),
            pid: row.get(3),
            started: row.get(4),
        };
        Ok(rows.iter().map(|row| (row.get(0), process(row))).collect())
    }
}
