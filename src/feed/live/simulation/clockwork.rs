//! Time that moves when nobody has anything to do.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use ha::{Clock, Moment};

use super::Time;

/// Time that the test moves.
#[derive(Clone, Default)]
pub(super) struct Virtual(Arc<Mutex<Hours24>>);

#[derive(Default)]
pub(super) struct Hours24 {
    now: Duration,
    pub sleepers: BTreeMap<(Duration, u64), Waker>,
    slept: u64,
}

struct Sleep {
    time: Virtual,
    key: (Duration, u64),
}

impl Virtual {
    pub fn lock(&self) -> MutexGuard<'_, Hours24> {
        self.0.lock().unwrap()
    }

    pub fn elapsed(&self) -> Duration {
        self.lock().now
    }

    /// Moves to the next sleeper; false when there is none.
    fn advance(&self) -> bool {
        let mut state = self.lock();
        let Some(((at, _), waker)) = state.sleepers.pop_first() else { return false };
        state.now = state.now.max(at);
        drop(state);
        waker.wake();
        true
    }
}

impl Clock for Virtual {
    fn now(&self) -> Moment {
        Moment::since_boot(self.elapsed())
    }
}

impl Time for Virtual {
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.lock();
        state.slept += 1;
        let key = (state.now + time, state.slept);
        Sleep { time: self.clone(), key }.boxed()
    }

    fn wall(&self) -> Duration {
        self.elapsed()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.lock();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.time.lock().sleepers.remove(&self.key);
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs tasks until one of them ends; time moves when all of them wait.
pub(super) fn play(time: &Virtual, tasks: Vec<BoxFuture<'_, ()>>) {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
    loop {
        while flag.0.swap(false, Ordering::Relaxed) {
            if tasks.poll_next_unpin(&mut Context::from_waker(&waker)).is_ready() {
                return;
            }
        }
        assert!(time.advance(), "everything waits for ever at {:?}", time.elapsed());
    }
}
