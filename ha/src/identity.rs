//! One live process per member, and the registry.
//!
//! A task with a session of its own takes the member's lock, keeps the instance's row, and commits a liveness
//! counter every T/6. It is also what proves that this process can commit: a follower whose liveness commits do
//! not go through deposes nobody. The counter stands still while the engine has finished no iteration for T: a process
//! whose engine hangs is nobody's successor, and a restart of its member takes its place. Beside PostgreSQL it
//! publishes the instance in Redis, which decides nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::ToSql;

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::ids::Instance;
use crate::lease::RedisLease;
use crate::locks;
use crate::observer::{END_BACKEND, explain, instance};
use crate::pulse::Pulse;
use crate::role::Status;
use crate::roll::{Door, Entry, Occupant, Peers};
use crate::session::{AbortOnDrop, Backend, Purpose, Session};
use crate::stats::InstanceInfo;
use crate::tenure::turns;

/// Whether this process fills its member's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Membership {
    /// Not yet, or not at this moment.
    Outside { since: Moment, why: Arc<str> },
    /// It holds the member lock.
    Inside,
    /// Another live process does. Final.
    Refused,
}

/// What the task knows, as a watched value.
#[derive(Clone, Debug)]
pub(crate) struct Roll {
    pub(crate) membership: Membership,
    /// The status as PostgreSQL has it.
    pub(crate) status: Option<Status>,
    /// Start of the last liveness commit that went through on the present session.
    pub(crate) last_commit: Option<Moment>,
    pub(crate) peers: Arc<[InstanceInfo]>,
    /// What Redis said last.
    pub(crate) redis: Option<Result<(), Arc<str>>>,
}

/// What is to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    pub(crate) status: Status,
    pub(crate) held_down: bool,
    pub(crate) reach: Option<bool>,
}

/// A running registration. Dropping it ends the task and frees the member lock.
pub(crate) struct Identity {
    roll: watch::Receiver<Roll>,
    wish: watch::Sender<Wish>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    _task: AbortOnDrop,
}

/// The registry entry in Redis.
#[derive(Serialize, Deserialize)]
struct Entered {
    instance: Instance,
    version: String,
    build: i64,
    address: String,
    priority: u8,
    status: Status,
    held_down: bool,
    #[serde(default)]
    reach: Option<bool>,
}

struct Task {
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    me: Instance,
    pulse: Pulse,
    /// Until it first beats, the engine counts as silent from here on.
    began: Moment,
    redis: RedisLease,
    roll: watch::Sender<Roll>,
    wish: watch::Receiver<Wish>,
    leave: mpsc::Receiver<oneshot::Sender<()>>,
    /// The session that held the lock before the present one, if it may still do so.
    previous: Option<Backend>,
    peers: Peers,
    /// When Redis was first tried, and when it last answered.
    redis_since: Option<Moment>,
    redis_last: Option<Moment>,
}

enum End {
    Broken(String),
    Refused,
    Left(oneshot::Sender<()>),
}

const DOOR: &str = "
SELECT k.pid, coalesce(a.backend_start, 'epoch'),
       (SELECT coalesce(sum(liveness), 0)::bigint FROM instance WHERE member = $2)
  FROM pg_locks k LEFT JOIN LATERAL pg_stat_get_activity(k.pid) a ON true
 WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
   AND k.classid = (($1::bigint >> 32) & 4294967295)::oid AND k.objid = ($1::bigint & 4294967295)::oid
   AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

const EVICT: &str = "
SELECT pg_terminate_backend(k.pid)
  FROM pg_locks k LEFT JOIN LATERAL pg_stat_get_activity(k.pid) a ON true
 WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
   AND k.classid = (($1::bigint >> 32) & 4294967295)::oid AND k.objid = ($1::bigint & 4294967295)::oid
   AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND k.pid = $3 AND coalesce(a.backend_start, 'epoch') = $4
   AND (SELECT coalesce(sum(liveness), 0)::bigint FROM instance WHERE member = $2) = $5";

const ENTER: &str = "
WITH gone AS (
    UPDATE instance SET status = 'gone', status_since = now()
     WHERE member = $2 AND incarnation <> $1 AND status <> 'gone')
INSERT INTO instance (incarnation, member, version, build, address, priority, status, held_down, reach, redis)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (incarnation) DO UPDATE
   SET liveness = instance.liveness + CASE WHEN $11 THEN 1 ELSE 0 END, seen_at = now(), held_down = excluded.held_down,
       reach = excluded.reach, redis = excluded.redis, status = excluded.status,
       status_since = CASE WHEN instance.status = excluded.status THEN instance.status_since ELSE now() END";

const STRIKE: &str = "UPDATE instance SET status = 'gone', status_since = now() WHERE incarnation = $1";

const LIST: &str = "
SELECT incarnation, member, version, build, address, priority, status, held_down, liveness,
       EXISTS (SELECT 1 FROM member_fence f WHERE f.member = instance.member), reach, redis
  FROM instance WHERE status <> 'gone' ORDER BY member LIMIT 1000";

// === impl Identity ===

impl Identity {
    /// Starts registering.
    pub(crate) fn start(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        me: Instance,
        pulse: Pulse,
        redis: RedisLease,
    ) -> Self {
        let (tell, roll) = watch::channel(Roll {
            membership: Membership::Outside { since: clock.now(), why: Arc::from("not tried yet") },
            status: None,
            last_commit: None,
            peers: Arc::from([]),
            redis: None,
        });
        let (wish, wished) =
            watch::channel(Wish { status: Status::Recovering, held_down: false, reach: None });
        let (leave, leaving) = mpsc::channel(1);
        let peers = Peers::new(&config.timing);
        let task = Task {
            began: clock.now(),
            config,
            clock,
            me,
            pulse,
            redis,
            roll: tell,
            wish: wished,
            leave: leaving,
            previous: None,
            peers,
            redis_since: None,
            redis_last: None,
        };
        let task = tokio::spawn(task.run());
        Self { roll, wish, leave, _task: AbortOnDrop::new(task.abort_handle()) }
    }

    /// The watched state.
    pub(crate) fn roll(&self) -> watch::Receiver<Roll> {
        self.roll.clone()
    }

    /// Wants something stored.
    pub(crate) fn wish(&self, change: impl FnOnce(&mut Wish)) {
        self.wish.send_if_modified(|wish| {
            let before = *wish;
            change(wish);
            before != *wish
        });
    }

    /// The way to want something without the identity at hand.
    pub(crate) fn wisher(&self) -> watch::Sender<Wish> {
        self.wish.clone()
    }

    /// What is wanted.
    pub(crate) fn wanted(&self) -> Wish {
        *self.wish.borrow()
    }

    /// Strikes the instance off both registries, as far as they can be reached.
    pub(crate) async fn leave(&self, patience: Duration) {
        let (done, gone) = oneshot::channel();
        if self.leave.send(done).await.is_ok() {
            // Unreachable stores forget the instance by themselves.
            let _ = tokio::time::timeout(patience, gone).await;
        }
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        let patience = self.config.timing.idle_in_transaction();
        let mut pause = self.config.timing.watch;
        loop {
            let end = match Session::open(&self.config, Purpose::Identity, patience, None).await {
                Ok(session) => {
                    let end = self.serve(&session, patience).await;
                    if self.roll.borrow().membership == Membership::Inside {
                        self.previous = Some(session.backend);
                        pause = self.config.timing.watch;
                    }
                    session.close();
                    end
                }
                Err(error) => End::Broken(error.to_string()),
            };
            match end {
                End::Broken(why) => self.outside(&why),
                End::Refused => {
                    self.roll.send_modify(|roll| {
                        roll.membership = Membership::Refused;
                        roll.last_commit = None;
                        roll.status = None;
                    });
                    return;
                }
                End::Left(done) => {
                    let _ = done.send(());
                    return;
                }
            }
            // Redis is told even while PostgreSQL is away.
            self.publish().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(done) = self.leave.recv() => {
                    let _ = self.redis.retract(&self.me).await;
                    let _ = done.send(());
                    return;
                }
            }
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    fn outside(&self, why: &str) {
        let now = self.clock.now();
        self.roll.send_if_modified(|roll| {
            let since = match &roll.membership {
                Membership::Outside { why: known, .. } if **known == *why => return false,
                Membership::Outside { since, .. } => *since,
                Membership::Inside | Membership::Refused => now,
            };
            roll.membership = Membership::Outside { since, why: Arc::from(why) };
            roll.last_commit = None;
            true
        });
    }

    async fn serve(&mut self, session: &Session, patience: Duration) -> End {
        match tokio::time::timeout(self.config.timing.ttl * 4, self.enter(session, patience)).await {
            Ok(Ok(())) => {}
            Ok(Err(end)) => return end,
            Err(_) => return End::Broken("the member's place did not become free".to_owned()),
        }
        loop {
            let commit = tokio::time::timeout(patience, self.commit(session));
            match commit.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return End::Broken(explain(&error)),
                Err(_) => {
                    return End::Broken(format!("no commit within {} ms", patience.as_millis()));
                }
            }
            self.publish().await;
            tokio::select! {
                () = tokio::time::sleep(self.config.timing.renew) => {}
                Ok(()) = self.wish.changed() => {}
                why = session.ended() => return End::Broken(format!("the identity session ended: {why}")),
                Some(done) = self.leave.recv() => {
                    let incarnation = self.me.incarnation.as_uuid();
                    let strike = async {
                        let params: [&(dyn ToSql + Sync); 1] = [&incarnation];
                        session.query(STRIKE, &params).await
                    };
                    let (_, _) = tokio::join!(tokio::time::timeout(patience, strike), self.redis.retract(&self.me));
                    return End::Left(done);
                }
            }
        }
    }

    /// Takes the member lock, or finds out that a live process has it.
    async fn enter(&mut self, session: &Session, patience: Duration) -> Result<(), End> {
        let member = self.me.member.as_str().to_owned();
        let lock = locks::member(&member);
        let broken = |error: tokio_postgres::Error| End::Broken(explain(&error));
        let mut door = Door::new(&self.config.timing);
        loop {
            if let Some(old) = self.previous.take() {
                // The lock's last holder was this very process, on a connection that broke.
                session.query(END_BACKEND, &[&old.pid, &old.start]).await.map_err(broken)?;
            }
            let row = session.query_one("SELECT pg_try_advisory_lock($1)", &[&lock]).await;
            if row.map_err(broken)?.try_get(0).map_err(broken)? {
                return Ok(());
            }
            let started = self.clock.now();
            let row = session.query(DOOR, &[&lock, &member]).await.map_err(broken)?;
            let Some(row) = row.first() else { continue };
            let occupant = Occupant {
                backend: Backend {
                    pid: row.try_get(0).map_err(broken)?,
                    start: row.try_get(1).map_err(broken)?,
                },
                liveness: row.try_get(2).map_err(broken)?,
            };
            match door.look(occupant, started, self.clock.now()) {
                Entry::Wait => {
                    let why = format!(
                        "another session holds the place of member {member}; watching whether it lives"
                    );
                    self.outside(&why);
                }
                Entry::Refused => return Err(End::Refused),
                Entry::Evict(Occupant { backend, liveness }) => {
                    tracing::warn!(
                        pid = backend.pid,
                        "[HA] ends the session that held the place of member {member}: it gave no sign of life for T"
                    );
                    session
                        .query(EVICT, &[&lock, &member, &backend.pid, &backend.start, &liveness])
                        .await
                        .map_err(broken)?;
                    door = Door::new(&self.config.timing);
                }
            }
            tokio::time::sleep(self.config.timing.watch.min(patience)).await;
        }
    }

    /// One liveness commit: bumps the counter while the engine lives, stores the wish, lists the peers.
    async fn commit(&mut self, session: &Session) -> Result<(), tokio_postgres::Error> {
        let wish = *self.wish.borrow_and_update();
        let started = self.clock.now();
        let (member, incarnation) = (self.me.member.as_str(), self.me.incarnation.as_uuid());
        session
            .query(
                ENTER,
                &[
                    &incarnation,
                    &member,
                    &self.config.version,
                    &self.config.build,
                    &self.config.address,
                    &i16::from(self.config.priority),
                    &wish.status.name(),
                    &wish.held_down,
                    &wish.reach,
                    &self.reaches_redis(),
                    &turns(&self.config.timing, self.began, self.pulse.read(), started),
                ],
            )
            .await?;
        let rows = session.query(LIST, &[]).await?;
        let mut listed = Vec::with_capacity(rows.len());
        for row in &rows {
            listed.extend(read(row)?);
        }
        let peers = self.peers.judge(listed, self.clock.now());
        let before = self.roll.borrow().status;
        self.roll.send_modify(|roll| {
            roll.membership = Membership::Inside;
            roll.status = Some(wish.status);
            roll.last_commit = Some(started);
            roll.peers = Arc::from(peers);
        });
        if before != Some(wish.status) {
            announce(wish.status);
        }
        Ok(())
    }

    fn note_redis(&mut self, reached: bool) {
        let now = self.clock.now();
        self.redis_since.get_or_insert(now);
        if reached {
            self.redis_last = Some(now);
        }
    }

    /// Whether Redis was reached within T; unknown for T after the first try.
    fn reaches_redis(&self) -> Option<bool> {
        let (now, ttl) = (self.clock.now(), self.config.timing.ttl);
        match (self.redis_since?, self.redis_last) {
            (_, Some(last)) => Some(now.since(last) < ttl),
            (since, None) => (now.since(since) >= ttl).then_some(false),
        }
    }

    /// Publishes the instance in Redis, for whoever looks there.
    async fn publish(&mut self) {
        let Wish { status, held_down, reach } = *self.wish.borrow();
        let entered = Entered {
            instance: self.me.clone(),
            version: self.config.version.clone(),
            build: self.config.build,
            address: self.config.address.clone(),
            priority: self.config.priority,
            status,
            held_down,
            reach,
        };
        let Ok(entry) = serde_json::to_string(&entered) else { return };
        let outcome = self.redis.publish(&self.me, &entry, self.config.timing.ttl).await;
        let outcome = outcome.map_err(|error| Arc::from(error.to_string()));
        self.note_redis(outcome.is_ok());
        self.roll.send_if_modified(|roll| {
            let changed = roll.redis.as_ref() != Some(&outcome);
            roll.redis = Some(outcome);
            changed
        });
    }
}

fn announce(status: Status) {
    match status {
        Status::Active => {
            tracing::info!("[HA] Instance status set to 'active' in HA system - ready for leader election")
        }
        other => tracing::info!("[HA] Instance status set to '{other}' in HA system"),
    }
}

fn read(row: &SqlRow) -> Result<Option<(InstanceInfo, i64)>, tokio_postgres::Error> {
    let Some(instance) = instance(row.try_get(1)?, row.try_get(0)?) else { return Ok(None) };
    let status: String = row.try_get(6)?;
    let priority: i16 = row.try_get(5)?;
    let info = InstanceInfo {
        instance,
        version: row.try_get(2)?,
        build: row.try_get(3)?,
        address: row.try_get(4)?,
        priority: u8::try_from(priority).unwrap_or(0),
        status: Status::from_name(&status).unwrap_or(Status::Recovering),
        alive: false,
        held_down: row.try_get(7)?,
        fenced: row.try_get(9)?,
        reach: row.try_get(10)?,
        redis: row.try_get(11)?,
    };
    Ok(Some((info, row.try_get(8)?)))
}

/// Reads a registry entry as Redis has it. An entry is there only while its instance publishes it.
pub(crate) fn from_redis(entry: &str) -> Option<InstanceInfo> {
    let entered: Entered = serde_json::from_str(entry).ok()?;
    Some(InstanceInfo {
        instance: entered.instance,
        version: entered.version,
        build: entered.build,
        address: entered.address,
        priority: entered.priority,
        status: entered.status,
        alive: true,
        held_down: entered.held_down,
        // Redis is not told of fences.
        fenced: false,
        reach: entered.reach,
        redis: Some(true),
    })
}
