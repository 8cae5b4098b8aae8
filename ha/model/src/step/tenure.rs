//! A leader's time in office: heartbeat, lease, suspension, return, and every way out.

use super::postgres::{end, may_update, moved, open};
use crate::config::Config;
use crate::mutant::Mutant;
use crate::state::{
    Epoch, Going, Id, Instance, Journal, Kind, Lease, Owner, Role, Sender, State, Term, Watch,
};

/// The fence closes: what was not written is never written under it, and nobody waits for what was.
pub(super) fn close_fence(s: &mut State, i: Id) {
    for wire in &mut s.wire {
        match &mut wire.sender {
            Sender::Ready { by, .. } | Sender::Sent { by } | Sender::Got { by, .. } if *by == i => {
                wire.sender = Sender::Idle;
            }
            Sender::Checked { by, lone, .. } if *by == i => *lone = true,
            _ => {}
        }
    }
    let me = s.of_mut(i);
    me.term = Term::None;
    me.journal = None;
    me.reading = None;
}

/// Leadership ended against its will: back to the start.
fn demote(c: &Config, s: &mut State, i: Id, seen: Epoch) -> Option<()> {
    close_fence(s, i);
    let Instance { leaving, bound, link, patience, .. } = *s.of(i);
    let seen = s.of(i).seen.max(seen);
    *s.of_mut(i) = Instance {
        seen,
        leaving,
        bound,
        link,
        patience,
        held_down: c.timing.hold_down,
        ..Instance::new(true)
    };
    Some(())
}

/// A statement met another epoch.
pub(super) fn fenced(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let epoch = s.db.epoch;
    demote(c, s, i, epoch)
}

/// Raises the epoch in Redis and writes the lease; false if a higher one is there.
pub(super) fn hold(c: &Config, s: &mut State, i: Id) -> bool {
    let mine = s.of(i).epoch;
    if !c.lacks(Mutant::RawEpochKey) {
        if s.redis.key > mine || s.redis.lease.is_some_and(|lease| lease.epoch > mine) {
            return false;
        }
        if s.redis.lease.is_some_and(|lease| lease.epoch == mine && lease.by != Owner::Of(i)) {
            s.redis.key = mine;
            return true;
        }
    }
    s.redis.key = mine;
    s.redis.lease = Some(Lease { by: Owner::Of(i), epoch: mine, kind: Kind::Leader });
    true
}

/// The counter, on the pinned session, behind whatever is under way there.
pub(super) fn beat(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    if me.role != Role::Lead || me.deadline == 0 {
        return None;
    }
    let sid = s.serves(me.pin)?;
    if matches!(s.session(sid).journal, Journal::Begun(_) | Journal::Locked(_)) {
        return None;
    }
    if s.db.epoch != me.epoch {
        return fenced(c, s, i);
    }
    s.of_mut(i).deadline = c.timing.validity;
    moved(s);
    s.at.iter_mut()
        .filter(|other| other.leaving && other.role == Role::Follow)
        .for_each(|other| other.assured = true);
    Some(())
}

/// The lease; past its deadline a leader neither renews nor re-takes it.
pub(super) fn renew(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    if me.role != Role::Lead || me.deadline == 0 || !s.redis.up {
        return None;
    }
    if !hold(c, s, i) {
        let seen = s.redis.key.max(s.redis.lease.map_or(0, |lease| lease.epoch));
        return demote(c, s, i, seen);
    }
    Some(())
}

/// A higher epoch in the row puts out whoever sees it.
pub(super) fn see_higher(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    let concerned = matches!(me.role, Role::Lead | Role::Suspended(_) | Role::Repinned);
    if !concerned || !s.pg.up || s.db.epoch <= me.epoch {
        return None;
    }
    fenced(c, s, i)
}

/// The session is gone, or no heartbeat was confirmed in time: nothing is sent, the epoch is kept.
pub(super) fn suspend(s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    if me.role != Role::Lead || (me.deadline > 0 && s.serves(me.pin).is_some()) {
        return None;
    }
    exile(s, i)
}

/// Off its session, which is closed on this side and kept in mind.
pub(super) fn exile(s: &mut State, i: Id) -> Option<()> {
    close_fence(s, i);
    let me = s.of_mut(i);
    me.role = Role::Suspended(None);
    me.going = match me.going {
        Going::Draining(asked) | Going::Offered(asked, _) => Going::Draining(asked),
        Going::No => Going::No,
    };
    Some(())
}

/// It ends its own old session, opens another, and tries the pin.
pub(super) fn repin(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let Role::Suspended(taken) = me.role else { return None };
    if !s.pg.up {
        return None;
    }
    if me.timeline != s.pg.timeline {
        return fenced(c, s, i);
    }
    if let Some(old) = me.pin {
        end(s, old);
        s.of_mut(i).pin = None;
    }
    if s.pg.pin.is_some() {
        s.of_mut(i).role = Role::Suspended(Some(taken.unwrap_or(0)));
        return Some(());
    }
    let sid = open(s, i)?;
    s.pg.pin = Some(sid);
    moved(s);
    let me = s.of_mut(i);
    me.pin = Some(sid);
    me.role = Role::Repinned;
    Some(())
}

/// `FOR UPDATE`: the row has to name this incarnation and this epoch still.
pub(super) fn lock_own(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    if me.role != Role::Repinned {
        return None;
    }
    let Some(sid) = s.serves(me.pin) else { return exile(s, i) };
    if !may_update(c, s) {
        return None;
    }
    if s.db.epoch != me.epoch || s.db.holder != Owner::Of(i) {
        return fenced(c, s, i);
    }
    s.pg.updating = Some(sid);
    let me = s.of_mut(i);
    me.role = Role::Reclaiming;
    me.deadline = c.timing.validity;
    Some(())
}

/// The row names the new session; back in office, with a new fence of the same epoch.
pub(super) fn reclaim(s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    if me.role != Role::Reclaiming {
        return None;
    }
    let Some(sid) = s.serves(me.pin) else { return exile(s, i) };
    s.db.named = Some(sid);
    s.db.offer = None;
    s.pg.updating = None;
    moved(s);
    if me.deadline == 0 {
        return exile(s, i);
    }
    let me = s.of_mut(i);
    me.role = Role::Lead;
    me.term = Term::Doubting;
    me.watch = Watch::Nothing;
    Some(())
}

/// Another session has held the pin for T: it drops its epoch.
pub(super) fn give_up(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let Role::Suspended(Some(age)) = s.of(i).role else { return None };
    if age < c.timing.ttl || c.lacks(Mutant::NeverGivesUp) {
        return None;
    }
    demote(c, s, i, 0)
}
