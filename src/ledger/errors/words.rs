//! The operator's word on an error: that it is known, or that it is over.
//!
//! A row stands for its key's trouble each time that it comes, so a word names the time as well, by its begin: what ended and
//! came back since its author looked is news to them, and takes no word that was meant for the time before. Each word is one
//! statement, its row of the audit log included: whoever is paused in the middle of it holds neither the error nor the chain.

use chrono::{DateTime, SecondsFormat, Utc};

use super::super::planned::Planned;
use super::super::repair::Operator;
use super::super::{Ledger, LedgerError};
use super::ErrorRow;
use super::ends::{END, tell_end};
use super::views::{self, COLUMNS};

/// One time that an error lasted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Episode {
    /// The error's number.
    pub id: i64,
    /// When it began; to the microsecond what a reading gives as `open_since`.
    pub open_since: DateTime<Utc>,
}

/// Why an operator's word was not taken; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WordError {
    /// There is no such error, or it is over.
    #[error("there is no unresolved error {0}; `baton errors` lists them")]
    NotOpen(i64),
    /// The episode that was meant is over, and another one has begun.
    #[error(
        "error {id} is not the one you looked at: it ended and came back at {}; nothing was changed, look again",
        .at.to_rfc3339_opts(SecondsFormat::Millis, true)
    )]
    CameBack {
        /// The error's number.
        id: i64,
        /// When the present episode began.
        at: DateTime<Utc>,
    },
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The row that is meant: `$1` is its number, `$2` when its episode began.
const MEANT: &str = "WHERE id = $1 AND open_since = $2 AND NOT resolved";

/// Gives the row in `said`, and tells the audit log of the word: `$3` said it, `$4` is why.
fn told(word: &str) -> String {
    format!(
        "SELECT said.*, audit_append('error', $3::text, jsonb_build_object('error', id, 'error_type', error_type, 'scope', scope,
            'open_since', open_since, 'word', '{word}', 'reason', $4::text)::text) FROM said"
    )
}

fn acknowledge_sql() -> String {
    let told = told("acknowledge");
    format!(
        "WITH said AS (
            UPDATE error_notifications_log SET acknowledged_at = coalesce(acknowledged_at, now()),
                acknowledged_by = coalesce(acknowledged_by, $3::text), owed = false
            {MEANT} RETURNING {COLUMNS}
        ) {told}"
    )
}

fn resolve_sql() -> String {
    let (tell, told) = (tell_end("'operator ' || $3::text", "0", "''"), told("resolve"));
    format!(
        "WITH closed AS ({END} {MEANT} RETURNING {COLUMNS}, told), queued AS ({tell}), said AS (SELECT * FROM closed)
        {told}"
    )
}

impl Ledger {
    /// Notes that an operator knows of an error: it makes no more notifications until it is over.
    ///
    /// # Errors
    /// It is over, or another time began since; any database error.
    pub async fn acknowledge_error(&self, of: Episode, by: Operator<'_>) -> Result<ErrorRow, WordError> {
        self.say("acknowledge an error", &acknowledge_sql(), of, by).await
    }

    /// Ends an error by the operator's word, whoever reports it.
    ///
    /// # Errors
    /// As [`Ledger::acknowledge_error`].
    pub async fn resolve_error(&self, of: Episode, by: Operator<'_>) -> Result<ErrorRow, WordError> {
        self.say("resolve an error", &resolve_sql(), of, by).await
    }

    async fn say(
        &self,
        operation: &'static str,
        statement: &str,
        of: Episode,
        by: Operator<'_>,
    ) -> Result<ErrorRow, WordError> {
        let client = self.client().await?;
        let taken = client.maybe_row(statement, &[&of.id, &of.open_since, &by.name, &by.reason]).await;
        if let Some(row) = taken.map_err(LedgerError::during(operation))? {
            return Ok(views::row(&row));
        }
        drop(client);
        // By now it may be over, or have come back: either way it was not the episode that was meant.
        match self.error_row(of.id).await? {
            Some(now) if !now.resolved && now.open_since != of.open_since => {
                Err(WordError::CameBack { id: of.id, at: now.open_since })
            }
            _ => Err(WordError::NotOpen(of.id)),
        }
    }
}
