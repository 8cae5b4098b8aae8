//! The server stops, or is lost and a copy takes its place.

use std::rc::Rc;

use super::Doing;
use super::server::terminate;
use crate::world::{MILLI, World};

/// The server goes down; whatever was not committed is lost.
pub fn restart(world: &Rc<World>, down_for: u64) {
    end_all_sessions(world, "the server stops");
    world.postgres.borrow_mut().gate.refuses_until = world.now() + down_for;
}

/// The server is lost and a copy is promoted that is `lag` behind, after a while. What was committed since is gone.
pub fn fail_over(world: &Rc<World>, lag: u64, down_for: u64) {
    end_all_sessions(world, "the server is lost");
    let mut postgres = world.postgres.borrow_mut();
    let now = world.now();
    let copied = postgres.copies.iter().rev().find(|(at, _)| now - at >= lag).map(|(_, table)| table.clone());
    if let Some(table) = copied {
        postgres.table = table;
    }
    postgres.copies.clear();
    postgres.timeline += 1;
    postgres.gate.refuses_until = now + down_for;
    let epoch = postgres.table.epoch;
    drop(postgres);
    world.tell(|| {
        format!("postgres: a copy is promoted that was {} ms behind, at epoch {epoch}", lag / MILLI)
    });
    world.checker.borrow_mut().failed_over();
}

pub(super) fn end_all_sessions(world: &Rc<World>, why: &'static str) {
    let count = world.postgres.borrow().sessions.len();
    for id in 0..count {
        // A commit that was on its way is lost with the server.
        world.postgres.borrow_mut().sessions[id].doing = Doing::Nothing;
        terminate(world, id, why);
    }
}
