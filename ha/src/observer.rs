//! A task that watches leadership over a session of its own.
//!
//! Each look is one statement: the leadership row, the heartbeat counter, the session that holds the pin
//! (read from `pg_locks`: *trying* the lock would take it) and the answer to an open offer. Looks come at a
//! pace, at every NOTIFY on the channel, and when the agent asks. The latest one is a watched value; a look
//! carries the serial of its connection, so that nobody mistakes two connections for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::election::{Look, Offer, Row};
use crate::ids::{Epoch, Incarnation, Instance, Member};
use crate::locks;
use crate::session::{AbortOnDrop, Backend, Purpose, Session, sentence};

/// What the observer sees now.
#[derive(Clone, Debug, Default)]
pub(crate) enum Sight {
    /// Nothing yet.
    #[default]
    Dark,
    /// The last look.
    Seen(Arc<Look>),
    /// The last look failed, and since when they do.
    Blind { since: Moment, why: Arc<str> },
}

/// A running observer. Dropping it ends the task and its session.
pub(crate) struct Observer {
    sight: watch::Receiver<Sight>,
    session: watch::Receiver<Option<Arc<Session>>>,
    shared: Arc<Shared>,
    _task: AbortOnDrop,
}

struct Shared {
    bell: Arc<Notify>,
    pace_ms: AtomicU64,
}

/// Why a statement on the observer's session did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserverError {
    #[error("the observer has no session to PostgreSQL")]
    Absent,
    #[error("cannot {what}: {}", sentence(.source))]
    Statement { what: &'static str, source: tokio_postgres::Error },
    #[error("PostgreSQL did not {what} within {} ms", .patience.as_millis())]
    TimedOut { what: &'static str, patience: Duration },
}

// The pin's id is split over two columns of pg_locks.
const LOOK: &str = "
SELECT l.epoch, l.holder_member, l.holder_incarnation, holder.address, h.counter,
       p.pid, coalesce(p.backend_start, 'epoch'), l.offer, l.successor_member, l.successor_incarnation,
       coalesce(successor.acknowledged_offer = l.offer, false), l.paused, l.cluster
  FROM leadership l
  JOIN leader_heartbeat h ON h.id = 1
  LEFT JOIN instance holder ON holder.incarnation = l.holder_incarnation
  LEFT JOIN instance successor ON successor.incarnation = l.successor_incarnation
  LEFT JOIN LATERAL (
       SELECT k.pid, a.backend_start
         FROM pg_locks k LEFT JOIN LATERAL pg_stat_get_activity(k.pid) a ON true
        WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
          AND k.classid = (($1::bigint >> 32) & 4294967295)::oid
          AND k.objid = ($1::bigint & 4294967295)::oid
          AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        LIMIT 1) p ON true
 WHERE l.id = 1";

// Ends a session only while everything that condemned it still holds.
const EVICT: &str = "
SELECT pg_terminate_backend(k.pid)
  FROM pg_locks k LEFT JOIN LATERAL pg_stat_get_activity(k.pid) a ON true
 WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
   AND k.classid = (($1::bigint >> 32) & 4294967295)::oid AND k.objid = ($1::bigint & 4294967295)::oid
   AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND k.pid = $2 AND coalesce(a.backend_start, 'epoch') = $3
   AND EXISTS (SELECT 1 FROM leadership l, leader_heartbeat h WHERE l.epoch = $4 AND h.counter = $5)";

const BLOCKERS: &str = "
SELECT b.pid, a.backend_start
  FROM unnest(pg_blocking_pids($1)) AS b(pid), LATERAL pg_stat_get_activity(b.pid) a
 WHERE a.backend_start IS NOT NULL";

pub(crate) const END_BACKEND: &str = "
SELECT pg_terminate_backend(a.pid) FROM pg_stat_get_activity($1) a WHERE a.backend_start = $2";

const ACKNOWLEDGE: &str = "
WITH done AS (UPDATE instance SET acknowledged_offer = $1 WHERE incarnation = $2 AND status = 'active' RETURNING 1)
SELECT pg_notify('baton_ha', 'offer acknowledged') FROM done";

// === impl Observer ===

impl Observer {
    /// Starts watching.
    pub(crate) fn start(config: Arc<Config>, clock: Arc<dyn Clock>) -> Self {
        let (show, sight) = watch::channel(Sight::Dark);
        let (lend, session) = watch::channel(None);
        let shared = Arc::new(Shared {
            bell: Arc::new(Notify::new()),
            pace_ms: AtomicU64::new(millis(config.timing.watch)),
        });
        let task = tokio::spawn(watch_for_ever(config, clock, show, lend, shared.clone()));
        Self { sight, session, shared, _task: AbortOnDrop::new(task.abort_handle()) }
    }

    /// The watched sight.
    pub(crate) fn sight(&self) -> watch::Receiver<Sight> {
        self.sight.clone()
    }

    /// The last look, if the last attempt succeeded.
    pub(crate) fn look(&self) -> Option<Arc<Look>> {
        match &*self.sight.borrow() {
            Sight::Seen(look) => Some(look.clone()),
            Sight::Dark | Sight::Blind { .. } => None,
        }
    }

    /// Asks for a look now.
    pub(crate) fn poke(&self) {
        self.shared.bell.notify_one();
    }

    /// Sets how often to look.
    pub(crate) fn pace(&self, every: Duration) {
        self.shared.pace_ms.store(millis(every), Ordering::Relaxed);
        self.poke();
    }

    /// Ends the session that holds the pin, if it, the epoch and the counter are still the ones observed.
    pub(crate) async fn evict(
        &self,
        pin: Backend,
        epoch: Epoch,
        counter: i64,
        patience: Duration,
    ) -> Result<bool, ObserverError> {
        let params: [&(dyn ToSql + Sync); 5] = [&locks::PIN, &pin.pid, &pin.start, &epoch.get(), &counter];
        let rows = self.query("end the stale leader's session", EVICT, &params, patience).await?;
        Ok(rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)))
    }

    /// Names the sessions that block a backend.
    pub(crate) async fn blockers(&self, of: i32, patience: Duration) -> Result<Vec<Backend>, ObserverError> {
        let rows = self.query("name the blocking sessions", BLOCKERS, &[&of], patience).await?;
        rows.iter()
            .map(backend)
            .collect::<Result<_, _>>()
            .map_err(|source| ObserverError::Statement { what: "name the blocking sessions", source })
    }

    /// Ends a session that is named for good.
    pub(crate) async fn end(&self, target: Backend, patience: Duration) -> Result<bool, ObserverError> {
        let params: [&(dyn ToSql + Sync); 2] = [&target.pid, &target.start];
        let rows = self.query("end a session", END_BACKEND, &params, patience).await?;
        Ok(!rows.is_empty())
    }

    /// Accepts a handover offer, durably.
    pub(crate) async fn acknowledge(
        &self,
        offer: Uuid,
        me: Incarnation,
        patience: Duration,
    ) -> Result<bool, ObserverError> {
        let me = me.as_uuid();
        let rows = self.query("acknowledge the offer", ACKNOWLEDGE, &[&offer, &me], patience).await?;
        Ok(!rows.is_empty())
    }

    async fn query(
        &self,
        what: &'static str,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
        patience: Duration,
    ) -> Result<Vec<SqlRow>, ObserverError> {
        let session = self.session.borrow().clone().ok_or(ObserverError::Absent)?;
        match tokio::time::timeout(patience, session.query(sql, params)).await {
            Ok(answer) => answer.map_err(|source| ObserverError::Statement { what, source }),
            Err(_) => Err(ObserverError::TimedOut { what, patience }),
        }
    }
}

async fn watch_for_ever(
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    show: watch::Sender<Sight>,
    lend: watch::Sender<Option<Arc<Session>>>,
    shared: Arc<Shared>,
) {
    let patience = config.timing.idle_in_transaction();
    let mut serial = 0;
    let mut blind_since = None;
    let mut pause = config.timing.watch;
    loop {
        let why = match Session::open(&config, Purpose::Observer, patience, Some(shared.bell.clone())).await {
            Ok(session) => {
                serial += 1;
                let session = Arc::new(session);
                lend.send_replace(Some(session.clone()));
                let why = look_while_it_lasts(&session, serial, &clock, &show, &shared, patience).await;
                session.close();
                lend.send_replace(None);
                // After a session that lived the next attempt comes soon.
                if matches!(*show.borrow(), Sight::Seen(_)) {
                    blind_since = None;
                    pause = config.timing.watch;
                }
                why
            }
            Err(error) => error.to_string(),
        };
        let since = *blind_since.get_or_insert_with(|| clock.now());
        show.send_replace(Sight::Blind { since, why: Arc::from(why) });
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// Looks until the session fails, and says how it did.
async fn look_while_it_lasts(
    session: &Session,
    serial: u64,
    clock: &Arc<dyn Clock>,
    show: &watch::Sender<Sight>,
    shared: &Shared,
    patience: Duration,
) -> String {
    let prepared = async {
        session.client.batch_execute(&format!("LISTEN {}", locks::CHANNEL)).await?;
        // What a takeover or an answer to an offer needs is ready before it is needed.
        session.prepare(EVICT).await?;
        session.prepare(ACKNOWLEDGE).await?;
        session.prepare(LOOK).await
    };
    match tokio::time::timeout(patience, prepared).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return explain(&error),
        Err(_) => return format!("PostgreSQL did not answer within {} ms", patience.as_millis()),
    }
    let mut spread = 0_u64;
    loop {
        match look(session, serial, clock, patience).await {
            Ok(look) => {
                show.send_replace(Sight::Seen(Arc::new(look)));
            }
            Err(why) => return why,
        }
        // Followers that started together drift apart: the pace is spread over 0 to 9 ms.
        spread = (spread + 7) % 10;
        let pause = Duration::from_millis(shared.pace_ms.load(Ordering::Relaxed) + spread);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.bell.notified() => {}
            why = session.ended() => return format!("the observer's session ended: {why}"),
        }
    }
}

async fn look(
    session: &Session,
    serial: u64,
    clock: &Arc<dyn Clock>,
    patience: Duration,
) -> Result<Look, String> {
    let started = clock.now();
    let answer = tokio::time::timeout(patience, session.query_one(LOOK, &[&locks::PIN])).await;
    let row = match answer {
        Ok(Ok(row)) => read(&row).map_err(|error| explain(&error))?,
        Ok(Err(error)) => return Err(explain(&error)),
        Err(_) => return Err(format!("PostgreSQL did not answer within {} ms", patience.as_millis())),
    };
    Ok(Look { session: serial, started, finished: clock.now(), row })
}

fn read(row: &SqlRow) -> Result<Row, tokio_postgres::Error> {
    let pin: Option<i32> = row.try_get(5)?;
    let pin = match pin {
        Some(pid) => Some(Backend { pid, start: row.try_get(6)? }),
        None => None,
    };
    let offer: Option<Uuid> = row.try_get(7)?;
    let to = instance(row.try_get(8)?, row.try_get(9)?);
    let acknowledged: bool = row.try_get(10)?;
    Ok(Row {
        epoch: Epoch::new(row.try_get(0)?),
        holder: instance(row.try_get(1)?, row.try_get(2)?),
        holder_address: row.try_get(3)?,
        counter: row.try_get(4)?,
        pin,
        offer: offer.zip(to).map(|(id, to)| Offer { id, to, acknowledged }),
        paused: row.try_get(11)?,
        cluster: row.try_get(12)?,
    })
}

pub(crate) fn instance(member: Option<String>, incarnation: Option<Uuid>) -> Option<Instance> {
    let member = Member::new(member?).ok()?;
    Some(Instance { member, incarnation: Incarnation::from_uuid(incarnation?) })
}

fn backend(row: &SqlRow) -> Result<Backend, tokio_postgres::Error> {
    Ok(Backend { pid: row.try_get(0)?, start: row.try_get(1)? })
}

/// An error in words, with the remedy where it is known.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    use tokio_postgres::error::SqlState;
    let line = sentence(error);
    match error.code() {
        Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN => {
            format!("the schema is missing or old, run `baton migrate`: {line}")
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            format!("the database role lacks a right: {line}")
        }
        _ => line,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
