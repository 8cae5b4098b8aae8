//! Sessions: how they begin, take statements, and end.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::execute::execute;
use super::lock::release_row;
use super::{Answer, Ask, Doing, Fault, Session, SessionId, backend};
use crate::session::ClientEnd;
use crate::world::{MICRO, MILLI, Slot, World};

/// A client asks for a session.
pub fn open(world: &Rc<World>, client: &Weak<ClientEnd>, process: usize) {
    let refused = world.postgres.borrow().gate.refuses_until > world.now();
    let Some(end) = client.upgrade() else { return };
    if refused {
        end.opened(world, Err(Fault::Broken));
        return;
    }
    let silent = world.postgres.borrow().gate.silent_until;
    if silent > world.now() {
        let client = client.clone();
        world.at(silent + world.draw(10 * MICRO, MILLI), move |world| open(world, &client, process));
        return;
    }
    let mut postgres = world.postgres.borrow_mut();
    let id = postgres.sessions.len();
    let since_idle = world.now();
    postgres.sessions.push(Session {
        process,
        client: client.clone(),
        alive: true,
        finished: false,
        queue: VecDeque::new(),
        doing: Doing::Nothing,
        transaction: None,
        since_idle,
    });
    let database = postgres.database();
    drop(postgres);
    end.opened(world, Ok((id, backend(id), database)));
}

/// A statement arrives.
pub fn arrive(world: &Rc<World>, id: SessionId, ask: Ask, slot: Rc<Slot<Answer>>) {
    {
        let mut postgres = world.postgres.borrow_mut();
        let session = &mut postgres.sessions[id];
        if !session.alive {
            return;
        }
        session.queue.push_back((ask, slot));
    }
    advance(world, id);
}

/// The client's socket was closed. A waiting statement notices within the check interval.
pub fn finish(world: &Rc<World>, id: SessionId) {
    let waiting = {
        let mut postgres = world.postgres.borrow_mut();
        let session = &mut postgres.sessions[id];
        session.finished = true;
        matches!(session.doing, Doing::Waiting(..)) || !session.queue.is_empty()
    };
    if waiting {
        let check = world.postgres.borrow().lock_timeout;
        world.after(world.draw(MILLI, check.max(2 * MILLI)), move |world| {
            terminate(world, id, "its client is gone")
        });
    } else {
        terminate(world, id, "its client is gone");
    }
}

/// Ends a session; one that commits finishes that first.
pub fn terminate(world: &Rc<World>, id: SessionId, why: &'static str) {
    let mut postgres = world.postgres.borrow_mut();
    let session = &mut postgres.sessions[id];
    if !session.alive {
        return;
    }
    if matches!(session.doing, Doing::Committing) {
        drop(postgres);
        world.after(world.draw(20 * MICRO, 300 * MICRO), move |world| terminate(world, id, why));
        return;
    }
    session.alive = false;
    session.queue.clear();
    session.doing = Doing::Nothing;
    session.transaction = None;
    let client = session.client.clone();
    let process = session.process;
    let pinned = postgres.pin == Some(id);
    if pinned {
        postgres.pin = None;
    }
    postgres.members.retain(|(_, holder)| *holder != id);
    drop(postgres);
    world.tell(|| {
        let pin = if pinned { ", which held the pin" } else { "" };
        format!("postgres: session {id} of p{process}{pin} ends: {why}")
    });
    release_row(world, id);
    if let Some(client) = client.upgrade() {
        client.server_ended(world);
    }
}

/// Executes what a session has to do next.
pub(super) fn advance(world: &Rc<World>, id: SessionId) {
    let now = world.now();
    let mut postgres = world.postgres.borrow_mut();
    if postgres.gate.silent_until > now {
        let at = postgres.gate.silent_until;
        drop(postgres);
        world.at(at + world.draw(10 * MICRO, MILLI), move |world| advance(world, id));
        return;
    }
    let session = &mut postgres.sessions[id];
    if !session.alive || !matches!(session.doing, Doing::Nothing) {
        return;
    }
    let Some((ask, slot)) = session.queue.pop_front() else { return };
    let process = session.process;
    drop(postgres);
    let served = execute(world, id, process, &ask, &slot);
    if let Some(answer) = served {
        reply(world, id, slot, answer);
    }
}

pub(super) fn reply(world: &Rc<World>, id: SessionId, slot: Rc<Slot<Answer>>, answer: Answer) {
    let client = {
        let mut postgres = world.postgres.borrow_mut();
        let session = &mut postgres.sessions[id];
        session.since_idle = world.now();
        session.doing = Doing::Nothing;
        session.client.clone()
    };
    if let Some(client) = client.upgrade() {
        client.answered(world, slot, answer);
    }
    advance(world, id);
}

/// `pg_terminate_backend` sends a signal; the session ends when its process gets it.
pub(super) fn signal(world: &Rc<World>, id: SessionId, why: &'static str) {
    world.after(world.draw(30 * MICRO, 4 * MILLI), move |world| terminate(world, id, why));
}
