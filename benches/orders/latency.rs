//! From a signal's delivery to the first byte of its order at the bridge, one signal at a time.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::desk::{Desk, Lane};
use crate::shared::commit::Commits;
use crate::support::seed::Seed;

/// Signals before the first that counts: connections, plans and caches are warm by then.
const WARM: usize = 40;
/// Instruments that take turns.
pub const INSTRUMENTS: usize = 20;
/// The longest rest between two signals.
const REST: Duration = Duration::from_millis(20);

/// What was measured.
#[derive(Default)]
pub struct Times {
    /// Entries delivered to the leader, and to another member.
    pub entries: [Vec<Duration>; 2],
    /// Exits, the same.
    pub exits: [Vec<Duration>; 2],
    /// A bare commit beside each of them.
    pub commits: Vec<Duration>,
}

/// Delivers so many signals, and takes the time of a bare commit after each.
pub async fn times(rounds: usize, seed: &mut Seed, progress: &ProgressBar) -> Times {
    let commits = Commits::start().await;
    let desk = Desk::start(INSTRUMENTS).await;
    let leader = desk.cluster.leader().await;
    let mut lanes: Vec<Lane> = (0..INSTRUMENTS).map(Lane::new).collect();
    let mut times = Times::default();
    for round in 0..rounds + WARM {
        let lane = &mut lanes[round % INSTRUMENTS];
        let body = lane.signal();
        // Both kinds go to both.
        let elsewhere = seed.below(2);
        tokio::time::sleep(seed.duration(REST)).await;
        let begun = Instant::now();
        let accepted = desk.cluster.post((leader + elsewhere) % desk.cluster.members.len(), &body).await;
        let took = desk.ordered(lane).await - begun;
        let view = desk.cluster.terminal(&accepted.id).await;
        assert_eq!(view["status"], "executed", "{view}");
        let commit = commits.one().await;
        if round >= WARM {
            let kind = if lane.enters() { &mut times.entries } else { &mut times.exits };
            kind[elsewhere].push(took);
            times.commits.push(commit);
        }
        progress.inc(1);
    }
    desk.cluster.finish().await;
    times
}
