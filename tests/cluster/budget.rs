//! The order rate is the cluster's, whoever leads: a leader that has died leaves its successor no fresh allowance.

use std::time::Duration;

use crate::signals::base;
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::wait;

/// Orders that the cluster lets through within any second; a third of them are the exits'.
const A_SECOND: usize = 6;
/// What is left of them for entries.
const OF_ENTRIES: usize = 4;
/// Entries that wait for it.
const ENTRIES: usize = 16;
/// How much later than its predecessors an order may be on its way.
const ON_THE_WAY: Duration = Duration::from_millis(400);

// R: K6, D8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_has_more_orders_than_allowed_though_leadership_moves_within_it() {
    let instruments: Vec<String> = (0..ENTRIES).map(|number| format!("RATED{number}")).collect();
    let mut env = independent();
    env.push(("BATON_BROKER__ORDERS_PER_SECOND", A_SECOND.to_string()));
    let mut cluster =
        Cluster::with(Options { instruments: instruments.clone(), env, ..Options::default() }).await;
    let leader = cluster.leader().await;
    let mut posted = Vec::new();
    for instrument in &instruments {
        posted.push(cluster.post(leader, &base(&format!("in-{instrument}"), instrument, 1000)).await);
    }
    wait::until("a second's entries have left", PATIENCE, async || {
        match cluster.paper.arrivals().await.len() {
            left if left >= OF_ENTRIES => Ok(()),
            left => Err(left),
        }
    })
    .await;
    let (old, new, took) = cluster.kill_leader().await;
    assert_ne!(old, new);
    // What was journaled and waited for its turn when its leader died never left.
    let mut executed = 0;
    for accepted in &posted {
        let view = cluster.terminal(&accepted.id).await;
        assert!(view["status"] == "executed" || view["status"] == "abandoned", "{view}");
        executed += usize::from(view["status"] == "executed");
    }
    let arrivals = cluster.paper.arrivals().await;
    let mut times: Vec<u64> = arrivals.iter().map(|arrival| arrival.elapsed_us).collect();
    times.sort_unstable();
    assert_eq!(times.len(), executed, "another led {took:?} after the kill");
    assert!(executed > OF_ENTRIES * 2, "{executed} executed");
    let closest = times.windows(OF_ENTRIES + 1).map(|orders| orders[OF_ENTRIES] - orders[0]).min().unwrap();
    let closest = Duration::from_micros(closest);
    assert!(closest + ON_THE_WAY >= Duration::from_secs(1), "{} entries within {closest:?}", OF_ENTRIES + 1);
    cluster.finish().await;
}
