//! A database that is away while an instance starts: tried again as often, and after the same waits, as a recovery does; then waited
//! for, and looked for at the last of those waits until it comes.

use std::time::Duration;

use crate::causes::with_causes;
use crate::config::Recovery;
use crate::health::operational::OperationalState;
use crate::ledger::LedgerError;
use crate::telemetry::metrics::Metrics;

/// However often it is tried, and however long the first wait is, it is looked for once a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// The attempts of a start to reach its database.
#[derive(Debug)]
pub(super) struct Attempts {
    settings: Recovery,
    made: u32,
}

impl Attempts {
    /// None was made yet.
    pub(super) fn new(settings: Recovery) -> Self {
        Self { settings, made: 0 }
    }

    /// It was reached: if it goes away again, that is another outage.
    pub(super) fn over(&mut self) {
        self.made = 0;
    }

    /// Tells of one that failed, and says how long to wait before the next.
    pub(super) fn failed(
        &mut self,
        error: &LedgerError,
        operational: &OperationalState,
        metrics: &Metrics,
    ) -> Duration {
        let of = self.settings.attempts;
        let wait = self.wait();
        self.made = self.made.saturating_add(1);
        let ms = wait.as_millis();
        if self.made < of {
            tracing::warn!(
                attempt = self.made,
                error = error as &dyn std::error::Error,
                "[RECOVERY] attempt {} of {of} to reach the database failed; the next in {ms} ms",
                self.made
            );
            return wait;
        }
        if self.made == of {
            tracing::error!(
                code = "DB_UNAVAILABLE",
                error = error as &dyn std::error::Error,
                "[RECOVERY] Failed to reach the database in {of} attempts"
            );
        }
        // As a recovery that finds it away, which begins only once the instance has joined.
        metrics.recovery_failures.with_label_values(&["DB_UNAVAILABLE"]).inc();
        operational.waiting(format!(
            "DB_UNAVAILABLE: the database could not be reached in {of} attempts: {}: check that PostgreSQL runs and that \
             postgres.url is right; looking again every {ms} ms",
            with_causes(error)
        ));
        wait
    }

    /// After the attempt that is made now: doubled each time, but not beyond the last.
    fn wait(&self) -> Duration {
        let doubled = self.made.min(self.settings.attempts.saturating_sub(1)).min(16);
        self.settings.backoff.saturating_mul(1 << doubled).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::health::operational::State;

    fn settings(attempts: u32, backoff: Duration) -> Recovery {
        Recovery { attempts, backoff, reconcile: Duration::ZERO, drift_settle: Duration::ZERO }
    }

    // R: C2, C5: 1, 2, 4 s, and then every 4 s; nothing is said of the state before the last attempt.
    #[test]
    fn three_attempts_are_made_before_it_waits_and_then_it_looks_at_the_last_ones_pace() {
        let metrics = Arc::new(Metrics::new());
        let (operational, _changes) = OperationalState::new(Arc::clone(&metrics));
        let mut attempts = Attempts::new(settings(3, Duration::from_secs(1)));
        let error = LedgerError::TimedOut { within_ms: 5 };
        let seen: Vec<(u64, State, u64)> = (0..5)
            .map(|_| {
                let wait = attempts.failed(&error, &operational, &metrics);
                let state = operational.watch().borrow().state;
                (
                    wait.as_secs(),
                    state,
                    metrics.recovery_failures.with_label_values(&["DB_UNAVAILABLE"]).get(),
                )
            })
            .collect();
        let (start, waits) = (State::Starting, State::Waiting);
        assert_eq!(seen, [(1, start, 0), (2, start, 0), (4, waits, 1), (4, waits, 2), (4, waits, 3)]);
        let reason = operational.watch().borrow().reason.clone();
        assert!(
            reason.contains("in 3 attempts") && reason.ends_with("looking again every 4000 ms"),
            "{reason}"
        );
        attempts.over();
        assert_eq!(attempts.failed(&error, &operational, &metrics), Duration::from_secs(1));
    }

    #[test]
    fn no_wait_is_longer_than_a_minute() {
        let mut attempts = Attempts::new(settings(100, Duration::from_secs(1)));
        attempts.made = 99;
        assert_eq!(attempts.wait(), LONGEST);
        assert_eq!(Attempts::new(settings(1, Duration::from_secs(2))).wait(), Duration::from_secs(2));
    }
}
