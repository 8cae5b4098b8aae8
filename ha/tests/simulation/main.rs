//! Seeded simulation: the crate's decisions under many schedules, in virtual time.
//!
//! Three processes and two stores in memory. Pauses, crashes, lost hosts, hung engines, late and held messages,
//! ended sessions, stores that refuse, hang, lose data or fail over, handovers and second processes of a member
//! come as a seed draws them. Every decision is the crate's own (`election`, `tenure`, `exile`, `handover`,
//! `office`, `roll`, `gate`); what is written here again is the way between them and the stores. The tests
//! against real stores show that this way is the agent's.
//!
//! `BATON_SEED=N cargo nextest run -p ha --test simulation every_schedule --no-capture` replays the schedule of one seed
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
fn every_schedule_keeps_every_promise() {
    sweep_of(20_000);
}

// R: S3, S4, S7, S8, S9, S11, L1, L2, L3, L5
#[test]
#[ignore = "slow: a minute of processor time"]
fn a_hundred_thousand_schedules_keep_every_promise() {
    sweep_of(100_000);
}

/// Plays the seed of `BATON_SEED`, else as many schedules as `BATON_SCHEDULES` or this test says.
fn sweep_of(schedules: u64) {
    if let Some(seed) = number("BATON_SEED") {
        replay(seed);
        return;
    }
    let count = number("BATON_SCHEDULES").unwrap_or(schedules);
    let from = number("BATON_SEED_FROM").unwrap_or(1);
    let swept = sweep(from, count);
    println!("{swept}");
    swept.touched_everything();
}

/// Runs a schedule of this theme that has to keep every promise; one that does not is told line by line.
fn keeps(seed: u64, theme: Theme) -> checker::Tally {
    let report = run(seed, theme, None, false);
    if report.violation.is_some() {
        let told = run(seed, theme, None, true);
        panic!("seed {seed}, {theme:?}: {:?}\n{}", told.violation, told.trace.join("\n"));
    }
    report.tally
}

// R: L3: T = 3 s; every hundredth message comes 200 to 1200 ms late, processes pause for up to a second.
#[test]
fn l3_late_messages_and_pauses_of_a_second_move_nothing() {
    let (from, count) = (number("BATON_SEED_FROM").unwrap_or(1), 300);
    println!("seeds {from} to {}", from + count - 1);
    for seed in from..from + count {
        keeps(seed, Theme::Jitter);
    }
}

// R: R20
#[test]
fn r20_whatever_moves_leadership_while_all_are_told_to_stop_the_last_one_acts() {
    let (from, count) = (number("BATON_SEED_FROM").unwrap_or(1), 3_000);
    println!("seeds {from} to {}", from + count - 1);
    let mut acted = 0;
    for seed in from..from + count {
        acted += keeps(seed, Theme::Stopping).wound_down;
    }
    println!("{acted} instances acted by the exit policy");
    assert!(acted >= count, "in each schedule somebody does");
}

#[test]
fn a_seed_is_the_whole_schedule() {
    for seed in 0..32 {
        let (a, b) = (run(seed, Theme::of(seed), None, true), run(seed, Theme::of(seed), None, true));
        assert!(a.trace.len() > 5, "seed {seed}");
        assert_eq!(a.trace, b.trace, "seed {seed}");
    }
}
