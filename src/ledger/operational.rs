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
    /// Since when it is this state, and this code.
    pub entered_at: DateTime<Utc>,
    /// When what it depends on was last looked at.
    pub checked_at: DateTime<Utc>,
}

/// One change of a process's operational state.
#[derive(Debug, Clone, Serialize)]
pub struct StateChange {
    /// Its number: the newer, the higher.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The process.
    pub incarnation: Uuid,
    /// Its member name.
    pub member: String,
    /// What it was; none for the first.
    pub from: Option<String>,
    /// What it became, or stayed.
    pub to: String,
    /// For ERROR, which one.
    pub code: Option<String>,
    /// A sentence.
    pub reason: String,
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

    /// Notes that what `instance` depends on was looked at.
    ///
    /// # Errors
    /// Any database error.
    pub async fn note_check(&self, instance: &Instance) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE operational_state SET checked_at = now() WHERE incarnation = $1",
                &[&instance.incarnation.as_uuid()],
            )
            .await
            .map_err(LedgerError::during("note a look"))?;
        Ok(())
    }

    /// Lists changes of operational states, the newest first: of one member or of all, those below the number `before`.
    ///
    /// # Errors
    /// Any database error.
    pub async fn state_history(
        &self,
        member: Option<&str>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<StateChange>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT id, at, incarnation, member, old_state, new_state, code, reason FROM operational_state_history
                 WHERE ($1::text IS NULL OR member = $1) AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
                &[&member, &before, &limit],
            )
            .await
            .map_err(LedgerError::during("read the history of states"))?;
        Ok(rows
            .iter()
            .map(|row| StateChange {
                id: row.get(0),
                at: row.get(1),
                incarnation: row.get(2),
                member: row.get(3),
                from: row.get(4),
                to: row.get(5),
                code: row.get(6),
                reason: row.get(7),
            })
            .collect())
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
                "SELECT incarnation, member, state, code, reason, entered_at, checked_at FROM operational_state
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
                checked_at: row.get(6),
            })
            .collect())
    }
}
