//! Members whose application keeps every worker of its runtime busy: the protocol has a thread of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::{Arc, mpsc};
use std::time::Instant;

use support::{Running, T, World, stays_put, wait};
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
        let world = Arc::clone(world);
        let joining = async move { world.member(name).await };
        self.runtime.as_ref().unwrap().spawn(joining).await.unwrap()
    }

    /// Keeps the worker busy until [`Application::release`].
    fn block(&mut self) {
        let (release, released) = mpsc::channel::<()>();
        let blocking = async move { _ = released.recv() };
        self.runtime.as_ref().unwrap().spawn(blocking);
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
