//! A cluster for tests: real PostgreSQL and Redis, members as tasks of the test or as processes.
#![allow(dead_code, reason = "each test file uses its share")]

pub mod process;
pub mod redises;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ha::{BootClock, Clock, Config, Epoch, Fence, Handle, Member, OnHang, PgTls, Role, Status, Timing};
use local::Stores;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, NoTls};

/// T in most tests: short, and long enough for a busy machine with two cores.
pub const T: Duration = Duration::from_millis(1500);

/// How long anything may take before the test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub stores: Stores,
}

/// A member with an engine that does nothing but beat.
pub struct Running {
    pub handle: Handle,
    pub name: &'static str,
    engine: Engine,
}

struct Engine(AbortHandle);

impl World {
    /// Both stores, the schema, and a table that stands for the ledger's intents.
    pub async fn new() -> Self {
        let world = Self::without_schema().await;
        let sql = world.sql().await;
        sql.batch_execute(ha::SCHEMA).await.unwrap();
        sql.batch_execute(
            "CREATE TABLE journal (id bigserial PRIMARY KEY, epoch bigint NOT NULL, member text NOT NULL)",
        )
        .await
        .unwrap();
        world
    }

    pub async fn without_schema() -> Self {
        if std::env::var_os("HA_TEST_LOG").is_some() {
            let _ =
                tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init();
        }
        Self { stores: Stores::temporary().await.unwrap() }
    }

    /// A connection of the test's own.
    pub async fn sql(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.stores.database_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A connection to Redis of the test's own.
    pub async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.stores.redis_url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    pub fn config(&self, name: &str) -> Config {
        Config {
            cluster: "test".to_owned(),
            member: Member::new(name).unwrap(),
            version: "test".to_owned(),
            build: 0,
            address: format!("http://{name}.test"),
            priority: 1,
            timing: Timing::for_ttl(T),
            postgres: self.stores.database_url().parse().unwrap(),
            tls: PgTls::None,
            redis: ha::Redis::at(self.stores.redis_url()),
            on_hang: OnHang::StepDown,
        }
    }

    /// Joins a member that is ready to lead.
    pub async fn member(&self, name: &'static str) -> Running {
        self.member_with(name, |_| {}).await
    }

    pub async fn member_with(&self, name: &'static str, change: impl FnOnce(&mut Config)) -> Running {
        let running = self.recovering(name, change).await;
        running.handle.set_status(Status::Active).await;
        running
    }

    /// Joins a member that has not recovered.
    pub async fn recovering(&self, name: &'static str, change: impl FnOnce(&mut Config)) -> Running {
        self.recovering_by(Arc::new(BootClock), name, change).await
    }

    /// The same, by a clock of the test's own.
    pub async fn recovering_by(
        &self,
        clock: Arc<dyn Clock>,
        name: &'static str,
        change: impl FnOnce(&mut Config),
    ) -> Running {
        let mut config = self.config(name);
        change(&mut config);
        let handle = Handle::join(config, clock).await.unwrap();
        let pulse = handle.pulse();
        let engine = tokio::spawn(async move {
            loop {
                pulse.beat();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Running { handle, name, engine: Engine(engine.abort_handle()) }
    }

    /// Waits until the leader's term is proved: it beat after the promotion.
    pub async fn leader_beats(&self) {
        let sql = self.sql().await;
        let count = async || {
            let row = sql.query_one("SELECT counter FROM leader_heartbeat", &[]).await.ok()?;
            Some(row.get::<_, i64>(0))
        };
        let before = count().await.unwrap();
        eventually("the leader beats", async || count().await.filter(|now| *now > before)).await;
    }

    /// The epoch in the row.
    pub async fn epoch(&self) -> Epoch {
        Epoch::new(self.sql().await.query_one("SELECT epoch FROM leadership", &[]).await.unwrap().get(0))
    }

    /// Fails if a row of an old epoch was written after one of a newer epoch.
    pub async fn assert_journal_in_order(&self) {
        let late = "SELECT count(*) FROM (SELECT epoch, max(epoch) OVER (ORDER BY id) AS newest FROM journal) j \
                    WHERE epoch < newest";
        let late: i64 = self.sql().await.query_one(late, &[]).await.unwrap().get(0);
        assert_eq!(late, 0, "{late} rows were written under an old epoch");
    }
}

impl Running {
    /// Stops the engine's loop; the protocol runs on.
    pub fn hang(&self) {
        self.engine.0.abort();
    }

    pub fn role(&self) -> Role {
        self.handle.role().borrow().clone()
    }

    pub fn fence(&self) -> Option<Fence> {
        self.role().fence().cloned()
    }

    /// Waits for this member to lead.
    pub async fn leads(&self) -> Fence {
        let role =
            wait(&self.handle.role(), &format!("{} leads", self.name), |role| role.fence().is_some()).await;
        role.fence().unwrap().clone()
    }

    /// Waits for this follower to see a leader.
    pub async fn sees_leader(&self) {
        let what = format!("{} sees a leader", self.name);
        wait(&self.handle.role(), &what, |role| matches!(role, Role::Follower { leader: Some(_) })).await;
    }

    pub async fn follows(&self) {
        wait(&self.handle.role(), &format!("{} follows", self.name), |role| {
            matches!(role, Role::Follower { .. })
        })
        .await;
    }

    /// Leaves in good order.
    pub async fn leave(self) {
        self.handle.leave().await;
    }

    /// Ends like a crashed process would.
    pub fn crash(self) {
        drop(self);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for a watched value.
pub async fn wait<V: Clone>(value: &watch::Receiver<V>, what: &str, is_it: impl FnMut(&V) -> bool) -> V {
    let mut value = value.clone();
    let waited = tokio::time::timeout(PATIENCE, value.wait_for(is_it)).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}")).unwrap().clone()
}

/// Waits until one of the members leads with a fence that lets through, and returns its place in the list.
pub async fn some_leader(members: &[&Running]) -> usize {
    eventually("somebody leads", async || {
        members.iter().position(|member| member.fence().is_some_and(|fence| fence.check().is_ok()))
    })
    .await
}

/// Asks again and again until there is an answer.
pub async fn eventually<R>(what: &str, mut ask: impl AsyncFnMut() -> Option<R>) -> R {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Watches for a while that nobody but the leader leads, and that it goes on under the same epoch.
pub async fn stays_put(leader: &Running, others: &[&Running], span: Duration) {
    let epoch = leader.fence().expect("it leads").epoch();
    let end = Instant::now() + span;
    while Instant::now() < end {
        let fence = leader.fence().unwrap_or_else(|| panic!("{} stopped leading", leader.name));
        assert_eq!(fence.epoch(), epoch);
        fence.check().unwrap();
        for other in others {
            assert!(other.fence().is_none(), "{} leads beside {}", other.name, leader.name);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
