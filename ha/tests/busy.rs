//! Members whose application keeps every worker of its runtime busy, and members whose protocol's own thread stands
//! still: each is found out without the other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ha::{BootClock, Clock, Fence, Fenced, Moment, Role, Status, Timing};
use support::{Running, T, World, eventually, stays_put, wait};
use tokio::runtime::{Builder, Runtime};

/// A runtime with one worker, which a test may keep busy.
struct Application {
    runtime: Option<Runtime>,
    release: Option<mpsc::Sender<()>>,
}

// === impl Application ===

impl Application {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime: Some(runtime), release: None }
    }

    /// A member whose engine runs here.
    async fn member(&self, world: &Arc<World>, name: &'static str) -> Running {
        self.member_with(world, name, T).await
    }

    async fn member_with(&self, world: &Arc<World>, name: &'static str, ttl: Duration) -> Running {
        let world = Arc::clone(world);
        let joining =
            async move { world.member_with(name, |config| config.timing = Timing::for_ttl(ttl)).await };
        self.runtime.as_ref().unwrap().spawn(joining).await.unwrap()
    }

    /// Keeps the worker busy until [`Application::release`].
    fn block(&mut self) {
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        self.runtime.as_ref().unwrap().spawn(async move {
            begin.send(()).unwrap();
            _ = released.recv();
        });
        begun.recv().unwrap();
        self.release = Some(release);
    }

    fn release(&mut self) {
        self.release.take();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.release();
        // A runtime must not be waited for within another.
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// A clock that a test can have stop whoever reads it on the protocol's thread, and nobody else.
#[derive(Debug, Default)]
struct Snare {
    set: Mutex<bool>,
    lifted: Condvar,
}

// === impl Snare ===

impl Snare {
    fn set(&self) {
        *self.set.lock().unwrap() = true;
    }

    fn lift(&self) {
        *self.set.lock().unwrap() = false;
        self.lifted.notify_all();
    }
}

impl Clock for Snare {
    fn now(&self) -> Moment {
        if thread::current().name() == Some("ha") {
            drop(self.lifted.wait_while(self.set.lock().unwrap(), |set| *set).unwrap());
        }
        BootClock.now()
    }
}

/// Journals every few milliseconds whatever the fence says, as one does that does not know yet, until nothing gets through.
async fn journals_carelessly(fence: Fence) -> u32 {
    const JOURNAL: &str = "WITH l AS (SELECT epoch FROM leadership WHERE epoch = $1 FOR SHARE) \
         INSERT INTO journal (epoch, member) SELECT epoch, $2 FROM l";
    let (epoch, member) = (fence.epoch().get(), fence.instance().member.as_str());
    let mut through = 0;
    while let Ok(1) = fence.session().execute(JOURNAL, &[&epoch, &member]).await {
        through += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    through
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_every_worker_is_busy_and_the_engine_has_just_turned() {
    let ttl = T * 4;
    let world = Arc::new(World::new().await);
    let mut application = Application::new();
    let b1 = application.member_with(&world, "b1", ttl).await;
    let fence = b1.leads().await;
    let mut redis = world.redis().await;
    let mut left =
        async || redis::cmd("PTTL").arg("baton:test:leader").query_async::<i64>(&mut redis).await.unwrap();
    for _ in 0..3 {
        application.block();
        let begun = Instant::now();
        // Renewed every sixth of T, by who asks that the engine has turned within a third.
        let mut before = left().await;
        while begun.elapsed() < ttl / 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = left().await;
            if now > before {
                break;
            }
            before = now;
        }
        let waited = begun.elapsed();
        assert!(waited < ttl / 4, "not renewed within {waited:?}");
        application.release();
        let beats = b1.handle.pulse().read().count;
        eventually("the engine turns", async || (b1.handle.pulse().read().count > beats + 5).then_some(()))
            .await;
    }
    assert_eq!(b1.fence().map(|now| now.epoch()), Some(fence.epoch()));
    fence.check().unwrap();
}

// R: S4, S9, L5
#[tokio::test(flavor = "multi_thread")]
async fn while_the_protocols_thread_stands_still_the_deadline_and_the_pin_stop_orders() {
    let world = World::new().await;
    let snare = Arc::new(Snare::default());
    let b1 = world.recovering_by(snare.clone(), "b1", |_| {}).await;
    b1.handle.set_status(Status::Active).await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    world.leader_beats().await;
    let careless = tokio::spawn(journals_carelessly(fence.clone()));
    snare.set();
    // Its engine beats, its application knows nothing: only time passes.
    let late = eventually("the deadline passes", async || fence.check().err()).await;
    assert!(matches!(late, Fenced::Late { .. }), "{late}");
    let next = b2.leads().await;
    assert!(next.epoch() > fence.epoch());
    assert!(matches!(fence.check(), Err(Fenced::Late { .. })), "nobody told it yet");
    assert!(matches!(b1.role(), Role::Leader(_)));
    assert!(careless.await.unwrap() > 0);
    snare.lift();
    b1.follows().await;
    assert!(matches!(fence.check(), Err(Fenced::Closed { .. })));
    world.assert_journal_in_order().await;
    stays_put(&b2, &[&b1], T).await;
}

// R: L5
#[tokio::test(flavor = "multi_thread")]
async fn l5_a_leader_whose_every_worker_is_busy_finds_itself_out_and_is_replaced() {
    let world = Arc::new(World::new().await);
    let mut application = Application::new();
    let b1 = application.member(&world, "b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let busy = Instant::now();
    application.block();
    let next = b2.leads().await;
    println!("busy leader to the next one: {:?} with T = {T:?}", busy.elapsed());
    assert!(next.epoch() > fence.epoch());
    assert!(busy.elapsed() < T * 3, "replaced only after {:?}", busy.elapsed());
    // It knows while its workers are busy still, and not when they have time again.
    b1.follows().await;
    assert!(fence.check().is_err());
    application.release();
    stays_put(&b2, &[&b1], T).await;
}

// R: L5
#[tokio::test(flavor = "multi_thread")]
async fn l5_a_follower_whose_every_worker_is_busy_does_not_stand() {
    let world = Arc::new(World::new().await);
    let b1 = world.member("b1").await;
    let old = b1.leads().await.epoch();
    let mut application = Application::new();
    let b2 = application.member(&world, "b2").await;
    let b3 = world.member_with("b3", |config| config.priority = 9).await;
    b2.sees_leader().await;
    b3.sees_leader().await;
    application.block();
    wait(&b2.handle.stats(), "b2 knows that its engine is silent", |stats| {
        stats.waiting.contains("its engine has finished no iteration")
    })
    .await;
    b1.crash();
    assert!(b3.leads().await.epoch() > old);
    assert!(b2.handle.stats().borrow().transitions.is_empty(), "it stood, and would have traded nothing");
    application.release();
    stays_put(&b3, &[&b2], T).await;
}

// R: S12
#[tokio::test(flavor = "multi_thread")]
async fn s12_a_restart_beside_a_process_whose_engine_hangs_takes_its_place() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let hung = world.member("b2").await;
    hung.sees_leader().await;
    let counts_as_alive = async |alive: bool| {
        let what = format!("b2 counts as alive: {alive}");
        eventually(&what, async || {
            let listed = b1.handle.instances().await.ok()?;
            let b2 = listed.iter().find(|info| info.instance == *hung.handle.instance())?;
            (b2.alive == alive).then_some(())
        })
        .await;
    };
    counts_as_alive(true).await;
    hung.hang();
    counts_as_alive(false).await;
    let again = world.member("b2").await;
    let is_in = |stats: &ha::Stats| stats.status == Some(Status::Active);
    wait(&again.handle.stats(), "the newcomer is in", is_in).await;
    wait(&hung.handle.role(), "the other is out", |role| matches!(role, Role::Stopped { .. })).await;
    stays_put(&b1, &[&again], T / 2).await;
}
