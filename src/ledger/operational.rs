//! The operational state of each process, as stored: the database enforces the same transitions as the code.

use chrono::{DateTime, Utc};
use ha::Instance;
use serde::Serialize;
use uuid::Uuid;

use super::{Ledger, LedgerError};

/// One process's operational state.
#[derive(Debug, Clone, Serialize)]
pub struct OperationalRow {
    /// The process.
    pub incarnation: Uuid,
    /// Its member name.
    pub member: String,
    /// `STARTING`, `ACTIVE`, `WAITING`, `ERROR` or `SHUTDOWN`.
    pub state: String,
    /// For ERROR, which one.
    pub code: Option<String>,
    /// A sentence.
    pub reason: String,
    /// Since when.
    pub entered_at: DateTime<Utc>,
}

impl Ledger {
    /// Stores the operational state of `instance`; creates its row at STARTING first when there is none.
    ///
    /// # Errors
    /// Any database error, an illegal transition included.
    pub async fn set_operational_state(
        &self,
        instance: &Instance,
        state: &str,
        code: Option<&str>,
        reason: &str,
    ) -> Result<(), LedgerError> {
        let client = self.client().await?;
        let during = LedgerError::during("store the operational state");
        client
            .execute(
                "INSERT INTO operational_state (incarnation, member, state, reason)
                 VALUES ($1, $2, 'STARTING', 'the process started') ON CONFLICT DO NOTHING",
                &[&instance.incarnation.as_uuid(), &instance.member.to_string()],
            )
            .await
            .map_err(&during)?;
        client
            .execute(
                "UPDATE operational_state SET state = $2, code = $3, reason = $4, checked_at = now() WHERE incarnation = $1",
                &[&instance.incarnation.as_uuid(), &state, &code, &reason],
            )
            .await
            .map_err(&during)?;
        Ok(())
    }

    /// Reads the operational states of the given processes.
    ///
    /// # Errors
    /// Any database error.
    pub async fn operational_states(
        &self,
        incarnations: &[Uuid],
    ) -> Result<Vec<OperationalRow>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT incarnation, member, state, code, reason, entered_at FROM operational_state
                 WHERE incarnation = ANY ($1)",
                &[&incarnations],
            )
            .await
            .map_err(LedgerError::during("read the operational states"))?;
        Ok(rows
            .iter()
            .map(|row| OperationalRow {
                incarnation: row.get(0),
                member: row.get(1),
                state: row.get(2),
                code: row.get(3),
                reason: row.get(4),
                entered_at: row.get(5),
            })
            .collect())
    }
}
