//! A follower becomes leader: evidence, lease, eviction, pin, epoch, announcement; each a yield point.

use super::postgres::{may_update, moved, open};
use super::tenure::hold;
use crate::config::Config;
use crate::mutant::Mutant;
use crate::property::Broken;
use crate::state::{Ballot, Going, Id, Kind, Lease, Life, Owner, Role, State, Step, Term, Watch};

/// A follower begins to watch the pin as it is.
pub(super) fn look(s: &mut State, i: Id) -> Option<()> {
    if s.of(i).role != Role::Follow || !s.pg.up || s.of(i).watch != Watch::Nothing {
        return None;
    }
    let (epoch, held) = (s.db.epoch, s.pg.pin.is_some());
    let me = s.of_mut(i);
    me.seen = me.seen.max(epoch);
    me.watch = if held { Watch::Still(0) } else { Watch::Free(0) };
    Some(())
}

/// It has evidence: a handover that names it, a pin that is free, a leader that has not moved for T.
pub(super) fn stand(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let able = !me.leaving || me.bound > 0 || !c.lacks(Mutant::LeavesUnassured);
    if me.role != Role::Follow || !s.pg.up || !able {
        return None;
    }
    let mut ballot = Ballot {
        step: Step::Lease,
        epoch: s.db.epoch,
        evict: None,
        intact: true,
        named: false,
        past_reservation: false,
        leased: false,
    };
    let offer = s.db.offer;
    match me.watch {
        _ if c.lacks(Mutant::RedisAlone) => {
            if !s.redis.up || s.redis.lease.is_some() {
                return None;
            }
        }
        Watch::Free(_) if offer.is_some_and(|offer| offer.to == Owner::Of(i) && offer.acknowledged) => {
            ballot.named = true;
        }
        _ if me.patience > 0 || (me.held_down > 0 && has_rival(c, s, i)) => return None,
        Watch::Free(age) => {
            ballot.past_reservation = age > c.timing.reservation;
            if offer.is_some_and(|offer| offer.to != Owner::Of(i)) && !ballot.past_reservation {
                return None;
            }
        }
        Watch::Still(age) if age >= c.timing.ttl => {
            ballot.past_reservation = true;
            ballot.evict = s.pg.pin;
        }
        _ => return None,
    }
    s.of_mut(i).assured = false;
    s.of_mut(i).role = Role::Stand(ballot);
    Some(())
}

/// Another instance could lead in its stead and is not held down itself.
fn has_rival(c: &Config, s: &State, i: Id) -> bool {
    let others = s.at[..c.instances].iter().enumerate().filter(|(j, _)| *j != usize::from(i));
    let able = |other: &crate::state::Instance| {
        matches!(other.role, Role::Follow | Role::Stand(_)) && other.held_down == 0 && !other.leaving
    };
    others.map(|(_, other)| other).any(able)
}

fn ballot(s: &State, i: Id, step: Step) -> Option<Ballot> {
    match s.of(i).role {
        Role::Stand(ballot) if ballot.step == step => Some(ballot),
        _ => None,
    }
}

fn go_on(s: &mut State, i: Id, ballot: Ballot, step: Step) -> Option<()> {
    s.of_mut(i).role = Role::Stand(Ballot { step, ..ballot });
    Some(())
}

/// Gives back what it had and follows.
fn defeat(s: &mut State, i: Id) -> Option<()> {
    let me = s.of_mut(i);
    me.role = Role::Follow;
    me.epoch = 0;
    me.pin = None;
    me.watch = Watch::Nothing;
    if s.redis.up && s.redis.lease.is_some_and(|lease| lease.by == Owner::Of(i)) {
        s.redis.lease = None;
    }
    Some(())
}

/// Compare-and-swap on the lease; without Redis the step is left out.
pub(super) fn win_lease(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let mut ballot = ballot(s, i, Step::Lease)?;
    if s.redis.up {
        let free = s.redis.lease.is_none_or(|lease| {
            lease.by == Owner::Of(i)
                || lease.epoch < ballot.epoch
                || (lease.epoch == ballot.epoch && lease.kind == Kind::Leader)
                || (matches!(lease.kind, Kind::Reserved(_)) && ballot.past_reservation)
        });
        if !free {
            return defeat(s, i);
        }
        ballot.leased = true;
        let kind = Kind::Candidate(c.timing.candidate);
        s.redis.lease = Some(Lease { by: Owner::Of(i), epoch: ballot.epoch, kind });
        let key = s.redis.key;
        let me = s.of_mut(i);
        me.seen = me.seen.max(key);
    }
    let next = if ballot.evict.is_some() || !ballot.intact { Step::Evict } else { Step::Pin };
    go_on(s, i, ballot, next)
}

/// One statement ends the session that holds the pin, if all that condemned it still holds.
pub(super) fn evict(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let ballot = ballot(s, i, Step::Evict)?;
    if !s.pg.up {
        return defeat(s, i);
    }
    let Some(pin) = s.pg.pin else { return defeat(s, i) };
    let same = ballot.intact && ballot.evict == Some(pin) && ballot.epoch == s.db.epoch;
    let named = s.db.named == Some(pin);
    if !(same || c.lacks(Mutant::EvictsUnseen)) || (!named && c.lacks(Mutant::EvictsOnlyTheNamed)) {
        return defeat(s, i);
    }
    let deposes = |leader: &crate::state::Instance| {
        leader.role == Role::Lead && leader.pin == Some(pin) && leader.deadline > 0
    };
    if s.at.iter().any(deposes) {
        Broken::DeposedAlive.note(&mut s.ghost);
    }
    s.session_mut(pin).life = Life::Dying;
    go_on(s, i, ballot, Step::Pin)
}

/// A dedicated session, and the advisory lock on it.
pub(super) fn take_pin(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let ballot = ballot(s, i, Step::Pin)?;
    let alone = c.lacks(Mutant::RedisAlone);
    if !s.pg.up || (s.pg.pin.is_some() && !alone) {
        return defeat(s, i);
    }
    let sid = open(s, i)?;
    if !alone {
        s.pg.pin = Some(sid);
        moved(s);
    }
    let timeline = s.pg.timeline;
    let me = s.of_mut(i);
    me.pin = Some(sid);
    me.timeline = timeline;
    go_on(s, i, ballot, Step::Lock)
}

/// `SELECT … FOR UPDATE`, and the look at what it gave.
pub(super) fn lock_row(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let ballot = ballot(s, i, Step::Lock)?;
    let Some(sid) = s.serves(s.of(i).pin) else { return defeat(s, i) };
    if !may_update(c, s) {
        return None;
    }
    if s.db.epoch != ballot.epoch {
        return defeat(s, i);
    }
    s.pg.updating = Some(sid);
    s.of_mut(i).deadline = c.timing.validity;
    go_on(s, i, ballot, Step::Commit)
}

/// The transaction's commit.
pub(super) fn commit_epoch(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let ballot = ballot(s, i, Step::Commit)?;
    let Some(sid) = s.serves(s.of(i).pin) else { return defeat(s, i) };
    let epoch = s.db.epoch.max(s.of(i).seen) + 1;
    let failed_over = s.db.timeline != s.pg.timeline;
    if failed_over {
        s.ghost.unsettled = c.timing.inherited();
    }
    s.db.epoch = epoch;
    s.db.holder = Owner::Of(i);
    s.db.named = Some(sid);
    s.db.offer = None;
    s.db.timeline = s.pg.timeline;
    s.db.reduce_only |= failed_over && !c.lacks(Mutant::TradesAfterFailover);
    if let Some(limit) = c.flap_limit
        && !ballot.named
    {
        s.db.flaps = (s.db.flaps + 1).min(limit + 1);
        s.db.reduce_only |= s.db.flaps > limit && !c.lacks(Mutant::FlapsOn);
    }
    s.pg.updating = None;
    moved(s);
    let me = s.of_mut(i);
    me.epoch = epoch;
    me.seen = epoch;
    go_on(s, i, ballot, Step::Announce)
}

/// The epoch in Redis is raised; then it leads, unless that took too long. An equal epoch there is another's, unless the
/// lease is this instance's own.
pub(super) fn announce(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let ballot = ballot(s, i, Step::Announce)?;
    let mine = s.of(i).epoch;
    let rivalled = s.redis.key == mine && s.redis.lease.is_none_or(|lease| lease.by != Owner::Of(i));
    let outbid = rivalled && !c.lacks(Mutant::AnnouncesLoosely);
    if ballot.leased && s.redis.up && (outbid || !hold(c, s, i)) {
        let key = s.redis.key;
        let me = s.of_mut(i);
        me.seen = me.seen.max(key);
        return defeat(s, i);
    }
    if s.of(i).deadline == 0 {
        return defeat(s, i);
    }
    let me = s.of_mut(i);
    me.role = Role::Lead;
    me.term = Term::Doubting;
    me.watch = Watch::Nothing;
    me.bound = 0;
    me.going = if me.leaving { Going::Draining(0) } else { Going::No };
    Some(())
}
