//! How far a recovery has come, while it runs: shown by `/healthz`, the cluster's view and `baton status`, and said in
//! the log when it takes long.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ledger::snapshot::{Meter, READS};

/// What a recovery is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Stored state is being read.
    Reading,
    /// What was read is being proven.
    Proving,
    /// The database failed; the next attempt comes soon.
    Waiting,
}

/// A recovery under way.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Progress {
    /// What it is at.
    pub step: Step,
    /// Which attempt this is.
    pub attempt: u32,
    /// After how many it gives up.
    pub attempts: u32,
    /// Statements that have been read to their end.
    pub reads: u64,
    /// How many there are.
    pub of_reads: u64,
    /// Rows that have come so far.
    pub rows: u64,
    /// Since it began.
    pub took_ms: u64,
    /// All of it in words.
    pub sentence: String,
}

/// What runs now.
#[derive(Clone, Debug)]
struct Running {
    begun: Instant,
    attempt: u32,
    attempts: u32,
    step: Step,
    meter: Arc<Meter>,
}

/// Remembers the recovery that began last, until it ends; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker(Arc<Mutex<Option<Running>>>);

/// One recovery's hold on the tracker.
pub(super) struct Tracked {
    tracker: Tracker,
    begun: Instant,
}

// === impl Step ===

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reading => "reading stored state",
            Self::Proving => "proving stored state",
            Self::Waiting => "waiting for the database",
        })
    }
}

// === impl Tracker ===

impl Tracker {
    /// A recovery begins that makes up to `attempts` attempts.
    pub(super) fn begin(&self, attempts: u32) -> Tracked {
        let begun = Instant::now();
        let running = Running { begun, attempt: 1, attempts, step: Step::Reading, meter: Arc::default() };
        *self.lock() = Some(running);
        Tracked { tracker: self.clone(), begun }
    }

    /// The recovery that runs now.
    pub(super) fn now(&self) -> Option<Progress> {
        let Running { begun, attempt, attempts, step, meter } = self.lock().clone()?;
        let (reads, rows, took) = (meter.reads(), meter.rows(), begun.elapsed());
        let tries = if attempt > 1 { format!(", attempt {attempt} of {attempts}") } else { String::new() };
        let sentence =
            format!("{step}: {reads} of {READS} reads done, {rows} rows, {:.1} s{tries}", took.as_secs_f64());
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Some(Progress { step, attempt, attempts, reads, of_reads: READS, rows, took_ms, sentence })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tracked ===

impl Tracked {
    /// An attempt begins; its reading is counted by the meter.
    pub(super) fn attempt(&self, number: u32, meter: &Arc<Meter>) {
        self.set(|running| {
            (running.attempt, running.step, running.meter) = (number, Step::Reading, Arc::clone(meter));
        });
    }

    /// It is at another step.
    pub(super) fn step(&self, step: Step) {
        self.set(|running| running.step = step);
    }

    /// Says what it is at whenever another `pace` has passed, without end.
    pub(super) async fn tell(&self, pace: Duration) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(pace).await;
            if let Some(progress) = self.tracker.now() {
                tracing::info!(rows = progress.rows, "[RECOVERY] still {}", progress.sentence);
            }
        }
    }

    fn set(&self, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.tracker.lock().as_mut().filter(|running| running.begun == self.begun) {
            change(running);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // One that began later is shown on.
        self.tracker.lock().take_if(|running| running.begun == self.begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_began_is_shown_until_it_ends() {
        let tracker = Tracker::default();
        assert_eq!(tracker.now(), None);
        let first = tracker.begin(3);
        let meter = Arc::new(Meter::default());
        first.attempt(2, &meter);
        first.step(Step::Waiting);
        let now = tracker.now().unwrap();
        assert_eq!((now.step, now.attempt, now.attempts), (Step::Waiting, 2, 3));
        assert!(
            now.sentence
                .starts_with(&format!("waiting for the database: 0 of {READS} reads done, 0 rows, 0.")),
            "{now:?}"
        );
        assert!(now.sentence.ends_with("s, attempt 2 of 3"), "{now:?}");

        let second = tracker.begin(3);
        first.step(Step::Proving);
        assert_eq!(tracker.now().unwrap().step, Step::Reading, "the older one changes nothing any more");
        drop(first);
        assert_eq!(tracker.now().unwrap().attempt, 1);
        drop(second);
        assert_eq!(tracker.now(), None);
    }
}
