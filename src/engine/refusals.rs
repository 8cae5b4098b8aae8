//! Changes that PostgreSQL refuses again and again: no waiting mends them, and a leader that goes on trying looks alive
//! while it neither trades nor lets another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha::{Fence, Moment};

use super::Engine;
use crate::causes::with_causes;
use crate::ledger::LedgerError;

/// How often the same change may be refused before leadership is given up.
const TIMES: u32 = 5;
/// Refusals further apart than this do not belong together.
const TOGETHER: Duration = Duration::from_secs(60);

/// Counts them over the terms of a process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Option<Last>>>);

#[derive(Debug)]
struct Last {
    said: String,
    times: u32,
    at: Moment,
}

impl Refusals {
    /// Counts a failure; says what was refused once the same has been refused too often in a row.
    fn count(&self, error: &LedgerError, now: Moment) -> Option<String> {
        if !error.is_refusal() {
            return None;
        }
        let said = with_causes(error);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take().filter(|last| last.said == said && now.since(last.at) < TOGETHER);
        let times = before.map_or(0, |last| last.times) + 1;
        if times >= TIMES {
            return Some(said);
        }
        *last = Some(Last { said, times, at: now });
        None
    }
}

impl Engine {
    /// Notes that the ledger failed under a leader. What is refused for ever becomes an ERROR, and leadership is given up:
    /// another instance may know better, and whoever watches sees that nobody trades. True when it was.
    pub(super) fn gives_up(&self, fence: &Fence, error: &LedgerError) -> bool {
        let Some(said) = self.refusals.count(error, fence.now()) else { return false };
        let why = format!("PostgreSQL refused the same change {TIMES} times: {said}");
        tracing::error!("[HA] leadership is given up: {why}");
        self.operational.error("DATA_CORRUPT", format!("DATA_CORRUPT: {why}"));
        fence.report_fenced(&why);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(what: &str) -> LedgerError {
        LedgerError::Conflict { what: what.to_owned() }
    }

    fn at(seconds: u64) -> Moment {
        Moment::since_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn the_same_refusal_in_a_row_is_for_ever_another_or_a_later_one_is_not() {
        let refusals = Refusals::default();
        for second in 1..u64::from(TIMES) {
            assert_eq!(refusals.count(&conflict("position A"), at(second)), None);
        }
        assert!(refusals.count(&conflict("position A"), at(5)).is_some());
        assert_eq!(refusals.count(&conflict("position A"), at(6)), None, "counted anew");
        for second in 7..30 {
            assert_eq!(refusals.count(&conflict(&format!("position {}", second % 2)), at(second)), None);
        }
        for minute in 1..20 {
            assert_eq!(refusals.count(&conflict("position B"), at(60 * minute)), None);
        }
    }

    #[test]
    fn a_database_that_is_away_is_waited_for() {
        let refusals = Refusals::default();
        for second in 0..100 {
            assert_eq!(refusals.count(&LedgerError::TimedOut { within_ms: 3000 }, at(second)), None);
        }
    }
}
