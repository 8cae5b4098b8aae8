//! What is done to a cluster, and its stores' return.

use super::postgres::{end, may_update};
use crate::config::{Config, Fault};
use crate::mutant::Mutant;
use crate::state::{Id, Instance, Life, Owner, Role, Sender, Sid, State, Status, Term, Watch};

/// A process dies. Its sessions stay until the server notices, which a lost host may delay for ever; its written
/// bytes stay in the network.
pub(super) fn crash(s: &mut State, i: Id) -> Option<()> {
    if !s.of(i).is_up() {
        return None;
    }
    s.spend(Fault::Crash)?;
    *s.of_mut(i) = Instance { role: Role::Down, link: s.of(i).link, ..Instance::new(false) };
    for wire in &mut s.wire {
        let by = match wire.sender {
            Sender::Idle => None,
            Sender::Ready { by, .. }
            | Sender::Checked { by, .. }
            | Sender::Sent { by }
            | Sender::Got { by, .. } => Some(by),
        };
        if by == Some(i) {
            wire.sender = Sender::Idle;
        }
    }
    let ended = |owner: &mut Owner| {
        if *owner == Owner::Of(i) {
            *owner = Owner::Ended;
        }
    };
    for db in [&mut s.db, &mut s.standby] {
        ended(&mut db.holder);
        if let Some(offer) = &mut db.offer {
            ended(&mut offer.to);
        }
    }
    if let Some(lease) = &mut s.redis.lease {
        ended(&mut lease.by);
    }
    ended(&mut s.ghost.office);
    for session in &mut s.pg.sessions {
        ended(&mut session.owner);
    }
    Some(())
}

/// It is started again, as another incarnation.
pub(super) fn restart(s: &mut State, i: Id) -> Option<()> {
    if s.of(i).role != Role::Down {
        return None;
    }
    s.of_mut(i).role = Role::Follow;
    Some(())
}

/// Somebody ends a session that is in use.
pub(super) fn end_session(s: &mut State, sid: Sid) -> Option<()> {
    if s.session(sid).life != Life::Live {
        return None;
    }
    s.spend(Fault::EndSession)?;
    end(s, sid);
    Some(())
}

fn all_sessions_end(c: &Config, s: &mut State) {
    for sid in 0..s.pg.sessions.len() {
        if s.pg.sessions[sid].life != Life::Free {
            end(s, Sid::try_from(sid).unwrap_or(0));
        }
    }
    for instance in &mut s.at[..c.instances] {
        instance.watch = Watch::Nothing;
    }
}

/// PostgreSQL goes away.
pub(super) fn postgres_goes(c: &Config, s: &mut State) -> Option<()> {
    if !s.pg.up {
        return None;
    }
    s.spend(Fault::Outage)?;
    all_sessions_end(c, s);
    s.pg.up = false;
    Some(())
}

/// It is back. Followers whose session broke let the incumbent come back first.
pub(super) fn postgres_returns(c: &Config, s: &mut State) -> Option<()> {
    if s.pg.up {
        return None;
    }
    s.pg.up = true;
    for instance in s.at[..c.instances].iter_mut().filter(|i| i.is_up()) {
        instance.patience = c.timing.ttl;
    }
    Some(())
}

/// The standby receives what the primary has committed.
pub(super) fn replicate(c: &Config, s: &mut State) -> Option<()> {
    if !s.pg.up || !c.replicates {
        return None;
    }
    s.standby = s.db;
    Some(())
}

/// The standby is promoted; the old primary is fenced by PostgreSQL's own means.
pub(super) fn failover(c: &Config, s: &mut State) -> Option<()> {
    s.spend(Fault::Failover)?;
    all_sessions_end(c, s);
    s.db = s.standby;
    s.db.named = None;
    s.pg.timeline += 1;
    s.pg.up = true;
    for instance in s.at[..c.instances].iter_mut().filter(|i| i.is_up()) {
        instance.patience = c.timing.ttl;
    }
    Some(())
}

/// Somebody lifts reduce-only: every order in the books is explained, and whatever was on its way has arrived.
pub(super) fn lift_reduce_only(c: &Config, s: &mut State) -> Option<()> {
    let failed_over = s.pg.timeline > 0 && s.db.timeline == s.pg.timeline;
    if !failed_over || !s.db.reduce_only || !may_update(c, s) {
        return None;
    }
    let explained = s.wire.iter().zip(&s.db.intents).all(|(wire, intent)| {
        wire.orders == 0 || wire.hidden > 0 || !matches!(intent.status, Status::Absent | Status::Refused)
    });
    let early = c.lacks(Mutant::LiftsReduceOnlyEarly);
    if !explained || (s.ghost.unsettled > 0 && !early) {
        return None;
    }
    s.db.reduce_only = false;
    Some(())
}

/// The lease expires, is deleted, or goes down with a Redis that failed over.
pub(super) fn lose_lease(c: &Config, s: &mut State) -> Option<()> {
    (c.redis_faults && s.redis.up).then(|| s.redis.lease = None)
}

/// FLUSHALL.
pub(super) fn flush(c: &Config, s: &mut State) -> Option<()> {
    lose_lease(c, s)?;
    s.redis.key = 0;
    Some(())
}

/// Redis goes away.
pub(super) fn redis_goes(c: &Config, s: &mut State) -> Option<()> {
    (c.redis_faults && s.redis.up).then(|| s.redis.up = false)
}

/// Redis is back.
pub(super) fn redis_returns(c: &Config, s: &mut State) -> Option<()> {
    (c.redis && !s.redis.up).then(|| s.redis.up = true)
}

/// One autocommit statement that locks the row.
pub(super) fn halt(c: &Config, s: &mut State) -> Option<()> {
    set_switch(c, s, Fault::Halt, |s| s.db.halted = true)
}

/// Trading goes on.
pub(super) fn unhalt(c: &Config, s: &mut State) -> Option<()> {
    (s.db.halted && may_update(c, s)).then(|| s.db.halted = false)
}

/// One autocommit statement that locks the row.
pub(super) fn reduce_only(c: &Config, s: &mut State) -> Option<()> {
    set_switch(c, s, Fault::ReduceOnly, |s| s.db.reduce_only = true)
}

fn set_switch(c: &Config, s: &mut State, which: Fault, set: impl Fn(&mut State)) -> Option<()> {
    if !may_update(c, s) {
        return None;
    }
    s.spend(which)?;
    set(s);
    Some(())
}

/// A row is changed by hand.
pub(super) fn corrupt(s: &mut State) -> Option<()> {
    if s.db.corrupt {
        return None;
    }
    s.spend(Fault::Corrupt)?;
    s.db.corrupt = true;
    Some(())
}

/// And repaired.
pub(super) fn repair(s: &mut State) -> Option<()> {
    if !s.db.corrupt {
        return None;
    }
    s.db.corrupt = false;
    s.ghost.damage_seen = false;
    Some(())
}

/// The network between an instance and the broker is cut, and stays cut.
pub(super) fn cut_link(s: &mut State, i: Id) -> Option<()> {
    if !s.of(i).link {
        return None;
    }
    s.spend(Fault::CutLink)?;
    s.of_mut(i).link = false;
    Some(())
}

/// The engine gives up on its ledger: the term ends, the fence does not, and a journal statement may still be under
/// way. Senders go on; nobody waits for them.
pub(super) fn term_fails(s: &mut State, i: Id) -> Option<()> {
    let instance = s.of(i);
    if instance.role != Role::Lead || matches!(instance.term, Term::None | Term::Doubting) {
        return None;
    }
    s.spend(Fault::HangLedger)?;
    for wire in &mut s.wire {
        match &mut wire.sender {
            Sender::Ready { by, lone, .. } | Sender::Checked { by, lone, .. } if *by == i => *lone = true,
            Sender::Sent { by } | Sender::Got { by, .. } if *by == i => wire.sender = Sender::Idle,
            _ => {}
        }
    }
    let instance = s.of_mut(i);
    instance.journal = None;
    instance.reading = None;
    instance.term = Term::Doubting;
    Some(())
}
