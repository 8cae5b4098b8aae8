//! What a leader may do with its leadership: a synchronous state machine over the engine's pulse and the
//! heartbeats PostgreSQL confirmed. It does no I/O and reads no clock.

use std::time::Duration;

use crate::clock::Moment;
use crate::config::Timing;
use crate::pulse::Beat;

/// A leader's time in office.
#[derive(Debug)]
pub struct Tenure {
    timing: Timing,
    deadline: Moment,
    next_beat: Moment,
    engine: Silence,
    proved: bool,
}

/// How long the engine has been silent, counted only while this process ran: after a SIGSTOP the engine gets its
/// turn before it is called hung. It outlives a suspension: an engine that hangs does not get T anew each time
/// its leadership is resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silence {
    pulse: Beat,
    silent: Duration,
    last_look: Moment,
}

/// What a leader has to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// Beat and renew.
    Beat,
    /// Nothing before this moment.
    Rest(Moment),
    /// The engine is silent: neither beat nor renew; look again at this moment.
    Withhold(Moment),
    /// The deadline has passed: suspend.
    Expired,
    /// The engine has been silent for T: close the pin.
    Hung,
}

/// Whether the lease is renewed: only while the engine beats, as for the heartbeat. `began` is when the term did.
pub fn renews(timing: &Timing, began: Moment, pulse: Beat, now: Moment) -> bool {
    now.since(pulse.last.max(began)) <= timing.pulse_window()
}

/// Whether an instance that does not lead counts as alive: its engine has beaten within T. `began` is when it joined,
/// for an engine that never has.
pub fn turns(timing: &Timing, began: Moment, pulse: Beat, now: Moment) -> bool {
    now.since(pulse.last.max(began)) < timing.ttl
}

// === impl Tenure ===

impl Tenure {
    /// A term that began with a heartbeat confirmed in time. A term that begins with a promotion takes a fresh
    /// [`Silence`], a resumed one that of the term it resumes.
    pub fn new(timing: Timing, confirmed: Moment, deadline: Moment, engine: Silence) -> Self {
        Self { timing, deadline, next_beat: confirmed.plus(timing.renew), engine, proved: false }
    }

    /// The deadline a heartbeat buys that starts at `started`.
    pub fn deadline_from(timing: &Timing, started: Moment) -> Moment {
        started.plus(timing.validity())
    }

    /// The deadline.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// What to do now.
    pub fn duty(&mut self, now: Moment, pulse: Beat) -> Duty {
        self.engine.listen(now, pulse, &self.timing);
        if self.engine.is_hung(&self.timing) {
            return Duty::Hung;
        }
        if now >= self.deadline {
            return Duty::Expired;
        }
        if now < self.next_beat {
            return Duty::Rest(self.next_beat);
        }
        if !self.engine.is_recent(now, &self.timing) {
            // Short steps: a beat of the engine is answered soon, a passed deadline noticed in time.
            return Duty::Withhold(now.plus(self.timing.renew / 5).min(self.deadline));
        }
        Duty::Beat
    }

    /// A heartbeat that started at `started` was confirmed at `now`. Returns the new deadline, or nothing if
    /// the old one had passed by then: a late confirmation revives nothing.
    pub fn confirmed(&mut self, started: Moment, now: Moment) -> Option<Moment> {
        if now >= self.deadline {
            return None;
        }
        self.deadline = self.deadline.max(Self::deadline_from(&self.timing, started));
        self.next_beat = started.plus(self.timing.renew);
        self.proved = true;
        Some(self.deadline)
    }

    /// A heartbeat failed without ending the session (a lock timeout): try again soon.
    pub fn failed(&mut self, now: Moment) {
        self.next_beat = now.plus(self.timing.renew / 5);
    }

    /// Whether a heartbeat was confirmed in this term beside the one it began with. A term that ends unproved
    /// is not resumed at once: whatever keeps its heartbeats out would keep the next one's out too, and others
    /// are to have their chance.
    pub fn proved(&self) -> bool {
        self.proved
    }

    /// The engine's silence so far.
    pub fn engine(&self) -> Silence {
        self.engine
    }
}

// === impl Silence ===

impl Silence {
    /// None yet: a promotion counts as a beat, since the engine could not know before.
    pub fn new(promoted: Moment, pulse: Beat) -> Self {
        let pulse = Beat { count: pulse.count, last: pulse.last.max(promoted) };
        Self { pulse, silent: Duration::ZERO, last_look: promoted }
    }

    /// Takes in the pulse at `now`.
    pub fn listen(&mut self, now: Moment, pulse: Beat, timing: &Timing) {
        let ran_for = now.since(self.last_look).min(timing.renew * 2);
        self.last_look = now;
        if pulse.count == self.pulse.count {
            self.silent += ran_for;
        } else {
            self.silent = Duration::ZERO;
            self.pulse = pulse;
        }
    }

    /// Whether the last beat is recent enough to renew leadership, or to resume it.
    pub fn is_recent(&self, now: Moment, timing: &Timing) -> bool {
        now.since(self.pulse.last) <= timing.pulse_window()
    }

    /// Whether the engine counts as hung.
    pub fn is_hung(&self, timing: &Timing) -> bool {
        self.silent >= timing.ttl
    }

    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(100_000 + ms))
    }

    fn beat(count: u64, ms: u64) -> Beat {
        Beat { count, last: at(ms) }
    }

    fn tenure() -> Tenure {
        let timing = Timing::for_ttl(T);
        Tenure::new(timing, at(0), Tenure::deadline_from(&timing, at(0)), Silence::new(at(0), beat(0, 0)))
    }

    #[test]
    fn a_beat_is_due_every_sixth_of_t() {
        let mut tenure = tenure();
        assert_eq!(tenure.duty(at(499), beat(1, 498)), Duty::Rest(at(500)));
        assert_eq!(tenure.duty(at(500), beat(2, 499)), Duty::Beat);
        assert_eq!(tenure.confirmed(at(500), at(503)), Some(at(3_200)));
        assert_eq!(tenure.duty(at(504), beat(3, 503)), Duty::Rest(at(1_000)));
    }

    #[test]
    fn the_deadline_counts_from_the_start_of_the_heartbeat() {
        let mut tenure = tenure();
        assert_eq!(tenure.deadline(), at(2_700));
        assert_eq!(tenure.confirmed(at(600), at(2_600)), Some(at(3_300)));
        assert_eq!(tenure.confirmed(at(500), at(2_601)), Some(at(3_300)), "the deadline does not go back");
    }

    #[test]
    fn a_late_confirmation_revives_nothing() {
        let mut tenure = tenure();
        assert_eq!(tenure.confirmed(at(600), at(2_700)), None);
        assert_eq!(tenure.duty(at(2_700), beat(9, 2_699)), Duty::Expired);
    }

    #[test]
    fn a_silent_engine_is_not_renewed_and_after_t_counts_as_hung() {
        let mut tenure = tenure();
        assert_eq!(tenure.duty(at(900), beat(1, 900)), Duty::Beat);
        tenure.confirmed(at(900), at(901));
        let mut now = 901;
        let mut withheld_from = None;
        let hung_at = loop {
            now += 100;
            match tenure.duty(at(now), beat(1, 900)) {
                Duty::Beat => {
                    tenure.confirmed(at(now), at(now));
                }
                Duty::Withhold(_) => {
                    withheld_from.get_or_insert(now);
                }
                Duty::Hung => break now,
                Duty::Expired | Duty::Rest(_) => {}
            }
        };
        assert!((1_900..=2_100).contains(&withheld_from.unwrap()), "withheld from {withheld_from:?}");
        assert!((3_900..=4_100).contains(&hung_at), "hung at {hung_at}");
    }

    #[test]
    fn a_stopped_process_expires_but_is_not_called_hung() {
        let mut tenure = tenure();
        assert_eq!(tenure.duty(at(400), beat(1, 399)), Duty::Rest(at(500)));
        assert_eq!(tenure.duty(at(60_000), beat(1, 399)), Duty::Expired);
        assert!(tenure.engine().lasted() <= Duration::from_secs(1));
    }

    #[test]
    fn an_engine_that_is_silent_for_t_counts_as_dead_and_one_that_has_just_joined_does_not() {
        let timing = Timing::for_ttl(T);
        let never = Beat { count: 0, last: Moment::default() };
        assert!(turns(&timing, at(0), never, at(2_999)));
        assert!(!turns(&timing, at(0), never, at(3_000)));
        assert!(turns(&timing, at(0), beat(7, 5_000), at(7_999)));
        assert!(!turns(&timing, at(0), beat(7, 5_000), at(8_000)));
    }

    #[test]
    fn promotion_counts_as_a_beat() {
        let timing = Timing::for_ttl(T);
        let never = Beat { count: 0, last: Moment::default() };
        let deadline = Tenure::deadline_from(&timing, at(0));
        let mut tenure = Tenure::new(timing, at(0), deadline, Silence::new(at(0), never));
        assert_eq!(tenure.duty(at(500), never), Duty::Beat);
        tenure.confirmed(at(500), at(501));
        assert!(matches!(tenure.duty(at(1_100), never), Duty::Withhold(_)));
    }

    #[test]
    fn a_resumption_gives_a_hung_engine_no_new_time() {
        let mut tenure = tenure();
        for now in (100..2_000).step_by(100) {
            assert_ne!(tenure.duty(at(now), beat(0, 0)), Duty::Hung);
        }
        let timing = Timing::for_ttl(T);
        let deadline = Tenure::deadline_from(&timing, at(1_900));
        let mut resumed = Tenure::new(timing, at(1_900), deadline, tenure.engine());
        assert!(matches!(resumed.duty(at(2_400), beat(0, 0)), Duty::Withhold(_)));
        for now in (2_500..3_000).step_by(100) {
            assert!(matches!(resumed.duty(at(now), beat(0, 0)), Duty::Withhold(_)));
        }
        assert_eq!(resumed.duty(at(3_000), beat(0, 0)), Duty::Hung);
    }

    #[test]
    fn a_term_is_proved_by_a_heartbeat_of_its_own() {
        let mut tenure = tenure();
        assert!(!tenure.proved());
        tenure.confirmed(at(500), at(501));
        assert!(tenure.proved());
    }

    #[test]
    fn a_failed_heartbeat_is_tried_again_soon() {
        let mut tenure = tenure();
        assert_eq!(tenure.duty(at(500), beat(1, 500)), Duty::Beat);
        tenure.failed(at(600));
        assert_eq!(tenure.duty(at(601), beat(2, 600)), Duty::Rest(at(700)));
    }
}
