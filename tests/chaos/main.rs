//! Chaos: signals flow through a cluster whose processes, stores, links and bridge are disturbed at random, and nothing
//! is ever doubled or lost.
//!
//! `make chaos SEED=… FAULTS=… MEMBERS=…` runs it for as long as you like; `make test-slow` runs a short one. Every
//! so often all faults are healed, somebody must lead, everything must come to rest, and the checker compares the
//! ledger with the bridge's own log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disturb;
mod fault;
#[path = "../cluster/signals.rs"]
#[allow(dead_code, reason = "pyramids belong to the cluster tests")]
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod world;

use std::time::{Duration, Instant};

use support::seed::Seed;
use world::World;

/// Faults between two times of calm.
const STRETCH: usize = 25;
/// The longest time from one fault to the next.
const PAUSE: Duration = Duration::from_millis(500);

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
        Err(_) => default,
    }
}

// R: S1, S2, S3, S6, S7, S14, S15, S16, L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: disturbs a cluster for a minute or more; `make chaos` sets for how long"]
async fn nothing_is_doubled_or_lost_whatever_happens() {
    let mut seed = Seed::drawn("chaos");
    let (faults, members) = (setting("BATON_CHAOS_FAULTS", 50), setting("BATON_CHAOS_MEMBERS", 3));
    let mut world = World::start(members, &mut seed).await;
    let begun = Instant::now();
    for number in 1..=faults {
        tokio::time::sleep(seed.duration(PAUSE)).await;
        world.heal_what_is_due().await;
        let fault = fault::draw(&mut seed, world.members());
        println!("{:>8.3} s  {number:>5}  {fault:?}", begun.elapsed().as_secs_f64());
        world.inflict(fault).await;
        if number % STRETCH == 0 || number == faults {
            let calm = world.calm().await;
            println!("{:>8.3} s  {number:>5}  calm: {calm}", begun.elapsed().as_secs_f64());
        }
    }
    println!("{}", world.finish().await);
}
