//! A leader without its pin: when it may try to resume, and when it is to give up. Pure; the agent carries it
//! out.

use crate::clock::Moment;
use crate::config::Timing;
use crate::pulse::Beat;
use crate::tenure::{Silence, Tenure};

/// The time between losing the pin and resuming or giving up.
#[derive(Clone, Debug)]
pub struct Exile {
    since: Moment,
    not_before: Moment,
    engine: Silence,
    taken_since: Option<Moment>,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing yet.
    Wait,
    /// Try to resume.
    Try,
    /// The engine counts as hung: give up.
    Hung,
}

// === impl Exile ===

impl Exile {
    /// Begins after a term that ended against its leader's will. A term that ended unproved is not resumed
    /// before T has passed, so that others have their chance.
    pub fn after(tenure: &Tenure, now: Moment, timing: &Timing) -> Self {
        let not_before = if tenure.proved() { now } else { now.plus(timing.ttl) };
        Self { since: now, not_before, engine: tenure.engine(), taken_since: None }
    }

    /// Begins after a handover that nobody took.
    pub fn after_release(engine: Silence, now: Moment) -> Self {
        Self { since: now, not_before: now, engine, taken_since: None }
    }

    /// What to do now. Only the member's one live process (`inside`) resumes, and only with an engine that
    /// lives: one that hangs would resume for ever, each time it was found stale.
    pub fn turn(&mut self, now: Moment, pulse: Beat, inside: bool, timing: &Timing) -> Turn {
        self.engine.listen(now, pulse, timing);
        if self.engine.is_hung(timing) {
            return Turn::Hung;
        }
        let may = now >= self.not_before && self.engine.is_recent(now, timing) && inside;
        if may { Turn::Try } else { Turn::Wait }
    }

    /// An attempt found another session on the pin. True once that has been so for T: give up.
    pub fn found_taken(&mut self, now: Moment, timing: &Timing) -> bool {
        now.since(*self.taken_since.get_or_insert(now)) >= timing.ttl
    }

    /// An attempt failed in another way.
    pub fn failed(&mut self) {
        self.taken_since = None;
    }

    /// Since when.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// The engine's silence so far; the resumed term goes on with it.
    pub fn engine(&self) -> Silence {
        self.engine
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(100_000 + ms))
    }

    fn unproved() -> Tenure {
        let timing = Timing::default();
        let pulse = Beat { count: 1, last: at(0) };
        Tenure::new(timing, at(0), Tenure::deadline_from(&timing, at(0)), Silence::new(at(0), pulse))
    }

    #[test]
    fn a_proved_term_is_resumed_at_once_and_an_unproved_one_after_t() {
        let timing = Timing::default();
        let beating = |count, ms| Beat { count, last: at(ms) };
        let mut late = Exile::after(&unproved(), at(100), &timing);
        assert_eq!(late.turn(at(3_099), beating(2, 3_099), true, &timing), Turn::Wait);
        assert_eq!(late.turn(at(3_100), beating(3, 3_100), true, &timing), Turn::Try);
        let mut proved = unproved();
        proved.confirmed(at(50), at(60));
        let mut soon = Exile::after(&proved, at(100), &timing);
        assert_eq!(soon.turn(at(101), beating(2, 100), false, &timing), Turn::Wait, "not the one process");
        assert_eq!(soon.turn(at(102), beating(2, 100), true, &timing), Turn::Try);
    }

    #[test]
    fn a_silent_engine_does_not_resume_and_is_hung_after_t() {
        let timing = Timing::default();
        let mut exile = Exile::after_release(Silence::new(at(0), Beat { count: 1, last: at(0) }), at(0));
        let silent = Beat { count: 1, last: at(0) };
        for now in (100..3_000).step_by(100) {
            let expected = if now <= 1_000 { Turn::Try } else { Turn::Wait };
            assert_eq!(exile.turn(at(now), silent, true, &timing), expected, "after {now} ms");
        }
        assert_eq!(exile.turn(at(3_000), silent, true, &timing), Turn::Hung);
    }

    #[test]
    fn a_pin_that_another_keeps_for_t_ends_it() {
        let timing = Timing::default();
        let mut exile = Exile::after_release(Silence::new(at(0), Beat { count: 1, last: at(0) }), at(0));
        assert!(!exile.found_taken(at(0), &timing));
        assert!(!exile.found_taken(at(2_999), &timing));
        exile.failed();
        assert!(!exile.found_taken(at(3_000), &timing), "counted anew");
        assert!(exile.found_taken(at(6_000), &timing));
    }
}
