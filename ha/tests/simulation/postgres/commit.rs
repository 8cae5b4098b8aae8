//! Commits: they take time, and then the change is visible to everybody at once.

use std::rc::Rc;

use ha::Status;

use super::lock::release_row;
use super::server::reply;
use super::{Answer, Ask, Doing, Pending, Postgres, Registered, Said, SessionId, backend};
use crate::checker::Entry;
use crate::mutant::Mutant;
use crate::world::{MICRO, MILLI, Slot, World};

/// Writes a commit record, which takes time; then it is so.
pub(super) fn commit(world: &Rc<World>, id: SessionId, ask: Ask, slot: Rc<Slot<Answer>>) {
    let mut postgres = world.postgres.borrow_mut();
    postgres.sessions[id].doing = Doing::Committing;
    let stall = postgres.commits_stall_until;
    drop(postgres);
    let takes = if world.dice.borrow_mut().one_in(50) {
        world.draw(3 * MILLI, 30 * MILLI)
    } else {
        world.draw(200 * MICRO, 3 * MILLI)
    };
    world.at(world.now().max(stall) + takes, move |world| {
        let alive = world.postgres.borrow().sessions[id].alive;
        if !alive {
            return;
        }
        let said = committed(world, id, &ask);
        world.postgres.borrow_mut().sessions[id].transaction = None;
        release_row(world, id);
        reply(world, id, slot, Ok(said));
    });
}

/// The change is visible from here on.
pub(super) fn committed(world: &Rc<World>, id: SessionId, ask: &Ask) -> Said {
    let mut guard = world.postgres.borrow_mut();
    let postgres = &mut *guard;
    let now = world.now();
    keep_copies(postgres, now);
    let process = postgres.sessions[id].process;
    let table = &mut postgres.table;
    match ask {
        Ask::Commit => {
            match postgres.sessions[id].transaction.take() {
                Some(Pending::Promotion(change)) => {
                    table.epoch = change.epoch;
                    table.holder = Some(change.holder.clone());
                    table.holder_session = Some(backend(id));
                    table.system = Some(1);
                    table.timeline = Some(format!("{:08}", postgres.timeline + 1));
                    table.offer = None;
                    table.counter += 1;
                    world.tell(|| {
                        format!(
                            "postgres: p{process} is promoted to epoch {} ({})",
                            change.epoch, change.reason
                        )
                    });
                    world.checker.borrow_mut().promoted(world, process, change.epoch, change.reason);
                }
                Some(Pending::Resumption) => {
                    table.holder_session = Some(backend(id));
                    table.offer = None;
                    table.counter += 1;
                    let epoch = table.epoch;
                    world.tell(|| format!("postgres: p{process} resumes epoch {epoch}"));
                }
                Some(Pending::Nothing) | None => {}
            }
            notify(world, postgres);
            Said::Done
        }
        Ask::Beat(epoch) => {
            let beaten = table.epoch == *epoch;
            table.counter += i64::from(beaten);
            Said::Beaten(beaten, table.epoch)
        }
        Ask::Offer { epoch, id, to } => {
            let mine = table.epoch == *epoch;
            if mine {
                table.offer = Some((*id, to.clone()));
                notify(world, postgres);
            }
            Said::Rows(usize::from(mine))
        }
        Ask::Withdraw(epoch) => {
            if table.epoch == *epoch {
                table.offer = None;
            }
            Said::Done
        }
        Ask::Vacate(epoch) => {
            if table.epoch == *epoch {
                table.holder = None;
                table.holder_session = None;
                table.offer = None;
                notify(world, postgres);
            }
            Said::Done
        }
        Ask::Acknowledge { offer, me } => {
            let entry = table
                .instances
                .iter_mut()
                .find(|r| r.info.instance == *me && !r.gone && r.info.status == Status::Active);
            let done = entry.is_some();
            if let Some(entry) = entry {
                entry.acknowledged = Some(*offer);
                notify(world, postgres);
            }
            Said::Yes(done)
        }
        Ask::Live { process, info, turns } => {
            let member = &info.instance.member;
            for other in &mut table.instances {
                other.gone |= other.process != *process && other.info.instance.member == *member;
            }
            match table.instances.iter_mut().find(|r| r.process == *process) {
                Some(entry) => {
                    entry.liveness += i64::from(*turns);
                    entry.info = (**info).clone();
                    entry.gone = false;
                }
                None => table.instances.push(Registered {
                    process: *process,
                    info: (**info).clone(),
                    liveness: 0,
                    gone: false,
                    acknowledged: None,
                }),
            }
            let listed = table.instances.iter().filter(|r| !r.gone);
            Said::Peers(listed.map(|r| (r.info.clone(), r.liveness)).collect())
        }
        Ask::Strike { process } => {
            for entry in &mut table.instances {
                entry.gone |= entry.process == *process;
            }
            Said::Done
        }
        Ask::Journal { epoch, process } => {
            let entry = Entry { process: *process, epoch: *epoch, in_force: table.epoch };
            let pinned = world.is(Mutant::NoRowLock)
                || world.is(Mutant::LockedJournalOnPool)
                || postgres.pin.is_some_and(|pin| postgres.sessions[pin].process == *process);
            world.checker.borrow_mut().journaled(world, &entry, pinned);
            Said::Rows(1)
        }
        other => unreachable!("{other:?} commits nothing"),
    }
}

pub(super) fn keep_copies(postgres: &mut Postgres, now: u64) {
    if postgres.copies.back().is_none_or(|(at, _)| now - at > 5 * MILLI) {
        postgres.copies.push_back((now, postgres.table.clone()));
        if postgres.copies.len() > 100 {
            postgres.copies.pop_front();
        }
    }
}

pub(super) fn notify(world: &Rc<World>, postgres: &Postgres) {
    for process in postgres.listeners() {
        let travel = world.draw(50 * MICRO, 400 * MICRO);
        world.after(travel, move |world| {
            let target = world.processes.borrow()[process].clone();
            target.hear_bell();
        });
    }
}
