//! Seeded simulation: the crate's decisions under many schedules, in virtual time.
//!
//! Three processes and two stores in memory. Pauses, crashes, lost hosts, hung engines, late and held messages,
//! ended sessions, stores that refuse, hang, lose data or fail over, handovers and second processes of a member
//! come as a seed draws them. Every decision is the crate's own (`election`, `tenure`, `exile`, `handover`,
//! `office`, `roll`, `gate`); what is written here again is the way between them and the stores. The tests
//! against real stores show that this way is the agent's.
//!
//! `BATON_SEED=N cargo nextest run -p ha --test simulation a_hundred --no-capture` replays the schedule of one seed
//! with a trace, a line an event. `BATON_SCHEDULES=N` sets how many seeds are run, `BATON_SEED_FROM=N` the first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checker;
mod dice;
mod faults;
mod link;
mod mutant;
mod mutants;
mod postgres;
mod process;
mod redis;
mod schedule;
mod session;
mod sweep;
mod world;

use schedule::{Theme, run};
use sweep::{number, replay, sweep};

// R: S3, S4, S7, S8, S9, S11, L1, L2, L3, L5
#[test]
fn a_hundred_thousand_schedules_keep_every_promise() {
    if let Some(seed) = number("BATON_SEED") {
        replay(seed);
        return;
    }
    let count = number("BATON_SCHEDULES").unwrap_or(100_000);
    let from = number("BATON_SEED_FROM").unwrap_or(1);
    let swept = sweep(from, count);
    println!("{swept}");
    swept.touched_everything();
}

#[test]
fn a_seed_is_the_whole_schedule() {
    for seed in 0..32 {
        let (a, b) = (run(seed, Theme::of(seed), None, true), run(seed, Theme::of(seed), None, true));
        assert!(a.trace.len() > 5, "seed {seed}");
        assert_eq!(a.trace, b.trace, "seed {seed}");
    }
}
