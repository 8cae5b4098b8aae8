//! A host's clock and what waits by it. Clocks start apart and drift apart, by up to 500 ppm.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ha::{Clock, Moment};

use super::Process;
use crate::world::World;

impl Process {
    pub fn world(&self) -> Rc<World> {
        self.world.borrow().upgrade().expect("the world outlives its processes")
    }

    /// What this host's clock shows at a true moment: they start apart and drift apart.
    pub(super) fn shown(&self, at: u64) -> u64 {
        let drift = i128::from(at) * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(self.offset + at) + drift).unwrap_or(0)
    }

    /// Sets the clock to the present. Called whenever one of the process's tasks gets its turn.
    pub fn tick(&self) {
        let target = self.shown(self.world().now());
        let now = self.clock.now().elapsed_since_boot();
        let behind = Duration::from_nanos(target).saturating_sub(now);
        self.clock.advance(behind);
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The true moment a span of this host's time ahead.
    pub(super) fn ahead(&self, span: Duration) -> u64 {
        let nanos = i128::try_from(span.as_nanos()).unwrap().min(1 << 60);
        let truly = nanos - nanos * i128::from(self.drift_ppm) / 1_000_000;
        self.world().now() + u64::try_from(truly.max(0)).unwrap()
    }

    pub async fn sleep(&self, span: Duration) {
        let until = self.ahead(span);
        self.until_or(until, || false).await;
    }

    /// Waits for something that a nudge announces, until a true moment at the latest; true if it came.
    pub async fn until_or(&self, until: u64, mut come: impl FnMut() -> bool) -> bool {
        let world = self.world();
        world.wake_me_at(until);
        poll_fn(move |_| {
            if come() {
                Poll::Ready(true)
            } else if world.now() >= until {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Like Tokio's timeout: the work is polled first, and dropped when the time is over.
    pub async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        let world = self.world();
        let until = self.ahead(patience);
        world.wake_me_at(until);
        let mut work = pin!(work);
        poll_fn(move |cx| match work.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if world.now() >= until => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The true moment that this host will call so.
    pub fn true_moment(&self, at: Moment) -> u64 {
        self.ahead(at.until(self.now()))
    }
}
