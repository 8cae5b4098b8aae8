//! Plays the role: one loop, one state at a time, as `ha/src/agent` does. Following is here.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use ha::election::{Ballot, Decision, Patience};
use ha::handover::binding;
use ha::{Moment, Reason, Status};

use super::lead::{Released, Seat};
use super::suspended::Exiled;
use super::{Command, Membership, Outcome, Process, Retirement, Sight, lead, stand, suspended};
use crate::mutant::Mutant;
use crate::postgres::{Ask, Said};

/// The next state.
pub enum Next {
    Follow,
    Stand(Ballot),
    Lead(Box<Seat>),
    Succeed(Box<Released>),
    Suspend(Box<Exiled>),
    Stop,
}

/// What woke a state.
pub enum Heard {
    Sight,
    Roll,
    Nap,
    Command(Command),
    /// The fence was closed, or the pinned session ended: for a leader only.
    Over,
}

pub async fn run(me: Rc<Process>) {
    let mut next = Next::Follow;
    loop {
        next = match next {
            Next::Follow => follow(&me).await,
            Next::Stand(ballot) => stand::stand(&me, ballot).await,
            Next::Lead(seat) => lead::lead(&me, seat).await,
            Next::Succeed(released) => lead::await_successor(&me, *released).await,
            Next::Suspend(exile) => suspended::come_back(&me, *exile).await,
            Next::Stop => {
                let observer = me.observer.borrow().clone();
                if let Some(session) = observer {
                    let strike = session.ask(Ask::Strike { process: me.index });
                    me.within(me.timing.acknowledgement(), strike).await;
                }
                me.tell(|| "takes no further part".to_owned());
                me.world().after(1, move |world| {
                    let _ = world;
                    me.crash();
                });
                return;
            }
        };
    }
}

/// Waits for whatever comes first; among what is there already, by chance.
pub async fn hear(me: &Process, wake: Option<u64>, over: impl Fn() -> bool) -> Heard {
    let world = me.world();
    if let Some(at) = wake {
        world.wake_me_at(at);
    }
    poll_fn(|_| {
        if over() {
            return Poll::Ready(Heard::Over);
        }
        let sight = me.sight_read.get() != me.sight_version.get();
        let roll = me.roll_read.get() != me.roll_version.get();
        let nap = wake.is_some_and(|at| world.now() >= at);
        let command = !me.commands.borrow().is_empty();
        let ready = [sight, roll, nap, command];
        let count = ready.iter().filter(|ready| **ready).count();
        if count == 0 {
            return Poll::Pending;
        }
        let chosen = if count == 1 { 0 } else { world.dice.borrow_mut().pick(count) };
        let place = ready.iter().enumerate().filter(|(_, ready)| **ready).nth(chosen).map(|(at, _)| at);
        Poll::Ready(match place {
            Some(0) => {
                me.sight_read.set(me.sight_version.get());
                Heard::Sight
            }
            Some(1) => {
                me.roll_read.set(me.roll_version.get());
                Heard::Roll
            }
            Some(2) => Heard::Nap,
            _ => Heard::Command(me.commands.borrow_mut().pop_front().expect("there is one")),
        })
    })
    .await
}

async fn follow(me: &Rc<Process>) -> Next {
    me.set_pace(me.timing.watch);
    let mut look_at: Option<Moment> = None;
    loop {
        if me.roll.borrow().membership == Membership::Refused {
            return Next::Stop;
        }
        retire_if_possible(me);
        let wake = match (look_at, me.bound.get()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match hear(me, wake.map(|at| me.true_moment(at)), || false).await {
            Heard::Sight => match see(me).await {
                Some(Decision::Stand(ballot)) => return Next::Stand(ballot),
                Some(Decision::Wait { look_at: at, .. }) => look_at = at,
                Some(Decision::Acknowledge(_)) | None => look_at = None,
            },
            Heard::Nap => {
                let now = me.now();
                if me.bound.get().is_some_and(|until| now >= until) {
                    unbind(me);
                }
                if look_at.is_some_and(|at| now >= at) {
                    look_at = None;
                    me.hear_bell();
                }
            }
            Heard::Roll | Heard::Over => {}
            Heard::Command(command) => {
                if obey(me, command) {
                    return Next::Stop;
                }
            }
        }
    }
}

async fn see(me: &Rc<Process>) -> Option<Decision> {
    let sight = me.sight.borrow().clone();
    let Sight::Seen(look) = sight else { return None };
    if me.world().is(Mutant::MissingKeyIsEvidence)
        && let Some(ballot) = believe_redis(me, &look.row)
    {
        return Some(Decision::Stand(ballot));
    }
    let standing = me.standing(look.row.holder.as_ref());
    let decision = me.watcher.borrow_mut().observe(&look, &standing);
    let held_down = me.watcher.borrow().held_down(look.finished);
    me.wish(|wish| wish.held_down = held_down);
    if let Decision::Acknowledge(offer) = &decision {
        acknowledge(me, *offer).await;
    }
    Some(decision)
}

/// What a follower of the missing-key mutant makes of an absent lease.
fn believe_redis(me: &Process, row: &ha::election::Row) -> Option<Ballot> {
    let world = me.world();
    let redis = world.redis.borrow();
    let reachable = redis.up.refuses_until <= world.now() && redis.up.silent_until <= world.now();
    let absent = reachable && redis.lease(world.now()).is_none();
    let active = me.roll.borrow().status == Some(Status::Active);
    (absent && active && row.pin.is_some() && row.holder.is_some()).then(|| Ballot {
        reason: Reason::Stale,
        epoch: row.epoch,
        previous: row.holder.clone(),
        counter: row.counter,
        evict: row.pin,
        last_sign: None,
        without_lease_from: None,
        patience: Patience::RespectAll,
    })
}

async fn acknowledge(me: &Rc<Process>, offer: uuid::Uuid) {
    let until = me.now().plus(binding(&me.timing));
    let session = me.observer.borrow().clone();
    let ask = Ask::Acknowledge { offer, me: me.me.clone() };
    let answer = match session {
        Some(session) => me.within(me.timing.lock_timeout(), session.ask(ask)).await,
        None => None,
    };
    match answer {
        Some(Ok(Said::Yes(false))) => {}
        // Stored, or nobody knows.
        _ => {
            me.bound.set(Some(until));
            me.tell(|| "accepts a handover".to_owned());
        }
    }
}

/// Carries out a command in a state that does not lead; true if it is to leave.
pub fn obey(me: &Process, command: Command) -> bool {
    match command {
        Command::SetStatus(status) => set_status(me, status),
        Command::HandOver => answer(me, Outcome::NotLeader),
        Command::Retire => retire(me),
        Command::Leave => return true,
    }
    false
}

pub fn answer(me: &Process, outcome: Outcome) {
    me.outcome.set(Some(outcome));
    me.nudge();
}

pub fn retire(me: &Process) {
    let now = me.now();
    me.watcher.borrow_mut().retire(now);
    me.retiring.set(true);
}

pub fn retired(me: &Process, retirement: Retirement) {
    if me.retiring.take() {
        me.retirement.set(Some(retirement));
        me.nudge();
    }
}

fn retire_if_possible(me: &Process) {
    if !me.retiring.get() || me.bound.get().is_some() {
        return;
    }
    me.wish(|wish| wish.status = Status::Draining);
    if me.watcher.borrow().may_leave() || me.world().is(Mutant::LeavesUnassured) {
        retired(me, Retirement::MayLeave);
    }
}

pub fn set_status(me: &Process, status: Status) {
    if status != Status::Draining && me.watcher.borrow().is_retiring() {
        return;
    }
    if status == Status::Draining && me.bound.get().is_some_and(|until| me.now() < until) {
        me.drain_waits.set(true);
        return;
    }
    me.wish(|wish| wish.status = status);
}

pub fn unbind(me: &Process) {
    me.bound.set(None);
    if me.drain_waits.take() {
        set_status(me, Status::Draining);
    }
}

/// Back to the start: leadership ended against this instance's will.
pub fn demote(me: &Process, why: &str) {
    me.tell(|| format!("gave up leadership: {why}"));
    me.world().checker.borrow_mut().tally.demotions += 1;
    let now = me.now();
    me.watcher.borrow_mut().reset();
    me.watcher.borrow_mut().lost(now);
    me.wish(|wish| {
        wish.held_down = true;
        if wish.status == Status::Active {
            wish.status = Status::Recovering;
        }
    });
}
