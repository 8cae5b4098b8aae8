//! Time, injected. Every decision runs on the boot-time clock, which goes on counting while the host is
//! suspended; `std::time::Instant` does not, and a leader that slept through its deadline would believe it
//! still leads. The wall clock decides nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time: the time since the host booted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(Duration);

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The present.
    fn now(&self) -> Moment;
}

/// `CLOCK_BOOTTIME`: the same for all processes of a host, immune to wall-clock steps, counts suspension.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

/// A clock that stands still until it is told to move: for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

// === impl Moment ===

impl Moment {
    /// The moment this long after boot.
    pub const fn since_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time since boot.
    pub const fn elapsed_since_boot(self) -> Duration {
        self.0
    }

    /// This much later; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// This much earlier; saturates at boot.
    #[must_use]
    pub const fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time left until this moment, seen from `now`; zero once it has come.
    pub const fn until(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }

    /// Nanoseconds since boot, for atomics; saturates after 584 years.
    pub(crate) fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The reverse of [`Moment::as_nanos`].
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s after boot", self.0.as_secs_f64())
    }
}

// === impl BootClock ===

impl Clock for BootClock {
    fn now(&self) -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Moment(Duration::new(seconds, nanos))
    }
}

// === impl ManualClock ===

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let boot = Moment::default();
        let later = boot.plus(Duration::from_secs(3));
        assert_eq!(later.since(boot), Duration::from_secs(3));
        assert_eq!(boot.since(later), Duration::ZERO);
        assert_eq!(later.until(boot), Duration::from_secs(3));
        assert_eq!(boot.minus(Duration::from_secs(1)), boot);
        assert_eq!(later.plus(Duration::MAX), Moment::since_boot(Duration::MAX));
        assert_eq!(Moment::from_nanos(later.as_nanos()), later);
    }

    #[test]
    fn the_boot_clock_does_not_go_back() {
        let first = BootClock.now();
        assert!(BootClock.now() >= first);
        assert!(first > Moment::default());
    }
}
