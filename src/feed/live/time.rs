//! Time as the feed takes it: a clock that also wakes, so that a day of connections can be played in a moment.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use ha::{BootClock, Clock};

/// A clock that wakes.
pub trait Time: Clock {
    /// Ready after this time.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

impl Time for BootClock {
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }
}

/// What came of `work`, unless it takes longer than `limit`.
pub(super) async fn within<T>(time: &dyn Time, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = time.sleep(limit) => None,
    }
}
