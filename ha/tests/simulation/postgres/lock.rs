//! The lock on the leadership row: one for update, or several for share, and those who wait in their order.

use std::rc::Rc;

use super::commit::commit;
use super::server::{reply, terminate};
use super::{Answer, Ask, Doing, Fault, Pending, Said, SessionId};
use crate::world::{MILLI, Slot, World};

/// Takes the row's lock for a statement, or queues for it.
pub(super) fn want_row(
    world: &Rc<World>,
    id: SessionId,
    ask: &Ask,
    slot: &Rc<Slot<Answer>>,
) -> Option<Answer> {
    let free = {
        let postgres = world.postgres.borrow();
        let lock = &postgres.lock;
        let exclusive = matches!(ask, Ask::LockRow);
        lock.exclusive.is_none() && lock.waiting.is_empty() && (!exclusive || lock.shared.is_empty())
    };
    if free {
        return got_row(world, id, ask, slot);
    }
    let mut postgres = world.postgres.borrow_mut();
    postgres.sessions[id].doing = Doing::Waiting(ask.clone(), slot.clone());
    postgres.lock.waiting.push_back(id);
    let patience = postgres.lock_timeout;
    drop(postgres);
    let slot = slot.clone();
    world.after(patience, move |world| {
        let mut postgres = world.postgres.borrow_mut();
        let still =
            matches!(&postgres.sessions[id].doing, Doing::Waiting(_, waits) if Rc::ptr_eq(waits, &slot));
        if still {
            postgres.lock.waiting.retain(|waits| *waits != id);
            // A transaction that fails is over, and holds nothing.
            postgres.sessions[id].transaction = None;
            drop(postgres);
            reply(world, id, slot, Err(Fault::LockTimeout));
            grant(world);
        }
    });
    None
}

/// The row's lock is this session's.
pub(super) fn got_row(
    world: &Rc<World>,
    id: SessionId,
    ask: &Ask,
    slot: &Rc<Slot<Answer>>,
) -> Option<Answer> {
    let mut postgres = world.postgres.borrow_mut();
    match ask {
        Ask::LockRow => {
            postgres.lock.exclusive = Some(id);
            postgres.sessions[id].transaction = Some(Pending::Nothing);
            let office = postgres.office();
            let idle = postgres.idle_timeout;
            drop(postgres);
            watch_idle(world, id, idle);
            Some(Ok(Said::Office(Box::new(office))))
        }
        Ask::Journal { epoch, .. } => {
            // What the statement sees of a locked row is what was committed last.
            if postgres.table.epoch != *epoch {
                return Some(Ok(Said::Rows(0)));
            }
            postgres.lock.shared.push(id);
            drop(postgres);
            commit(world, id, ask.clone(), slot.clone());
            None
        }
        other => unreachable!("{other:?} locks no row"),
    }
}

/// A session that idles in its transaction is ended.
pub(super) fn watch_idle(world: &Rc<World>, id: SessionId, patience: u64) {
    world.after(patience, move |world| {
        let postgres = world.postgres.borrow();
        let session = &postgres.sessions[id];
        if !session.alive || session.transaction.is_none() {
            return;
        }
        let idle_for = world.now() - session.since_idle;
        let idles = matches!(session.doing, Doing::Nothing);
        drop(postgres);
        if idles && idle_for >= patience {
            terminate(world, id, "idle in its transaction");
        } else {
            watch_idle(world, id, patience.saturating_sub(idle_for).max(MILLI));
        }
    });
}

pub(super) fn release_row(world: &Rc<World>, id: SessionId) {
    {
        let mut postgres = world.postgres.borrow_mut();
        let lock = &mut postgres.lock;
        if lock.exclusive == Some(id) {
            lock.exclusive = None;
        }
        lock.shared.retain(|holder| *holder != id);
        lock.waiting.retain(|waits| *waits != id);
    }
    grant(world);
}

/// Gives the row's lock to those who wait, in their order.
pub(super) fn grant(world: &Rc<World>) {
    loop {
        let mut postgres = world.postgres.borrow_mut();
        let Some(&id) = postgres.lock.waiting.front() else { return };
        let Doing::Waiting(ask, _) = &postgres.sessions[id].doing else { unreachable!("it waits") };
        let exclusive = matches!(ask, Ask::LockRow);
        if postgres.lock.exclusive.is_some() || (exclusive && !postgres.lock.shared.is_empty()) {
            return;
        }
        postgres.lock.waiting.pop_front();
        let doing = std::mem::replace(&mut postgres.sessions[id].doing, Doing::Nothing);
        drop(postgres);
        let Doing::Waiting(ask, slot) = doing else { unreachable!("it waits") };
        if let Some(answer) = got_row(world, id, &ask, &slot) {
            reply(world, id, slot, answer);
        }
    }
}
