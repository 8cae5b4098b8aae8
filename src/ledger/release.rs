//! Releases of brakes: what takes a switch away, or lets a strategy enter again, is done only if all is as its author saw it.
//!
//! A brake is never refused. A release was decided on what was shown: who led, and who had set the brake and why. Its
//! statement compares both under the leadership row's lock, and sets nothing if either moved (ADR 47).
//!
//! A statement that had to wait for the lock reads the row as it is by then, and every other table as it was when the
//! statement began: a brake that was set while it waited would be missing. The row's version tells: where it is not the one that
//! the statement began with, nothing is set, and the statement is run again.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use ha::Epoch;
use serde::Deserialize;
use tokio_postgres::types::ToSql;

use super::session::Session;
use super::{Ledger, LedgerError};

/// A statement is run so often while the leadership row moves under it.
const TRIES: u8 = 10;

/// What the author of a release saw, members of an operator's body; what is none is not compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Seen {
    /// The epoch in force.
    pub epoch: Option<Epoch>,
    /// The change that set the brake, as a reading numbers it; 0 where none ever did.
    pub change: Option<i64>,
}

/// What set a brake that is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetBy {
    /// The change's number.
    pub change: i64,
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Why a switch or a strategy is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// Another epoch is in force than the author of a release saw.
    #[error(
        "epoch {found} is in force, not {asked}: leadership moved since you looked ({}). {}. Nothing was changed; look again",
        leads(.leader.as_deref()),
        state(.brake, .set_by.as_ref())
    )]
    Moved {
        /// What the author saw.
        asked: Epoch,
        /// What is in force.
        found: Epoch,
        /// Who leads.
        leader: Option<String>,
        /// What was to be released.
        brake: String,
        /// What set it, if it is on.
        set_by: Option<SetBy>,
    },
    /// The brake was set since its author looked.
    #[error("{brake} was set since you looked, {set_by}. Nothing was changed; look again")]
    SetAnew {
        /// What was to be released.
        brake: String,
        /// What set it.
        set_by: SetBy,
    },
    /// The leadership row changed whenever it was waited for.
    #[error(
        "the leadership row changed {TRIES} times while {0} was being released. Nothing was changed; ask again"
    )]
    Restless(String),
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn leads(leader: Option<&str>) -> String {
    leader.map_or_else(|| "nobody leads".to_owned(), |leader| format!("{leader} leads"))
}

fn state(brake: &str, set_by: Option<&SetBy>) -> String {
    set_by.map_or_else(|| format!("{brake} is off"), |set_by| format!("{brake} is on, set {set_by}"))
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(f, "by {} at {at}: {}", self.who, self.why)
    }
}

/// What has to be so of the locked row `o`, which has its `in_force` and `version`, for a release to be what its author decided.
/// `set_by` reads the change that set the brake; `epoch` and `change` are parameters of what was seen.
pub(super) fn as_seen(set_by: &str, epoch: &str, change: &str) -> String {
    format!(
        "({epoch}::bigint IS NULL OR o.in_force = {epoch}) AND ({change}::bigint IS NULL OR (
            o.version = (SELECT xmin FROM leadership WHERE id = 1)
            AND NOT EXISTS (SELECT FROM ({set_by}) b WHERE b.id > {change})))"
    )
}

/// A statement that sets or releases a brake.
pub(super) struct Setting<'a> {
    /// The brake as people call it.
    pub brake: String,
    /// What is attempted, as a verb phrase.
    pub operation: &'static str,
    /// The statement; it sets nothing unless all is as it was seen.
    pub statement: &'a str,
    /// Its parameters, of which the first ones name the brake.
    pub values: &'a [&'a (dyn ToSql + Sync)],
    /// So many name the brake.
    pub names: usize,
    /// Reads `id, who, why, at` of the change that set the brake they name, if it is on.
    pub set_by: &'static str,
    /// What has to be so still.
    pub seen: Seen,
}

impl Setting<'_> {
    /// Runs it; false if nothing was set, and not because of what was seen.
    pub(super) async fn run(self, client: &Session) -> Result<bool, SetError> {
        for _ in 0..TRIES {
            let set = client.execute(self.statement, self.values).await;
            if set.map_err(LedgerError::during(self.operation))? > 0 {
                return Ok(true);
            }
            if self.seen == Seen::default() {
                return Ok(false);
            }
            let (found, leader, set_by) = self.now(client).await?;
            if let Some(asked) = self.seen.epoch.filter(|asked| *asked != found) {
                return Err(SetError::Moved { asked, found, leader, brake: self.brake, set_by });
            }
            if let Some((set_by, change)) = set_by.zip(self.seen.change)
                && set_by.change > change
            {
                return Err(SetError::SetAnew { brake: self.brake, set_by });
            }
        }
        Ok(false)
    }

    /// The epoch, who leads, and what set the brake if it is on.
    async fn now(&self, client: &Session) -> Result<(Epoch, Option<String>, Option<SetBy>), LedgerError> {
        let statement = format!(
            "SELECT l.epoch, l.holder_member, b.id, b.who, b.why, b.at
             FROM leadership l LEFT JOIN LATERAL ({}) b ON true WHERE l.id = 1",
            self.set_by
        );
        let row = client.query_one(&statement, &self.values[..self.names]).await;
        let row = row.map_err(LedgerError::during("read why nothing was released"))?;
        let change: Option<i64> = row.get(2);
        let set_by = change.map(|change| SetBy { change, who: row.get(3), why: row.get(4), at: row.get(5) });
        Ok((Epoch::new(row.get(0)), row.get(1), set_by))
    }
}

impl Ledger {
    /// Reads the epoch that is in force, for what is shown to whoever may release something.
    ///
    /// # Errors
    /// Any database error.
    pub async fn epoch_in_force(&self) -> Result<Epoch, LedgerError> {
        let row = self.client().await?.query_one("SELECT epoch FROM leadership", &[]).await;
        Ok(Epoch::new(row.map_err(LedgerError::during("read the epoch in force"))?.get(0)))
    }
}
