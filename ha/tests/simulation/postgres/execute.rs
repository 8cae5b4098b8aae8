//! What each statement does when its turn comes.

use std::rc::Rc;

use ha::roll::Occupant;

use super::commit::{commit, notify};
use super::lock::want_row;
use super::server::signal;
use super::{Answer, Ask, Pending, Said, SessionId, backend};
use crate::faults::pin_taken;
use crate::mutant::Mutant;
use crate::world::{Slot, World};

/// Executes a statement; none when its answer comes later.
pub(super) fn execute(
    world: &Rc<World>,
    id: SessionId,
    process: usize,
    ask: &Ask,
    slot: &Rc<Slot<Answer>>,
) -> Option<Answer> {
    let mut guard = world.postgres.borrow_mut();
    let postgres = &mut *guard;
    let said = match ask {
        Ask::Look => Said::Look(Box::new(postgres.look())),
        Ask::TryPin => {
            let free = postgres.pin.is_none_or(|holder| holder == id);
            if free {
                postgres.pin = Some(id);
                world.tell(|| format!("postgres: session {id} of p{process} takes the pin"));
                pin_taken(world, process);
            }
            Said::Yes(free)
        }
        Ask::ReleasePin => {
            if postgres.pin == Some(id) {
                postgres.pin = None;
                world.tell(|| format!("postgres: session {id} of p{process} releases the pin"));
            }
            notify(world, postgres);
            Said::Done
        }
        Ask::TryMember(member) => {
            let free = postgres.members.iter().all(|(held, by)| held != member || *by == id);
            if free {
                postgres.members.push((*member, id));
            }
            Said::Yes(free)
        }
        Ask::Door(member) => {
            let holder = postgres.members.iter().find(|(held, _)| held == member).map(|(_, by)| *by);
            let liveness = postgres.liveness_of(*member, world);
            Said::Occupant(holder.map(|by| Occupant { backend: backend(by), liveness }))
        }
        Ask::EvictMember { member, occupant } => {
            let holder = postgres.members.iter().find(|(held, _)| held == member).map(|(_, by)| *by);
            let liveness = postgres.liveness_of(*member, world);
            if let Some(by) =
                holder.filter(|by| backend(*by) == occupant.backend && liveness == occupant.liveness)
            {
                signal(world, by, "its place was taken");
            }
            Said::Done
        }
        Ask::Evict { pin, epoch, counter } => {
            let rows_own =
                !world.is(Mutant::EvictsOnlyTheRowsSession) || postgres.table.holder_session == Some(*pin);
            let holds = postgres.pin.filter(|holder| {
                backend(*holder) == *pin
                    && postgres.table.epoch == *epoch
                    && postgres.table.counter == *counter
                    && rows_own
            });
            if let Some(holder) = holds {
                signal(world, holder, "its leader was stale");
            }
            Said::Yes(holds.is_some())
        }
        Ask::EndBackend(target) => {
            let id = usize::try_from(target.pid - 100).unwrap();
            if postgres.sessions[id].alive {
                signal(world, id, "its owner opened another");
            }
            Said::Done
        }
        Ask::LockRow => {
            drop(guard);
            return want_row(world, id, ask, slot);
        }
        Ask::Promote { to, found } => {
            assert_eq!(postgres.lock.exclusive, Some(id), "the transaction holds the row");
            assert_eq!(postgres.table.epoch, *found, "nobody changes a locked row");
            postgres.sessions[id].transaction = Some(Pending::Promotion(to.clone()));
            Said::Done
        }
        Ask::Resume => {
            postgres.sessions[id].transaction = Some(Pending::Resumption);
            Said::Done
        }
        Ask::Journal { epoch, .. } if world.is(Mutant::NoRowLock) => {
            // The plain check reads what is committed now, and the row is written later.
            if postgres.table.epoch != *epoch {
                return Some(Ok(Said::Rows(0)));
            }
            drop(guard);
            commit(world, id, ask.clone(), slot.clone());
            return None;
        }
        Ask::Journal { .. } => {
            drop(guard);
            return want_row(world, id, ask, slot);
        }
        Ask::Commit
        | Ask::Beat(_)
        | Ask::Offer { .. }
        | Ask::Withdraw(_)
        | Ask::Vacate(_)
        | Ask::Acknowledge { .. }
        | Ask::Live { .. }
        | Ask::Strike { .. } => {
            drop(guard);
            commit(world, id, ask.clone(), slot.clone());
            return None;
        }
    };
    Some(Ok(said))
}
