//! What operators do about leadership, and the record of it.
//!
//! Each command runs on a short session of its own, from any instance that reaches PostgreSQL: putting a sick leader
//! out must not depend on that leader.
//!
//! **A fence** keeps a member from leading until it is lifted. It is written under the leadership row's lock, which
//! every promotion takes, and the database refuses a promotion of a fenced member. A member that leads when it is
//! fenced loses its epoch in the same transaction: a higher one is minted that nobody holds, so the old one
//! authorises nothing from the commit on, whatever its leader believes. Then its pinned session is ended, so that a
//! successor need not wait for it to notice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::config::Config;
use crate::ids::{Epoch, Incarnation, Member};
use crate::observer::{END_BACKEND, explain};
use crate::session::{OpenError, Purpose, Session};

/// Who asks for a change, and why: kept with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// The epoch that the asker saw in force; the change is refused if it is another by now.
    pub epoch: Option<Epoch>,
}

/// What a fence did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct FenceOutcome {
    /// Whether the member was fenced already.
    pub already: bool,
    /// The epoch that was minted to end the member's own; none if it did not lead.
    pub ended: Option<Epoch>,
}

/// One epoch: who led, why it began, why it ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reign {
    /// The epoch.
    pub epoch: Epoch,
    /// Who led; nobody in an epoch that was minted only to end the one before.
    pub member: Option<String>,
    /// The process that led.
    pub incarnation: Option<Incarnation>,
    /// Why it began: a [`crate::Reason`]'s name, or `fenced`.
    pub reason: String,
    /// Who had led before.
    pub previous_member: Option<String>,
    /// Milliseconds without a leader before it; none where the new leader saw no sign of the old one.
    pub gap_ms: Option<i64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// What operators asked for while it was in force.
    pub commands: Vec<Commanded>,
}

/// What an operator asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Commanded {
    /// `handover`, `fence` or `unfence`.
    pub verb: String,
    /// The member it was about.
    pub member: Option<String>,
    /// Who asked.
    pub who: String,
    /// Why.
    pub why: String,
    /// What came of it; none while it is under way, or if the process died on the way.
    pub outcome: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// A command that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The epoch the asker saw is over.
    #[error("epoch {found} is in force, not {asked}: leadership moved since you looked; look again")]
    Stale {
        /// What the asker saw.
        asked: Epoch,
        /// What is in force.
        found: Epoch,
    },
    /// No such member.
    #[error("no instance of member {0} has ever joined this cluster")]
    Unknown(String),
    /// The epochs are used up.
    #[error("the epochs are used up at {0}")]
    Exhausted(Epoch),
    /// PostgreSQL could not be reached.
    #[error("nothing was changed: {0}")]
    Unreachable(String),
    /// PostgreSQL refused or lost a statement.
    #[error("cannot {what}: {why}")]
    Failed {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The driver's error in words.
        why: String,
    },
}

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest list.
pub const LONGEST: u16 = 1000;

/// A session for one command.
pub(crate) struct Desk(Session);

impl Desk {
    pub(crate) async fn open(config: &Config) -> Result<Self, OperatorError> {
        match Session::open(config, Purpose::Operator, PATIENCE, None).await {
            Ok(session) => Ok(Self(session)),
            Err(error @ (OpenError::Connect(_) | OpenError::TimedOut(_) | OpenError::SetUp(_))) => {
                Err(OperatorError::Unreachable(error.to_string()))
            }
        }
    }

    /// Keeps a member from leading; ends its epoch if it leads.
    pub(crate) async fn fence(
        &self,
        member: &Member,
        request: &Request,
    ) -> Result<FenceOutcome, OperatorError> {
        let what = "fence the member";
        bounded(what, async {
            let client = &self.0.client;
            client.batch_execute("BEGIN").await.map_err(failed(what))?;
            let (epoch, holder, backend) = self.locked(what, request).await?;
            let name = member.as_str();
            let known = client.query_opt(KNOWN, &[&name]).await.map_err(failed(what))?;
            if known.is_none() {
                return Err(OperatorError::Unknown(name.to_owned()));
            }
            let written =
                client.execute(FENCE, &[&name, &request.who, &request.why]).await.map_err(failed(what))?;
            let mut outcome = FenceOutcome { already: written == 0, ended: None };
            if holder.as_deref() == Some(name) {
                let next = epoch.next().ok_or(OperatorError::Exhausted(epoch))?;
                client.execute(DEPOSE, &[&epoch.get(), &next.get()]).await.map_err(failed(what))?;
                client.execute(CLOSE, &[]).await.map_err(failed(what))?;
                client.execute(RECORD, &[&next.get(), &name]).await.map_err(failed(what))?;
                outcome.ended = Some(next);
            }
            let came = match (outcome.ended, outcome.already) {
                (Some(next), _) => format!("ended epoch {epoch} by {next}"),
                (None, true) => "was fenced already".to_owned(),
                (None, false) => "fenced".to_owned(),
            };
            self.note("fence", Some(name), epoch, request, Some(&came)).await?;
            client.batch_execute("SELECT pg_notify('baton_ha', 'fence')").await.map_err(failed(what))?;
            client.batch_execute("COMMIT").await.map_err(failed(what))?;
            if outcome.ended.is_some()
                && let Some((pid, start)) = backend
            {
                // The epoch is over already; this only spares the successor the wait.
                if let Err(error) = client.query(END_BACKEND, &[&pid, &start]).await {
                    tracing::warn!("[HA] the fenced leader's session was not ended: {}", explain(&error));
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Lets a member lead again; false if it was not fenced.
    pub(crate) async fn unfence(&self, member: &Member, request: &Request) -> Result<bool, OperatorError> {
        let what = "lift the fence";
        bounded(what, async {
            let client = &self.0.client;
            client.batch_execute("BEGIN").await.map_err(failed(what))?;
            let (epoch, ..) = self.locked(what, request).await?;
            let name = member.as_str();
            let known = client.query_opt(KNOWN, &[&name]).await.map_err(failed(what))?;
            if known.is_none() {
                return Err(OperatorError::Unknown(name.to_owned()));
            }
            let lifted = client.execute(UNFENCE, &[&name]).await.map_err(failed(what))? > 0;
            let came = if lifted { "lifted" } else { "was not fenced" };
            self.note("unfence", Some(name), epoch, request, Some(came)).await?;
            client.batch_execute("COMMIT").await.map_err(failed(what))?;
            Ok(lifted)
        })
        .await
    }

    /// Takes the row's lock; gives the epoch, its holder and the holder's session.
    async fn locked(
        &self,
        what: &'static str,
        request: &Request,
    ) -> Result<(Epoch, Option<String>, Option<(i32, DateTime<Utc>)>), OperatorError> {
        let row = self.0.client.query_one(LOCK, &[]).await.map_err(failed(what))?;
        let found = Epoch::new(row.try_get(0).map_err(failed(what))?);
        if let Some(asked) = request.epoch.filter(|asked| *asked != found) {
            return Err(OperatorError::Stale { asked, found });
        }
        let (pid, start): (Option<i32>, Option<DateTime<Utc>>) =
            (row.try_get(2).map_err(failed(what))?, row.try_get(3).map_err(failed(what))?);
        Ok((found, row.try_get(1).map_err(failed(what))?, pid.zip(start)))
    }

    /// Writes a command down; gives the row's id for [`Desk::concluded`].
    pub(crate) async fn note(
        &self,
        verb: &str,
        member: Option<&str>,
        epoch: Epoch,
        request: &Request,
        outcome: Option<&str>,
    ) -> Result<i64, OperatorError> {
        let what = "write the command down";
        let row = self
            .0
            .client
            .query_one(NOTE, &[&verb, &member, &epoch.get(), &request.who, &request.why, &outcome])
            .await
            .map_err(failed(what))?;
        row.try_get(0).map_err(failed(what))
    }

    /// Writes down what came of a command.
    pub(crate) async fn concluded(&self, id: i64, outcome: &str) -> Result<(), OperatorError> {
        let what = "write down what came of the command";
        bounded(what, async {
            self.0.client.execute(CONCLUDE, &[&id, &outcome]).await.map_err(failed(what)).map(drop)
        })
        .await
    }

    /// Epochs below `before`, the newest first.
    pub(crate) async fn history(
        &self,
        before: Option<Epoch>,
        limit: u16,
    ) -> Result<Vec<Reign>, OperatorError> {
        let what = "read the history of leadership";
        bounded(what, async {
            let client = &self.0.client;
            let before = before.map(Epoch::get);
            let limit = i64::from(limit.clamp(1, LONGEST));
            let rows = client.query(HISTORY, &[&before, &limit]).await.map_err(failed(what))?;
            let mut reigns: Vec<Reign> = Vec::with_capacity(rows.len());
            for row in &rows {
                reigns.push(reign(row).map_err(failed(what))?);
            }
            let epochs: Vec<i64> = reigns.iter().map(|reign| reign.epoch.get()).collect();
            for row in client.query(COMMANDS, &[&epochs]).await.map_err(failed(what))? {
                let epoch = Epoch::new(row.try_get(0).map_err(failed(what))?);
                if let Some(reign) = reigns.iter_mut().find(|reign| reign.epoch == epoch) {
                    reign.commands.push(commanded(&row).map_err(failed(what))?);
                }
            }
            Ok(reigns)
        })
        .await
    }
}

/// A command that was written down and is under way.
pub struct Noted {
    desk: Desk,
    id: i64,
}

impl Noted {
    pub(crate) async fn handover(
        config: &Config,
        to: Option<&Member>,
        epoch: Epoch,
        request: &Request,
    ) -> Result<Self, OperatorError> {
        let desk = Desk::open(config).await?;
        let note = desk.note("handover", to.map(Member::as_str), epoch, request, None);
        let id = bounded("write the command down", note).await?;
        Ok(Self { desk, id })
    }

    /// Writes down what came of it.
    pub async fn concluded(self, outcome: &str) {
        if let Err(error) = self.desk.concluded(self.id, outcome).await {
            tracing::warn!("[HA] the record lacks that a handover ended ({outcome}): {error}");
        }
    }
}

fn reign(row: &Row) -> Result<Reign, tokio_postgres::Error> {
    Ok(Reign {
        epoch: Epoch::new(row.try_get(0)?),
        member: row.try_get(1)?,
        incarnation: row.try_get::<_, Option<Uuid>>(2)?.map(Incarnation::from_uuid),
        reason: row.try_get(3)?,
        previous_member: row.try_get(4)?,
        gap_ms: row.try_get(5)?,
        started_at: row.try_get(6)?,
        ended_at: row.try_get(7)?,
        end_reason: row.try_get(8)?,
        commands: Vec::new(),
    })
}

fn commanded(row: &Row) -> Result<Commanded, tokio_postgres::Error> {
    Ok(Commanded {
        verb: row.try_get(1)?,
        member: row.try_get(2)?,
        who: row.try_get(3)?,
        why: row.try_get(4)?,
        outcome: row.try_get(5)?,
        at: row.try_get(6)?,
    })
}

fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> OperatorError {
    move |error| OperatorError::Failed { what, why: explain(&error) }
}

async fn bounded<T>(
    what: &'static str,
    work: impl Future<Output = Result<T, OperatorError>>,
) -> Result<T, OperatorError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        let why = format!(
            "PostgreSQL did not answer within {} ms; whether it was done is not known",
            PATIENCE.as_millis()
        );
        Err(OperatorError::Failed { what, why })
    })
}

const LOCK: &str = "
SELECT epoch, holder_member, backend_pid, backend_start FROM leadership WHERE id = 1 FOR UPDATE";

const KNOWN: &str = "SELECT 1 FROM instance WHERE member = $1 LIMIT 1";

const FENCE: &str =
    "INSERT INTO member_fence (member, who, why) VALUES ($1, $2, $3) ON CONFLICT (member) DO NOTHING";

const UNFENCE: &str = "DELETE FROM member_fence WHERE member = $1";

const DEPOSE: &str = "
UPDATE leadership
   SET epoch = $2, holder_member = NULL, holder_incarnation = NULL, backend_pid = NULL, backend_start = NULL,
       offer = NULL, successor_member = NULL, successor_incarnation = NULL, successor_since = NULL
 WHERE id = 1 AND epoch = $1";

const CLOSE: &str =
    "UPDATE leadership_history SET ended_at = now(), end_reason = 'fenced' WHERE ended_at IS NULL";

// Over as it begins: nobody holds it.
const RECORD: &str = "
INSERT INTO leadership_history (epoch, reason, previous_member, ended_at, end_reason)
VALUES ($1, 'fenced', $2, now(), 'vacant')";

const NOTE: &str = "
INSERT INTO leadership_command (verb, member, epoch, who, why, outcome, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $6::text IS NOT NULL THEN now() END) RETURNING id";

const CONCLUDE: &str = "UPDATE leadership_command SET outcome = $2, finished_at = now() WHERE id = $1";

const HISTORY: &str = "
SELECT epoch, member, incarnation, reason, previous_member, gap_ms, started_at, ended_at, end_reason
  FROM leadership_history WHERE $1::bigint IS NULL OR epoch < $1 ORDER BY epoch DESC LIMIT $2";

const COMMANDS: &str = "
SELECT epoch, verb, member, who, why, outcome, at FROM leadership_command
 WHERE epoch = ANY ($1) ORDER BY id LIMIT 10000";
