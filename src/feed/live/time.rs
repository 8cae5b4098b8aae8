//! Time as the feed takes it: a clock that also wakes, so that a day of connections can be played in a moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, FutureExt};
use ha::{BootClock, Clock};

/// A clock that wakes, and knows the time of day that others know.
pub trait Time: Clock {
    /// Ready after this time.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Since the Unix epoch, by the wall clock: what all members agree on, give or take what their hosts differ by.
    fn wall(&self) -> Duration;
}

impl Time for BootClock {
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
