//! When a follower may stand for election: a synchronous state machine over what it sees.
//!
//! It does no I/O and reads no clock; the agent feeds it every look at PostgreSQL and carries out what it
//! decides. Evidence comes from three places only: a handover that names this instance, a pin that is free, or
//! a leader of which nothing has changed for T while this instance's own commits went through. A missing Redis
//! key is no evidence, nor is a PostgreSQL that answers reads but commits nothing.

use std::time::Duration;

use uuid::Uuid;

use crate::assurance::Assurance;
use crate::clock::Moment;
use crate::config::Timing;
use crate::ids::{Epoch, Instance};
use crate::role::Status;
use crate::session::Backend;
use crate::stats::Reason;

/// One successful look at the database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The epoch in force.
    pub epoch: Epoch,
    /// Who holds it; none before the first promotion and after a leader left without a successor.
    pub holder: Option<Instance>,
    /// Where the holder can be reached.
    pub holder_address: Option<String>,
    /// The heartbeat counter.
    pub counter: i64,
    /// The session that holds the pin, named in the row or not.
    pub pin: Option<Backend>,
    /// The handover the holder offers.
    pub offer: Option<Offer>,
    /// The operator's pause.
    pub paused: bool,
    /// The cluster that owns the database.
    pub cluster: Option<String>,
}

/// A handover, as the leadership row shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Which offer.
    pub id: Uuid,
    /// To whom.
    pub to: Instance,
    /// Whether the successor acknowledged this offer.
    pub acknowledged: bool,
}

/// A look and when it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    /// Which connection it was made on; counts up.
    pub session: u64,
    /// When the request started.
    pub started: Moment,
    /// When the answer had arrived.
    pub finished: Moment,
    /// What was seen.
    pub row: Row,
}

/// What the follower knows of itself and its peers.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its status as stored; none before it is stored.
    pub status: Option<Status>,
    /// Start of its last successful liveness commit; none while it does not hold its member lock.
    pub last_commit: Option<Moment>,
    /// Another instance is alive, active, allowed to lead and not held down.
    pub rival: bool,
    /// Such an instance has a newer build.
    pub newer_rival: bool,
    /// An operator keeps its member from leading.
    pub fenced: bool,
    /// Its engine has finished an iteration within T: what cannot turn cannot take over.
    pub engine_lives: bool,
}

/// What to do after a look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Nothing yet. `look_at` asks for a look at that moment, sooner than the usual one.
    Wait {
        /// Why, in words.
        why: String,
        /// When to look again.
        look_at: Option<Moment>,
    },
    /// Accept the offer.
    Acknowledge(Uuid),
    /// Stand for election.
    Stand(Ballot),
}

/// An election this instance stands in, with the evidence that allows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ballot {
    /// Why there is an election.
    pub reason: Reason,
    /// The epoch to end. The promotion is void if the row shows another by then.
    pub epoch: Epoch,
    /// The holder to replace.
    pub previous: Option<Instance>,
    /// The counter seen.
    pub counter: i64,
    /// For a stale leader: the session that holds the pin and has to end.
    pub evict: Option<Backend>,
    /// When the leader was last seen alive: its heartbeat changed (stale), or it held the pin (otherwise).
    pub last_sign: Option<Moment>,
    /// Without Redis nobody may stand before this moment.
    pub without_lease_from: Option<Moment>,
    /// Which leases of others to respect.
    pub patience: Patience,
}

/// Which lease of somebody else at the row's epoch a candidate respects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Other candidates' and reservations.
    RespectAll,
    /// Other candidates' only: the pin has been free for longer than a reservation lasts.
    PastReservation,
    /// None: somebody else's has stood in the way longer than any may last, on the candidate's own clock.
    Exhausted,
}

/// The follower's side of an election.
#[derive(Debug)]
pub struct Watcher {
    me: Instance,
    priority: u8,
    timing: Timing,
    dice: u64,
    session: Option<u64>,
    not_before: Option<Moment>,
    window: Option<Window>,
    free_since: Option<Moment>,
    last_sign: Option<Moment>,
    last_held: Option<Moment>,
    stand_at: Option<Moment>,
    hold_down: HoldDown,
    highest: Epoch,
    /// Set from the word to stop on.
    retiring: Option<Assurance>,
}

/// What has to stay the same for the leader to count as stale, and for how long it has.
#[derive(Debug)]
struct Window {
    epoch: Epoch,
    counter: i64,
    pin: Backend,
    since: Moment,
    looks: u32,
}

#[derive(Debug, Default)]
struct HoldDown {
    losses: u32,
    last: Option<Moment>,
    until: Option<Moment>,
}

/// Five looks at least must agree that nothing changed.
const LEAST_LOOKS: u32 = 5;

// === impl Ballot ===

impl Ballot {
    /// Whether the candidate goes on at `now` though Redis does not answer.
    pub fn may_do_without_lease(&self, now: Moment) -> bool {
        self.without_lease_from.is_none_or(|from| now >= from)
    }
}

// === impl Watcher ===

impl Watcher {
    /// A follower that has seen nothing. `seed` drives its random delays.
    pub fn new(me: Instance, priority: u8, timing: Timing, seed: u64) -> Self {
        Self {
            me,
            priority,
            timing,
            dice: seed | 1,
            session: None,
            not_before: None,
            window: None,
            free_since: None,
            last_sign: None,
            last_held: None,
            stand_at: None,
            hold_down: HoldDown::default(),
            highest: Epoch::ZERO,
            retiring: None,
        }
    }

    /// The highest epoch seen anywhere.
    pub fn highest(&self) -> Epoch {
        self.highest
    }

    /// When the leader's heartbeat was last seen to change.
    pub fn last_sign(&self) -> Option<Moment> {
        self.last_sign
    }

    /// Notes an epoch seen elsewhere, e.g. in Redis.
    pub fn saw(&mut self, epoch: Epoch) {
        self.highest = self.highest.max(epoch);
    }

    /// Told to stop: it accepts no offer any more and may stand whatever its status, so that the last one of all acts by
    /// the exit policy. Returns whether it was news.
    pub fn retire(&mut self, now: Moment) -> bool {
        let news = self.retiring.is_none();
        if news {
            self.retiring = Some(Assurance::from(now));
        }
        news
    }

    /// Whether it was told to stop.
    pub fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    /// Whether this follower may leave: it was told to stop, and somebody was seen in office since and since it last stood.
    pub fn may_leave(&self) -> bool {
        self.retiring.as_ref().is_some_and(Assurance::is_given)
    }

    /// Whether it was told to stop and has waited for T for a sign of a leader.
    pub fn waits_in_vain(&self, now: Moment) -> bool {
        self.retiring.as_ref().is_some_and(|it| !it.is_given() && it.waited(now) >= self.timing.ttl)
    }

    /// Starts over as a follower that just stopped leading: what it knew of itself is no evidence.
    pub fn reset(&mut self) {
        self.window = None;
        self.free_since = None;
        self.last_sign = None;
        self.last_held = None;
        self.stand_at = None;
    }

    /// Notes an involuntary loss: the next ones weigh double, until ten hold-downs have passed without one.
    pub fn lost(&mut self, now: Moment) {
        let quiet = self.hold_down.last.is_none_or(|last| now.since(last) > Timing::LONGEST_HOLD_DOWN * 10);
        self.hold_down.losses = if quiet { 0 } else { self.hold_down.losses.saturating_add(1) };
        let factor = 1_u32.checked_shl(self.hold_down.losses.min(16)).unwrap_or(u32::MAX);
        let span = self.timing.ttl.saturating_mul(factor).min(Timing::LONGEST_HOLD_DOWN);
        self.hold_down.last = Some(now);
        self.hold_down.until = Some(now.plus(span));
    }

    /// Whether this instance lets others go first.
    pub fn held_down(&self, now: Moment) -> bool {
        self.hold_down.until.is_some_and(|until| now < until)
    }

    /// An election came to nothing: evidence counts anew, after a pause.
    pub fn defeated(&mut self, now: Moment) {
        self.window = None;
        let pause = self.timing.watch + self.random(Timing::JITTER);
        self.stand_at = Some(now.plus(pause));
    }

    /// Decides after a look.
    pub fn observe(&mut self, look: &Look, standing: &Standing) -> Decision {
        let decision = self.decide(look, standing);
        if let (Decision::Stand(_), Some(assurance)) = (&decision, &mut self.retiring) {
            *assurance = Assurance::from(look.finished);
        }
        decision
    }

    fn decide(&mut self, look: &Look, standing: &Standing) -> Decision {
        self.note(look, standing);
        let row = &look.row;
        let now = look.finished;
        let named = row.offer.as_ref().filter(|offer| offer.to == self.me);
        let Some(evidence) = self.evidence(look) else {
            self.stand_at = None;
            let able = self.able(standing, now);
            return match (named, able) {
                (Some(offer), Ok(())) if !offer.acknowledged && !self.is_retiring() => {
                    Decision::Acknowledge(offer.id)
                }
                (_, Err(why)) => Decision::Wait { why, look_at: None },
                (_, Ok(())) => Decision::Wait { why: "another instance leads".to_owned(), look_at: None },
            };
        };
        if let Err(why) = self.able(standing, now) {
            self.stand_at = None;
            return Decision::Wait { why, look_at: None };
        }
        if evidence.reason == Reason::Handover {
            return Decision::Stand(evidence);
        }
        if let Err(wait) = self.allowed(look, standing) {
            return wait;
        }
        match self.stand_at {
            Some(at) if at <= now => Decision::Stand(evidence),
            at => {
                let at = at.unwrap_or_else(|| now.plus(self.delay(standing)));
                self.stand_at = Some(at);
                let why = format!("stands soon ({})", evidence.reason);
                Decision::Wait { why, look_at: Some(at) }
            }
        }
    }

    /// Takes the look into the running observations.
    fn note(&mut self, look: &Look, standing: &Standing) {
        let row = &look.row;
        self.saw(row.epoch);
        if let Some(assurance) = &mut self.retiring {
            assurance.note(look, &self.me);
        }
        if self.session != Some(look.session) {
            // After an outage the incumbent gets its chance to come back first. The very first connection
            // follows no outage.
            if self.session.is_some() {
                self.not_before = Some(look.finished.plus(self.timing.ttl));
            }
            self.session = Some(look.session);
            self.window = None;
            self.free_since = None;
        }
        let commits_stalled =
            standing.last_commit.is_none_or(|at| look.finished.since(at) > self.timing.ttl / 2);
        let Some(pin) = row.pin else {
            self.window = None;
            self.free_since.get_or_insert(look.finished);
            return;
        };
        self.free_since = None;
        self.last_held = Some(look.started);
        match &mut self.window {
            Some(seen)
                if seen.epoch == row.epoch
                    && seen.counter == row.counter
                    && seen.pin == pin
                    && !commits_stalled =>
            {
                seen.looks = seen.looks.saturating_add(1);
            }
            _ => {
                let moved = self
                    .window
                    .as_ref()
                    .is_none_or(|w| w.epoch != row.epoch || w.counter != row.counter || w.pin != pin);
                if moved {
                    self.last_sign = Some(look.finished);
                }
                let (epoch, counter) = (row.epoch, row.counter);
                self.window = Some(Window { epoch, counter, pin, since: look.finished, looks: 1 });
            }
        }
    }

    /// The reason to stand that the observations give, if any.
    fn evidence(&self, look: &Look) -> Option<Ballot> {
        let row = &look.row;
        let ballot = |reason, evict, without_lease_from, patience| Ballot {
            reason,
            epoch: row.epoch,
            previous: row.holder.clone(),
            counter: row.counter,
            evict,
            last_sign: if evict.is_some() { self.last_sign } else { self.last_held },
            without_lease_from,
            patience,
        };
        if let Some(since) = self.free_since {
            let free_for = look.finished.since(since);
            let named = row.offer.as_ref().is_some_and(|offer| offer.to == self.me && offer.acknowledged);
            if named {
                return Some(ballot(Reason::Handover, None, None, Patience::RespectAll));
            }
            let patience = if free_for > self.timing.ttl * 2 {
                Patience::Exhausted
            } else if free_for > Timing::RESERVATION {
                Patience::PastReservation
            } else {
                Patience::RespectAll
            };
            let nobody = row.holder.is_none();
            let reason = match (nobody, row.epoch) {
                (true, Epoch::ZERO) => Reason::FirstStart,
                (true, _) => Reason::Vacant,
                (false, _) => Reason::Crash,
            };
            let without_lease_from = nobody.then(|| since.plus(self.timing.ttl * 2));
            return Some(ballot(reason, None, without_lease_from, patience));
        }
        let window = self.window.as_ref()?;
        let unchanged_for = look.started.since(window.since);
        let stale = window.looks >= LEAST_LOOKS && unchanged_for >= self.timing.ttl;
        let patience =
            if unchanged_for > self.timing.ttl * 3 { Patience::Exhausted } else { Patience::PastReservation };
        stale.then(|| ballot(Reason::Stale, Some(window.pin), None, patience))
    }

    /// Whether this instance could lead at all.
    fn able(&self, standing: &Standing, now: Moment) -> Result<(), String> {
        let Some(last_commit) = standing.last_commit else {
            return Err("has not registered in PostgreSQL yet".to_owned());
        };
        if now.since(last_commit) > self.timing.ttl / 2 {
            return Err("its own liveness commits do not go through".to_owned());
        }
        match standing.status {
            Some(Status::Active) => {}
            // Its takeover reads everything back, and it decides nothing new.
            _ if self.is_retiring() => {}
            Some(status) => return Err(format!("its status is {status}, only an active instance leads")),
            None => return Err("its status is not stored yet".to_owned()),
        }
        if !standing.engine_lives {
            return Err("its engine has finished no iteration for T".to_owned());
        }
        if standing.fenced {
            return Err("an operator fenced this member: `baton unfence` lifts it".to_owned());
        }
        if self.priority == 0 { Err("priority 0 never leads".to_owned()) } else { Ok(()) }
    }

    /// Whether it may stand now, of its own accord.
    fn allowed(&mut self, look: &Look, standing: &Standing) -> Result<(), Decision> {
        let now = look.finished;
        let wait = |why: &str, look_at| Err(Decision::Wait { why: why.to_owned(), look_at });
        if look.row.paused {
            self.stand_at = None;
            return wait("automatic failover is paused", None);
        }
        if let Some(at) = self.not_before.filter(|at| now < *at) {
            return wait(
                "its own session broke less than T ago: the incumbent may come back first",
                Some(at),
            );
        }
        if self.held_down(now) && standing.rival {
            return wait("held down after losing leadership against its will", None);
        }
        let offered_to_other = look.row.offer.as_ref().is_some_and(|offer| offer.to != self.me);
        if let Some(since) = self.free_since.filter(|_| offered_to_other) {
            let until = since.plus(Timing::RESERVATION);
            if now <= until {
                return wait("another instance was named successor", Some(until));
            }
        }
        Ok(())
    }

    /// A candidate's delay: the most preferred (priority 1, newest build) draws only the random part. An older
    /// build waits until a newer one must have seen what it sees, and drawn the longest delay; so does one that was
    /// told to stop.
    fn delay(&mut self, standing: &Standing) -> Duration {
        let steps = u32::from(self.priority.saturating_sub(1));
        let last = standing.newer_rival || (self.is_retiring() && standing.rival);
        let older = if last { self.timing.watch * 5 / 4 + Timing::JITTER } else { Duration::ZERO };
        Timing::PRIORITY_STEP * steps + older + self.random(Timing::JITTER)
    }

    /// A random span below `most` (xorshift; spreads candidates, guards nothing).
    fn random(&mut self, most: Duration) -> Duration {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let share = u32::try_from(self.dice >> 40).unwrap_or(0) % 1000;
        most * share / 1000
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
