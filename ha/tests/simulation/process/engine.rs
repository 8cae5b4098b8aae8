//! The user of the protocol: recovers, authorises and sends while it leads, and leaves when it is asked to.
//!
//! It is careless on purpose: half of what it authorises it does not check first, and it goes on a while under a
//! fence that was closed, as a process does that does not know yet.

use std::rc::Rc;
use std::time::Duration;

use ha::gate::Gate;
use ha::{Moment, Status};

use super::{Command, Outcome, Process, Retirement};
use crate::mutant::Mutant;
use crate::postgres::{Ask, Said};
use crate::session::ClientEnd;
use crate::world::MILLI;

/// Later than any schedule lasts.
const NEVER: u64 = u64::MAX / 2;

fn some(me: &Process, low_ms: u64, high_ms: u64) -> Duration {
    Duration::from_nanos(me.world().draw(low_ms * MILLI, high_ms * MILLI))
}

/// Whoever is recovering becomes active after a while, at the start and after each demotion.
pub async fn recover(me: Rc<Process>) {
    loop {
        if me.wish.get().status == Status::Recovering && !me.hangs.get() {
            me.sleep(some(&me, 1, 120)).await;
            if me.wish.get().status == Status::Recovering {
                me.command(Command::SetStatus(Status::Active));
                me.sleep(Duration::from_millis(20)).await;
                continue;
            }
        }
        me.until_or(NEVER, || me.wish.get().status == Status::Recovering && !me.hangs.get()).await;
    }
}

/// The engine's work under one fence.
pub async fn trade(me: Rc<Process>, gate: Rc<Gate>, session: Rc<ClientEnd>) {
    let world = me.world();
    let mut after_the_end = 0;
    let on_a_pool = [Mutant::JournalOnPool, Mutant::LockedJournalOnPool, Mutant::NoRowLock];
    let pooled = if on_a_pool.iter().any(|mutant| world.is(*mutant)) {
        ClientEnd::open(&me, Duration::from_secs(1)).await.ok()
    } else {
        None
    };
    let session = pooled.unwrap_or(session);
    loop {
        me.sleep(some(&me, 15, 120)).await;
        if me.hangs.get() || me.draining.get() {
            continue;
        }
        let checked = gate.check(me.now());
        let careless = world.dice.borrow_mut().one_in(4);
        if let Ok(send_by) = &checked
            && !careless
        {
            me.in_flight.set(me.in_flight.get() + 1);
            world.checker.borrow_mut().passed(&world, me.index, gate.epoch());
            send(&me, &gate, &session, *send_by).await;
            me.in_flight.set(me.in_flight.get() - 1);
        } else {
            // What a process does that does not know yet: the row must stop it.
            after_the_end += u32::from(checked.is_err());
            let epoch = gate.epoch();
            let ask = Ask::Journal { epoch, process: me.index };
            let answer = me.within(Duration::from_secs(1), session.ask(ask)).await;
            if checked.is_err() && (after_the_end > 3 || !matches!(answer, Some(Ok(_)))) {
                return;
            }
        }
    }
}

/// Authorise, check again, write.
async fn send(me: &Process, gate: &Gate, session: &ClientEnd, send_by: Moment) {
    let world = me.world();
    let ask = Ask::Journal { epoch: gate.epoch(), process: me.index };
    match me.within(Duration::from_secs(1), session.ask(ask)).await {
        Some(Ok(Said::Rows(0))) => {
            world.checker.borrow_mut().tally.refused_entries += 1;
            gate.close("a statement met another epoch");
            me.nudge();
        }
        Some(Ok(Said::Rows(_))) => {
            // What was authorised before is written until its own deadline, under an open fence only.
            if gate.check(me.now()).is_ok() && me.now() < send_by {
                world.checker.borrow_mut().passed(&world, me.index, gate.epoch());
                world.checker.borrow_mut().tally.sent += 1;
            } else {
                world.checker.borrow_mut().tally.held_back += 1;
            }
        }
        _ => {}
    }
}

/// SIGTERM: drain, hand over or act by the exit policy, and leave no empty office behind; as `src/app/shutdown.rs` does.
pub async fn terminate_gracefully(me: Rc<Process>) {
    me.draining.set(true);
    while me.in_flight.get() > 0 {
        me.sleep(Duration::from_millis(2)).await;
    }
    loop {
        me.retirement.set(None);
        me.command(Command::Retire);
        until(&me, || me.retirement.get().is_some()).await;
        if me.retirement.get() == Some(Retirement::MayLeave) {
            break;
        }
        me.outcome.set(None);
        me.command(Command::HandOver);
        until(&me, || me.outcome.get().is_some()).await;
        let outcome = me.outcome.get();
        me.tell(|| format!("its handover came to {outcome:?}"));
        match outcome {
            Some(Outcome::HandedOver) => break,
            Some(Outcome::NoSuccessor) if wind_down(&me).await => break,
            _ => {}
        }
    }
    me.command(Command::Leave);
}

/// Waits for what only the agent's task is woken for.
async fn until(me: &Process, come: impl Fn() -> bool) {
    while !come() {
        me.sleep(Duration::from_millis(5)).await;
    }
}

/// Acts by the exit policy; false if leadership was lost meanwhile.
async fn wind_down(me: &Process) -> bool {
    me.sleep(some(me, 1, 200)).await;
    let leads = me.leads.get();
    if leads {
        me.tell(|| "acted by the exit policy".to_owned());
        me.world().checker.borrow_mut().tally.wound_down += 1;
    }
    leads
}
