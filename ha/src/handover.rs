//! Planned handover: whom to ask, and what an offer has come to. Pure; the agent carries it out.
//!
//! A leader that wants to go offers leadership to one ready instance at a time, in the leadership row. The
//! successor acknowledges, which binds it. Only then is the lease reserved and the pin released. The old leader
//! is done when it reads a higher epoch; if none comes before the reservation lapses, it resumes.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Moment;
use crate::config::Timing;
use crate::election::Row;
use crate::ids::{Epoch, Instance, Member};
use crate::role::Status;
use crate::stats::{InstanceInfo, naming};

/// An offer a leader has made and not yet seen answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offering {
    /// Which offer.
    pub id: Uuid,
    /// To whom.
    pub to: Instance,
    /// When it lapses unanswered.
    pub until: Moment,
}

/// What became of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Still open.
    Open,
    /// Acknowledged: release.
    Accepted,
    /// Not answered in time: ask somebody else.
    Lapsed,
}

/// What became of a released leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Succession {
    /// Nobody yet.
    Open,
    /// A higher epoch is in force.
    Done(Epoch),
    /// The reservation lapsed: resume.
    Lapsed,
}

// === impl Offering ===

impl Offering {
    /// A new offer.
    pub fn new(to: Instance, now: Moment, timing: &Timing) -> Self {
        Self { id: Uuid::now_v7(), to, until: now.plus(timing.acknowledgement()) }
    }

    /// Reads the answer off a look at the row.
    pub fn answer(&self, row: Option<&Row>, now: Moment) -> Answer {
        let acknowledged = row
            .and_then(|row| row.offer.as_ref())
            .is_some_and(|offer| offer.id == self.id && offer.acknowledged);
        if acknowledged {
            Answer::Accepted
        } else if now >= self.until {
            Answer::Lapsed
        } else {
            Answer::Open
        }
    }
}

/// How long an answer binds the successor, from before it is stored: it is stored, read within the offer's time,
/// the lease reserved, the pin released; from then on the reservation runs.
pub fn binding(timing: &Timing) -> Duration {
    let release = timing.redis_timeout() + timing.lock_timeout();
    timing.lock_timeout() + timing.acknowledgement() + release + Timing::RESERVATION
}

/// Reads the outcome of a release off a look at the row.
pub fn succession(mine: Epoch, released: Moment, row: Option<&Row>, now: Moment) -> Succession {
    match row {
        Some(row) if row.epoch > mine => Succession::Done(row.epoch),
        _ if now.since(released) >= Timing::RESERVATION => Succession::Lapsed,
        _ => Succession::Open,
    }
}

/// Chooses whom to ask next: alive, active, allowed to lead, not asked before; those not held down first, then
/// the newest build, then the lowest priority number, then the name.
pub fn choose(
    peers: &[InstanceInfo],
    me: &Instance,
    to: Option<&Member>,
    asked: &BTreeSet<Instance>,
) -> Result<Instance, String> {
    peers
        .iter()
        .filter(|peer| peer.instance.member != me.member && to.is_none_or(|to| *to == peer.instance.member))
        .filter(|peer| peer.alive && peer.status == Status::Active && peer.priority > 0 && !peer.fenced)
        .filter(|peer| !asked.contains(&peer.instance))
        .min_by_key(|peer| {
            (peer.held_down, std::cmp::Reverse(peer.build), peer.priority, peer.instance.clone())
        })
        .map(|peer| peer.instance.clone())
        .ok_or_else(|| {
            if asked.is_empty() {
                format!("no successor is ready: asked for {}", naming(to))
            } else {
                let names: Vec<String> = asked.iter().map(|i| i.member.to_string()).collect();
                format!("{} did not take it", names.join(", "))
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Offer;

    fn peer(name: &str) -> InstanceInfo {
        InstanceInfo {
            instance: Instance::new(Member::new(name).unwrap()),
            version: "1".into(),
            build: 1,
            address: String::new(),
            priority: 1,
            status: Status::Active,
            alive: true,
            held_down: false,
            fenced: false,
            reach: None,
            redis: None,
        }
    }

    fn at(ms: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(ms))
    }

    fn row(epoch: i64, offer: Option<Offer>) -> Row {
        Row {
            epoch: Epoch::new(epoch),
            holder: None,
            holder_address: None,
            counter: 0,
            pin: None,
            offer,
            paused: false,
            cluster: None,
        }
    }

    #[test]
    fn only_ready_instances_are_asked_and_the_newest_first() {
        let me = Instance::new(Member::new("b1").unwrap());
        let nobody = BTreeSet::new();
        let mut dead = peer("b2");
        dead.alive = false;
        let mut draining = peer("b3");
        draining.status = Status::Draining;
        let mut recovering = peer("b4");
        recovering.status = Status::Recovering;
        let mut never = peer("b5");
        never.priority = 0;
        let mut fenced = peer("b9");
        fenced.fenced = true;
        let myself = peer("b1");
        let unfit = vec![dead, draining, recovering, never, fenced, myself];
        assert!(choose(&unfit, &me, None, &nobody).is_err());

        let old = peer("b6");
        let mut new = peer("b7");
        new.build = 2;
        let mut shaky = peer("b8");
        shaky.build = 3;
        shaky.held_down = true;
        let fit = vec![old.clone(), new.clone(), shaky.clone()];
        assert_eq!(choose(&fit, &me, None, &nobody).unwrap(), new.instance);
        assert_eq!(choose(&fit, &me, Some(&old.instance.member), &nobody).unwrap(), old.instance);
        let asked = BTreeSet::from([new.instance, old.instance]);
        assert_eq!(choose(&fit, &me, None, &asked).unwrap(), shaky.instance);
    }

    #[test]
    fn an_offer_is_accepted_by_its_own_acknowledgement_only() {
        let to = peer("b2").instance;
        let offering = Offering::new(to.clone(), at(0), &Timing::default());
        let other = Offer { id: Uuid::now_v7(), to: to.clone(), acknowledged: true };
        let mut mine = Offer { id: offering.id, to, acknowledged: false };
        assert_eq!(offering.answer(Some(&row(1, Some(other))), at(1)), Answer::Open);
        assert_eq!(offering.answer(Some(&row(1, Some(mine.clone()))), at(1)), Answer::Open);
        assert_eq!(offering.answer(None, at(1_000)), Answer::Lapsed);
        mine.acknowledged = true;
        assert_eq!(offering.answer(Some(&row(1, Some(mine))), at(1_001)), Answer::Accepted);
    }

    #[test]
    fn a_release_ends_with_a_higher_epoch_or_with_the_reservation() {
        let mine = Epoch::new(4);
        assert_eq!(succession(mine, at(0), Some(&row(4, None)), at(499)), Succession::Open);
        assert_eq!(succession(mine, at(0), Some(&row(4, None)), at(500)), Succession::Lapsed);
        assert_eq!(succession(mine, at(0), Some(&row(5, None)), at(900)), Succession::Done(Epoch::new(5)));
    }
}
