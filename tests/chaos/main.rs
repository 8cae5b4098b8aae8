//! Chaos: signals flow through a cluster whose processes, stores, links and bridge are disturbed at random, and nothing
//! is ever doubled or lost.
//!
//! `make chaos SEED=… FAULTS=… MEMBERS=… PAUSE_MS=… RESTING=1 PLANS=1` runs it for as long as you like, with stops that rest at the
//! broker if the one is 1, with entries that bid if the other is; `make test-slow` runs a short one. Every so often all faults are healed, somebody must lead, everything must come to rest, and the checker compares the
//! ledger with the bridge's own log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disturb;
mod fault;
#[path = "../cluster/signals.rs"]
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod world;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use baton::mutant::Mutant;
use futures_util::FutureExt;
use support::seed::Seed;
use world::{Trial, World};

/// Faults between two times of calm.
const STRETCH: usize = 25;
/// Faults until the cluster is replaced by a fresh one: as on the real account, the day's books must not grow for ever.
const DAY: usize = 1000;
/// The longest time from one fault to the next, in milliseconds; `BATON_CHAOS_PAUSE_MS` sets another.
const PAUSE_MS: usize = 500;

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
        Err(_) => default,
    }
}

/// Disturbs clusters, one after the other, so many times in all, and gives the summary of each.
async fn run(faults: usize, trial: Trial, mut seed: Seed) -> String {
    let pause = Duration::from_millis(setting("BATON_CHAOS_PAUSE_MS", PAUSE_MS) as u64);
    let begun = Instant::now();
    let mut summaries = Vec::new();
    for first in (0..faults).step_by(DAY) {
        let mut world = World::start(trial, &mut seed).await;
        for number in first + 1..=faults.min(first + DAY) {
            tokio::time::sleep(seed.duration(pause)).await;
            world.heal_what_is_due().await;
            let fault = fault::draw(&mut seed, world.members());
            println!("{:>8.3} s  {number:>5}  {fault:?}", begun.elapsed().as_secs_f64());
            world.inflict(fault).await;
            if number % STRETCH == 0 {
                let calm = world.calm().await;
                println!("{:>8.3} s  {number:>5}  calm: {calm}", begun.elapsed().as_secs_f64());
            }
        }
        summaries.push(world.finish().await);
    }
    summaries.join("\n")
}

// R: S1, S2, S3, S6, S7, S14, S15, S16, L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: disturbs a cluster for a minute or more; `make chaos` sets for how long"]
async fn nothing_is_doubled_or_lost_whatever_happens() {
    let (faults, members) = (setting("BATON_CHAOS_FAULTS", 100), setting("BATON_CHAOS_MEMBERS", 3));
    let trial = Trial { members, resting: setting("BATON_CHAOS_RESTING", 0) > 0, mutant: None };
    println!("{}", run(faults, trial, Seed::drawn("chaos")).await);
}

// R: S1, S14, S15, L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: disturbs a cluster whose stops rest at the broker for some minutes; `make chaos RESTING=1` for longer"]
async fn stops_that_rest_double_and_lose_nothing_either() {
    let trial = Trial { members: 3, resting: true, mutant: None };
    println!("{}", run(50, trial, Seed::drawn("chaos with resting stops")).await);
}

// A checker that cannot fail proves nothing. What is drawn may pass a missing guard by, so each mutant gets three chances
// to be noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: disturbs seven clusters, each with one guard removed, until that is noticed"]
async fn every_missing_guard_is_noticed() {
    let mut seed = Seed::drawn("mutants");
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let begun = Instant::now();
        let trial = Trial { members: 3, resting: false, mutant: Some(mutant) };
        let mut noticed = None;
        for _ in 0..3 {
            let disturbed = AssertUnwindSafe(run(100, trial, seed.fork())).catch_unwind().await;
            noticed = disturbed.err();
            if noticed.is_some() {
                break;
            }
        }
        let Some(panic) = noticed else {
            missed.push(mutant);
            continue;
        };
        let said = panic.downcast_ref::<String>().map_or("", |said| said.lines().nth(1).unwrap_or(said));
        println!("{mutant:?} noticed after {:?}: {said}", begun.elapsed());
    }
    assert_eq!(missed, []);
}
