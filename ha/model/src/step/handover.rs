//! Leaving by plan: drain, offer, acknowledgement, reservation, release, a higher epoch; or nobody to take over.

use super::postgres::{may_update, moved};
use super::tenure::{close_fence, fenced};
use crate::config::{Config, Fault};
use crate::mutant::Mutant;
use crate::property::Broken;
use crate::state::{Going, Id, Instance, Kind, Lease, Offer, Owner, Role, Sender, State, Watch};

/// SIGTERM. A leader journals nothing more.
pub(super) fn terminate(s: &mut State, i: Id) -> Option<()> {
    if !s.of(i).is_up() || s.of(i).leaving {
        return None;
    }
    s.spend(Fault::Terminate)?;
    let me = s.of_mut(i);
    me.leaving = true;
    if !matches!(me.role, Role::Follow | Role::Stand(_)) && me.going == Going::No {
        me.going = Going::Draining(0);
    }
    Some(())
}

/// Cut from the broker while another instance is known to reach it: hand over. Unknown means stay.
pub(super) fn yield_link(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    if me.role != Role::Lead || me.link || me.going != Going::No || c.lacks(Mutant::StaysCutOff) {
        return None;
    }
    if !candidates(c, s, i, 0).any(|j| s.of(j).link) {
        return None;
    }
    s.of_mut(i).going = Going::Draining(0);
    Some(())
}

/// Who may be asked: alive, active, not asked before, and reaching the broker if that is what this is about.
fn candidates(c: &Config, s: &State, i: Id, asked: u8) -> impl Iterator<Item = Id> {
    let (at, me) = (s.at, *s.of(i));
    (0..u8::try_from(c.instances).unwrap_or(u8::MAX)).filter(move |j| {
        let other = &at[usize::from(*j)];
        let able = matches!(other.role, Role::Follow | Role::Stand(_)) && !other.leaving;
        *j != i && asked & (1 << j) == 0 && able && (other.link || me.link || me.leaving)
    })
}

fn is_drained(s: &State, i: Id) -> bool {
    let busy = s.wire.iter().any(|wire| match wire.sender {
        Sender::Idle => false,
        Sender::Ready { by, .. }
        | Sender::Checked { by, .. }
        | Sender::Sent { by }
        | Sender::Got { by, .. } => by == i,
    });
    !busy && s.of(i).journal.is_none()
}

/// The row names a successor.
pub(super) fn offer(c: &Config, s: &mut State, i: Id, to: Id) -> Option<()> {
    let me = *s.of(i);
    let (Role::Lead, Going::Draining(asked)) = (me.role, me.going) else { return None };
    s.serves(me.pin)?;
    if me.deadline == 0
        || !is_drained(s, i)
        || !may_update(c, s)
        || !candidates(c, s, i, asked).any(|j| j == to)
    {
        return None;
    }
    if s.db.epoch != me.epoch {
        return fenced(c, s, i);
    }
    s.db.offer = Some(Offer { to: Owner::Of(to), acknowledged: false });
    s.of_mut(i).going = Going::Offered(asked | (1 << to), c.timing.answer);
    Some(())
}

/// The named one accepts; from here on that binds it.
pub(super) fn acknowledge(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    let named = s.db.offer.is_some_and(|offer| offer.to == Owner::Of(i) && !offer.acknowledged);
    if me.role != Role::Follow || me.leaving || !s.pg.up || !named || s.pg.pin.is_none() {
        return None;
    }
    s.db.offer = Some(Offer { to: Owner::Of(i), acknowledged: true });
    s.of_mut(i).bound = c.timing.answer + c.timing.reservation + 1;
    Some(())
}

/// No answer was read in time.
pub(super) fn offer_lapses(s: &mut State, i: Id) -> Option<()> {
    let me = s.of_mut(i);
    let (Role::Lead, Going::Offered(asked, 0)) = (me.role, me.going) else { return None };
    me.going = Going::Draining(asked);
    Some(())
}

/// The answer was read: the fence is closed for good, the lease reserved, the pin released.
pub(super) fn release(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let (Role::Lead, Going::Offered(..)) = (me.role, me.going) else { return None };
    let offer = s.db.offer.filter(|offer| offer.acknowledged)?;
    if s.db.epoch != me.epoch {
        return None;
    }
    let sid = s.serves(me.pin)?;
    close_fence(s, i);
    let others = s.redis.lease.is_some_and(|lease| lease.by != Owner::Of(i) && lease.epoch >= me.epoch);
    if s.redis.up && !others {
        let kind = Kind::Reserved(c.timing.reservation);
        s.redis.lease = Some(Lease { by: offer.to, epoch: me.epoch, kind });
    }
    if s.pg.pin == Some(sid) {
        s.pg.pin = None;
        moved(s);
    }
    if me.leaving && c.lacks(Mutant::LeavesBeforeSuccessor) {
        if s.db.epoch <= me.epoch {
            Broken::LeftUnsucceeded.note(&mut s.ghost);
        }
        return gone(s, i);
    }
    s.of_mut(i).role = Role::Released(0);
    Some(())
}

/// No higher epoch came in time: it resumes, and then offers to somebody else or leaves alone.
pub(super) fn reservation_lapses(c: &Config, s: &mut State, i: Id) -> Option<()> {
    match s.of(i).role {
        Role::Released(age) if age >= c.timing.reservation => super::tenure::exile(s, i),
        _ => None,
    }
}

/// A higher epoch is in force.
pub(super) fn succeeded(s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    if !matches!(me.role, Role::Released(_)) || !s.pg.up || s.db.epoch <= me.epoch {
        return None;
    }
    if me.leaving {
        if s.db.epoch <= me.epoch {
            Broken::LeftUnsucceeded.note(&mut s.ghost);
        }
        return gone(s, i);
    }
    let seen = s.db.epoch;
    *s.of_mut(i) = Instance { seen, link: me.link, patience: me.patience, ..Instance::new(true) };
    Some(())
}

/// Nobody takes over: one that was told to go acts by its exit policy and leaves the office empty; one that only
/// wanted to hand over stays.
pub(super) fn leave_alone(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = *s.of(i);
    let (Role::Lead, Going::Draining(asked)) = (me.role, me.going) else { return None };
    if candidates(c, s, i, asked).next().is_some() {
        return None;
    }
    if !me.leaving {
        s.of_mut(i).going = Going::No;
        return Some(());
    }
    s.serves(me.pin)?;
    if me.deadline == 0 || !is_drained(s, i) || !may_update(c, s) {
        return None;
    }
    if s.db.epoch != me.epoch {
        return fenced(c, s, i);
    }
    s.ghost.policy = true;
    s.db.holder = Owner::Nobody;
    s.db.named = None;
    s.db.offer = None;
    gone(s, i)
}

/// One that does not lead goes, unless an acknowledgement binds it, once it has seen a heartbeat since it last stood or
/// led: somebody is in office. Without one it stands, and acts by the exit policy as the last leader.
pub(super) fn leave(c: &Config, s: &mut State, i: Id) -> Option<()> {
    let me = s.of(i);
    let unsure = !me.assured && !c.lacks(Mutant::LeavesUnassured);
    if me.role != Role::Follow || !me.leaving || me.bound > 0 || unsure {
        return None;
    }
    gone(s, i)
}

fn gone(s: &mut State, i: Id) -> Option<()> {
    close_fence(s, i);
    let link = s.of(i).link;
    *s.of_mut(i) = Instance { role: Role::Gone, watch: Watch::Nothing, link, ..Instance::new(false) };
    Some(())
}
