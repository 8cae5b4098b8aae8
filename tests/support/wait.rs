//! Level-triggered waits: look, look again, give up at a deadline with what was last seen.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use chrono::{NaiveTime, TimeDelta, Timelike, Utc};

/// Between two looks.
const PACE: Duration = Duration::from_millis(4);

/// Looks until `look` gives a value.
///
/// # Panics
/// With what was last seen, when `patience` is over.
pub async fn until<T, S: Debug>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => {
                assert!(begun.elapsed() < patience, "not within {patience:?}: {what}; last seen: {seen:?}");
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The time of day in India; near midnight only once that is over, since no session there spans it.
pub async fn time_in_india() -> NaiveTime {
    loop {
        let now = (Utc::now() + TimeDelta::minutes(330)).time();
        if (now.hour(), now.minute()) < (23, 54) {
            return now;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Median, 95th percentile and largest of some times.
pub fn spread(times: &mut [Duration]) -> (Duration, Duration, Duration) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).clamp(1, times.len()) - 1];
    (at(50), at(95), at(100))
}
