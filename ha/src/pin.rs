//! The session pin: a dedicated connection that holds the one advisory lock and carries everything that is
//! authorised by leadership. All statements about the leadership row that a leader or candidate makes are here.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::config::Config;
use crate::election::Ballot;
use crate::ids::{Epoch, Instance};
use crate::locks;
use crate::observer::{END_BACKEND, explain, instance};
use crate::office::{Office, Promotion, Refusal};
use crate::session::{AbortOnDrop, Backend, Database, OpenError, Purpose, Session};
use crate::stats::Reason;

/// A statement about leadership did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot {what}: {}", explain(.source))]
    Statement { what: &'static str, source: tokio_postgres::Error },
    #[error("PostgreSQL did not {what} within {} ms", .patience.as_millis())]
    TimedOut { what: &'static str, patience: Duration },
    #[error("another session holds the pin")]
    Taken,
    #[error("the leadership row changed since the evidence was seen: {0}")]
    Overtaken(String),
    #[error(
        "this database belongs to cluster {theirs:?}, this instance to {ours:?}: give each cluster a database"
    )]
    OtherCluster { ours: String, theirs: String },
    #[error("epoch {highest} is in force, higher than {mine}")]
    Outbid { mine: Epoch, highest: Epoch },
    #[error("the epochs are used up at {0}")]
    Exhausted(Epoch),
    #[error("PostgreSQL failed over: the epoch was minted on another system or timeline")]
    OtherDatabase,
}

impl PinError {
    /// A row lock was waited for in vain.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Statement { source, .. }
            if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// What the row's refusal means for an instance of `cluster` that has, or wants to end, epoch `mine`.
    fn refused(mine: Epoch, cluster: &str, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Overtaken(why) => Self::Overtaken(why),
            Refusal::Outbid(highest) => Self::Outbid { mine, highest },
            Refusal::Exhausted(at) => Self::Exhausted(at),
            Refusal::OtherCluster(theirs) => Self::OtherCluster { ours: cluster.to_owned(), theirs },
        }
    }

    /// The session can be used on: the statement failed, not the connection.
    pub(crate) fn spares_session(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if source.as_db_error().is_some_and(|e| {
            !matches!(e.severity(), "FATAL" | "PANIC")
        }))
    }
}

/// Opens a session for the pin and makes it warm: the statements of a promotion are prepared and run once
/// without effect, so that the server has read its catalogues before they are needed in earnest.
///
/// Its connection is served by `home`, the runtime whose tasks journal: elsewhere each statement would change threads twice.
/// A runtime that has no time for it is not waited for.
pub(crate) async fn open(
    home: &Handle,
    config: &Arc<Config>,
    patience: Duration,
) -> Result<Session, PinError> {
    let config = Arc::clone(config);
    let opening = home.spawn(async move { open_here(&config, patience).await });
    let _given_up = AbortOnDrop::new(opening.abort_handle());
    match tokio::time::timeout(patience * 2, opening).await {
        Ok(Ok(opened)) => opened,
        // Too busy, or on its way out.
        Ok(Err(_)) | Err(_) => Err(PinError::TimedOut { what: "open a session for the pin", patience }),
    }
}

async fn open_here(config: &Config, patience: Duration) -> Result<Session, PinError> {
    let session = Session::open(config, Purpose::Pin, patience, None).await?;
    bounded("prepare the session", patience, async {
        session.prepare(TAKE).await?;
        session.prepare(RELEASE).await?;
        session.query(LOCK_ROW, &[&NO_ROW]).await?;
        let (none, start) = (-1_i64, session.backend.start);
        let (pid, no, nil) = (session.backend.pid, false, Uuid::nil());
        let reason = Reason::Crash.name();
        session
            .query(
                PROMOTE,
                &[
                    &none,
                    &"",
                    &nil,
                    &pid,
                    &start,
                    &none,
                    &"",
                    &"",
                    &no,
                    &reason,
                    &None::<&str>,
                    &None::<Uuid>,
                    &None::<i64>,
                    &none,
                ],
            )
            .await?;
        session.query(BEAT, &[&none]).await
    })
    .await?;
    Ok(session)
}

/// Tries the lock once; never blocks in it.
pub(crate) async fn try_take(session: &Session, patience: Duration) -> Result<bool, PinError> {
    bounded("take the pin", patience, async {
        let row = session.query_one(TAKE, &[&locks::PIN]).await?;
        row.try_get(0)
    })
    .await
}

/// Tries the lock for up to `patience`. An attempt without an answer closes the session: session locks stack,
/// and nobody knows whether that one was taken.
pub(crate) async fn take(session: &Session, patience: Duration) -> Result<(), PinError> {
    let until = tokio::time::Instant::now() + patience;
    loop {
        match try_take(session, patience).await {
            Ok(true) => return Ok(()),
            Ok(false) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(false) => return Err(PinError::Taken),
            Err(error) => {
                session.close();
                return Err(error);
            }
        }
    }
}

/// Mints the next epoch. One transaction: the row is locked before it is read, so whoever commits under the old
/// epoch has done so by then, and nobody does afterwards.
pub(crate) async fn promote(
    session: &Session,
    config: &Config,
    me: &Instance,
    ballot: &Ballot,
    floor: Epoch,
    gap: Option<Duration>,
    patience: Duration,
) -> Result<Promotion, PinError> {
    let what = "promote this instance";
    let statement = |source| PinError::Statement { what, source };
    let work = async {
        let client = &session.client;
        client.batch_execute("BEGIN").await.map_err(statement)?;
        let row = session.query_one(LOCK_ROW, &[&THE_ROW]).await.map_err(statement)?;
        let office = read_office(&row).map_err(statement)?;
        let here = &session.database;
        let promotion = office
            .promotion(ballot, floor, &config.cluster, here)
            .map_err(|refusal| PinError::refused(ballot.epoch, &config.cluster, refusal))?;
        let (member, incarnation) = (me.member.as_str(), me.incarnation.as_uuid());
        let previous = ballot.previous.as_ref();
        let previous_member = previous.map(|p| p.member.as_str());
        let previous_incarnation = previous.map(|p| p.incarnation.as_uuid());
        let gap_ms = gap.map(|gap| i64::try_from(gap.as_millis()).unwrap_or(i64::MAX));
        let promoted = session
            .query(
                PROMOTE,
                &[
                    &promotion.epoch.get(),
                    &member,
                    &incarnation,
                    &session.backend.pid,
                    &session.backend.start,
                    &here.system_identifier,
                    &here.timeline,
                    &config.cluster,
                    &promotion.failed_over,
                    &ballot.reason.name(),
                    &previous_member,
                    &previous_incarnation,
                    &gap_ms,
                    &office.epoch.get(),
                ],
            )
            .await
            .map_err(statement)?;
        if promoted.is_empty() {
            return Err(PinError::Overtaken("the row was not there to be changed".to_owned()));
        }
        client.batch_execute("COMMIT").await.map_err(statement)?;
        Ok(promotion)
    };
    match tokio::time::timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PinError::TimedOut { what, patience }),
    }
}

/// Bumps the counter, if the epoch is still in force.
pub(crate) async fn beat(session: &Session, epoch: Epoch, patience: Duration) -> Result<(), PinError> {
    let (beaten, highest) = bounded("beat the heart", patience, async {
        let row = session.query_one(BEAT, &[&epoch.get()]).await?;
        Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, i64>(1)?))
    })
    .await?;
    if beaten { Ok(()) } else { Err(PinError::Outbid { mine: epoch, highest: Epoch::new(highest) }) }
}

/// Offers leadership to a successor; replaces an earlier offer.
pub(crate) async fn offer(
    session: &Session,
    epoch: Epoch,
    id: Uuid,
    to: &Instance,
    patience: Duration,
) -> Result<(), PinError> {
    let (member, incarnation) = (to.member.as_str(), to.incarnation.as_uuid());
    let rows = bounded("offer a handover", patience, async {
        session.query(OFFER, &[&epoch.get(), &id, &member, &incarnation]).await
    })
    .await?;
    if rows.is_empty() { Err(PinError::Overtaken(format!("epoch {epoch} is over"))) } else { Ok(()) }
}

/// Withdraws an offer.
pub(crate) async fn withdraw(session: &Session, epoch: Epoch, patience: Duration) -> Result<(), PinError> {
    bounded("withdraw the offer", patience, async { session.query(WITHDRAW, &[&epoch.get()]).await }).await?;
    Ok(())
}

/// Releases the pin and tells everybody.
pub(crate) async fn release(session: &Session, patience: Duration) -> Result<(), PinError> {
    bounded("release the pin", patience, async { session.query(RELEASE, &[&locks::PIN]).await }).await?;
    Ok(())
}

/// Leaves the office empty: the last act of a leader that goes without a successor.
pub(crate) async fn vacate(
    session: &Session,
    epoch: Epoch,
    why: &str,
    patience: Duration,
) -> Result<(), PinError> {
    bounded("vacate the office", patience, async { session.query(VACATE, &[&epoch.get(), &why]).await })
        .await?;
    Ok(())
}

/// What a leader that lost its session has to prove to go on under the same epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) me: Instance,
    pub(crate) epoch: Epoch,
    pub(crate) old: Backend,
    pub(crate) database: Database,
}

/// Resumes an epoch on a new session: the old one is ended first, the row has to name this instance and epoch
/// still, and it names the new session before anything else is done there.
pub(crate) async fn resume(session: &Session, claim: &Claim, patience: Duration) -> Result<(), PinError> {
    if session.database != claim.database {
        return Err(PinError::OtherDatabase);
    }
    let what = "resume the epoch";
    let statement = |source| PinError::Statement { what, source };
    let work = async {
        let client = &session.client;
        session.query(END_BACKEND, &[&claim.old.pid, &claim.old.start]).await.map_err(statement)?;
        take(session, Duration::from_millis(100).min(patience)).await?;
        client.batch_execute("BEGIN").await.map_err(statement)?;
        let row = session.query_one(LOCK_ROW, &[&THE_ROW]).await.map_err(statement)?;
        let office = read_office(&row).map_err(statement)?;
        office
            .resumption(&claim.me, claim.epoch)
            .map_err(|refusal| PinError::refused(claim.epoch, "", refusal))?;
        session
            .query(RESUME, &[&claim.epoch.get(), &session.backend.pid, &session.backend.start])
            .await
            .map_err(statement)?;
        client.batch_execute("COMMIT").await.map_err(statement)
    };
    match tokio::time::timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PinError::TimedOut { what, patience }),
    }
}

/// Reads what [`LOCK_ROW`] gives.
fn read_office(row: &tokio_postgres::Row) -> Result<Office, tokio_postgres::Error> {
    Ok(Office {
        epoch: Epoch::new(row.try_get(0)?),
        cluster: row.try_get(1)?,
        paused: row.try_get(2)?,
        system_identifier: row.try_get(3)?,
        timeline: row.try_get(4)?,
        holder: instance(row.try_get(5)?, row.try_get(6)?),
    })
}

async fn bounded<T>(
    what: &'static str,
    patience: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, PinError> {
    match tokio::time::timeout(patience, work).await {
        Ok(answer) => answer.map_err(|source| PinError::Statement { what, source }),
        Err(_) => Err(PinError::TimedOut { what, patience }),
    }
}

/// The id of the one row, and one that is never there.
const THE_ROW: i16 = 1;
const NO_ROW: i16 = -1;

const TAKE: &str = "SELECT pg_try_advisory_lock($1)";

const RELEASE: &str = "SELECT pg_advisory_unlock($1), pg_notify('baton_ha', 'released')";

const LOCK_ROW: &str = "
SELECT epoch, cluster, paused, system_identifier, timeline, holder_member, holder_incarnation
  FROM leadership WHERE id = $1 FOR UPDATE";

const PROMOTE: &str = "
WITH new AS (
    UPDATE leadership
       SET epoch = $1, holder_member = $2, holder_incarnation = $3, backend_pid = $4, backend_start = $5,
           acquired_at = now(), system_identifier = $6, timeline = $7, cluster = $8,
           successor_member = NULL, successor_incarnation = NULL, offer = NULL, successor_since = NULL,
           reduce_only = reduce_only OR $9
     WHERE id = 1 AND epoch = $14 RETURNING 1),
beat AS (
    UPDATE leader_heartbeat SET counter = counter + 1, epoch = $1, beat_at = now()
     WHERE id = 1 AND EXISTS (SELECT 1 FROM new)),
ended AS (
    UPDATE leadership_history SET ended_at = now(), end_reason = $10
     WHERE ended_at IS NULL AND EXISTS (SELECT 1 FROM new)),
begun AS (
    INSERT INTO leadership_history
        (epoch, member, incarnation, reason, previous_member, previous_incarnation, gap_ms)
    SELECT $1, $2, $3, $10, $11, $12, $13 FROM new),
noted AS (
    INSERT INTO switch_history (switch, value, who, why)
    SELECT 'reduce_only', true, $2,
           'PostgreSQL failed over (other system or timeline): what was committed last may be missing'
      FROM new WHERE $9)
SELECT pg_notify('baton_ha', 'epoch ' || $1::text) FROM new";

const BEAT: &str = "
WITH done AS (
    UPDATE leader_heartbeat h SET counter = h.counter + 1, epoch = $1, beat_at = now()
      FROM leadership l WHERE h.id = 1 AND l.id = 1 AND l.epoch = $1 RETURNING 1)
SELECT EXISTS (SELECT 1 FROM done), l.epoch FROM leadership l WHERE l.id = 1";

const OFFER: &str = "
WITH done AS (
    UPDATE leadership SET offer = $2, successor_member = $3, successor_incarnation = $4, successor_since = now()
     WHERE id = 1 AND epoch = $1 RETURNING 1)
SELECT pg_notify('baton_ha', 'offer') FROM done";

const WITHDRAW: &str = "
UPDATE leadership
   SET offer = NULL, successor_member = NULL, successor_incarnation = NULL, successor_since = NULL
 WHERE id = 1 AND epoch = $1 AND offer IS NOT NULL";

const VACATE: &str = "
WITH done AS (
    UPDATE leadership
       SET holder_member = NULL, holder_incarnation = NULL, backend_pid = NULL, backend_start = NULL,
           offer = NULL, successor_member = NULL, successor_incarnation = NULL, successor_since = NULL
     WHERE id = 1 AND epoch = $1 RETURNING 1),
ended AS (
    UPDATE leadership_history SET ended_at = now(), end_reason = $2
     WHERE epoch = $1 AND ended_at IS NULL AND EXISTS (SELECT 1 FROM done))
SELECT pg_notify('baton_ha', 'vacant') FROM done";

const RESUME: &str = "
WITH new AS (
    UPDATE leadership
       SET backend_pid = $2, backend_start = $3,
           offer = NULL, successor_member = NULL, successor_incarnation = NULL, successor_since = NULL
     WHERE id = 1 AND epoch = $1 RETURNING 1),
beat AS (UPDATE leader_heartbeat SET counter = counter + 1, epoch = $1, beat_at = now() WHERE id = 1)
SELECT pg_notify('baton_ha', 'resumed') FROM new";
