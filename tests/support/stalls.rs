//! How long the machine stood still: a bound on a time is a bound on the program, not on its neighbours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How often the watch looks at the clock; what it is late by beyond this is a stall.
const LOOK: Duration = Duration::from_millis(5);

/// A thread that adds up how late it is woken; ends with this.
pub struct Stalls {
    sum: Arc<AtomicU64>,
    _end: mpsc::Sender<()>,
}

/// The beginning of a time that is measured.
pub struct Begun<'a> {
    stalls: &'a Stalls,
    at: Instant,
    stalled: Duration,
}

impl Stalls {
    pub fn watch() -> Self {
        let (sum, (end, ended)) = (Arc::new(AtomicU64::new(0)), mpsc::channel::<()>());
        let added = Arc::clone(&sum);
        std::thread::spawn(move || {
            loop {
                let begun = Instant::now();
                if ended.recv_timeout(LOOK) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
                let late = begun.elapsed().saturating_sub(LOOK * 2);
                added.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
        Self { sum, _end: end }
    }

    /// Begins to measure.
    pub fn begin(&self) -> Begun<'_> {
        Begun { stalls: self, at: Instant::now(), stalled: self.so_far() }
    }

    fn so_far(&self) -> Duration {
        Duration::from_micros(self.sum.load(Ordering::Relaxed))
    }
}

impl Begun<'_> {
    /// The time since, without the machine's stalls.
    pub fn took(&self) -> Duration {
        self.at.elapsed().saturating_sub(self.stalls.so_far() - self.stalled)
    }
}
