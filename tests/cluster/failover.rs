//! How long the cluster is without a leader: after kill -9 and over a clean handover.

use std::time::{Duration, Instant};

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::seed::Seed;
use crate::support::wait::{self, spread};

/// Kills and handovers in the quick tests.
const ROUNDS: usize = 20;
/// The same in the slow ones.
const MANY: usize = 100;
/// One T of the test clusters: the phase at which a round begins is anywhere in it.
const T: Duration = Duration::from_secs(1);

fn print(what: &str, times: &mut [Duration]) -> Duration {
    let (median, p95, longest) = spread(times);
    println!("{what}, n = {}: median {median:?}, p95 {p95:?}, longest {longest:?}", times.len());
    median
}

async fn enter(cluster: &Cluster) {
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
}

// R: H1, C6, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_kill_of_the_leader_fails_over_under_a_second() {
    kill_the_leader(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a hundred kills for the figures' tails"]
async fn a_hundred_kills_of_the_leader_fail_over_under_a_second() {
    kill_the_leader(MANY).await;
}

async fn kill_the_leader(rounds: usize) {
    let mut seed = Seed::drawn("kill");
    let mut cluster = Cluster::start().await;
    enter(&cluster).await;
    let mut times = Vec::new();
    for _ in 0..rounds {
        cluster.all_ready().await;
        tokio::time::sleep(seed.duration(T)).await;
        let before = cluster.epoch().await;
        let (old, _, took) = cluster.kill_leader().await;
        assert!(cluster.epoch().await > before, "the epoch rises with each leader");
        times.push(took);
        cluster.members[old].restart().await;
    }
    let median = print("kill -9 to a follower that leads and trades", &mut times);
    assert!(median < Duration::from_secs(1), "{median:?}");

    // The position came through all of it, and whoever leads now can close it.
    let out = cluster.play(1, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    let crashes = cluster.count("SELECT count(*) FROM leadership_history WHERE reason = 'crash'").await;
    println!("{crashes} of {rounds} takeovers were seen as crashes");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: H5, K7, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_hands_over_under_500_ms() {
    hand_over(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a hundred handovers for the figures' tails"]
async fn a_hundred_handovers_stay_under_500_ms() {
    hand_over(MANY).await;
}

async fn hand_over(rounds: usize) {
    let mut seed = Seed::drawn("handover");
    let mut cluster = Cluster::start().await;
    enter(&cluster).await;
    let mut times = Vec::new();
    for _ in 0..rounds {
        cluster.all_ready().await;
        tokio::time::sleep(seed.duration(T)).await;
        let old = cluster.leader().await;
        let begun = Instant::now();
        cluster.members[old].process.signal(Signal::TERM);
        cluster.leader_within(PATIENCE, |index| index != old).await;
        times.push(begun.elapsed());
        let status = cluster.members[old].process.exit(PATIENCE).await;
        assert!(status.success(), "{status}\n{}", cluster.members[old].process.tail());
        cluster.members[old].restart().await;
    }
    let median = print("SIGTERM to a follower that leads and trades", &mut times);
    assert!(median < Duration::from_millis(500), "{median:?}");

    let handovers = cluster.count("SELECT count(*) FROM leadership_history WHERE reason = 'handover'").await;
    assert_eq!(
        handovers,
        i64::try_from(rounds).unwrap(),
        "each change was a handover: {:?}",
        cluster.history().await
    );
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions, check.epochs), (1, 1, rounds + 1));
}

// R: H5: the next instance's turn comes as soon as the one before is ready, which is sooner than anybody has seen its
// sign of life move twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_over_in_a_quick_rolling_restart() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    for _ in 0..6 {
        let leader = cluster.leader().await;
        let other = 1 - leader;
        cluster.members[other].process.kill().await;
        cluster.members[other].restart().await;
        cluster.all_ready().await;
        cluster.members[leader].process.signal(Signal::TERM);
        let status = cluster.members[leader].process.exit(PATIENCE).await;
        assert!(status.success(), "{status}\n{}", cluster.members[leader].process.tail());
        cluster.leader_within(PATIENCE, |index| index == other).await;
        cluster.members[leader].restart().await;
        cluster.all_ready().await;
    }
    let crashes = cluster.count("SELECT count(*) FROM leadership_history WHERE reason = 'crash'").await;
    assert_eq!(crashes, 0, "{:?}\n{:?}", cluster.history().await, cluster.logs());
    cluster.finish().await;
}

// R: a last instance does not wait for anybody who is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_instance_stops_at_once() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    let begun = Instant::now();
    cluster.members[0].process.signal(Signal::TERM);
    let status = cluster.members[0].process.exit(PATIENCE).await;
    assert!(status.success(), "{status}");
    println!("the last instance ended after {:?}", begun.elapsed());
    assert!(begun.elapsed() < 2 * T, "{:?}", begun.elapsed());
}

// R: S11: what is on its way when the leader is asked to go has its answer recorded before another leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_flow_through_a_rolling_restart() {
    let mut seed = Seed::drawn("rolling");
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let mut posted = Vec::new();
    for round in 0..9 {
        cluster.all_ready().await;
        let body = if round % 2 == 0 {
            base(&format!("in-{round}"), GOLD, 140_000)
        } else {
            exit(&format!("out-{round}"), GOLD, "ALL", 140_000)
        };
        let member = round % cluster.members.len();
        let entry_point = (member + 1) % cluster.members.len();
        posted.push(cluster.post(entry_point, &body).await.id);
        // Somewhere in the order's way.
        tokio::time::sleep(seed.duration(Duration::from_millis(30))).await;
        cluster.members[member].process.signal(Signal::TERM);
        let status = cluster.members[member].process.exit(PATIENCE).await;
        assert!(status.success(), "{status}\n{}", cluster.members[member].process.tail());
        cluster.members[member].restart().await;
        let view = cluster.terminal(&posted[round]).await;
        assert_eq!(view["status"], "executed", "no signal is missed: {view}");
    }
    let check = cluster.finish().await;
    assert_eq!((check.signals, check.orders, check.open_positions), (9, 9, 1));
}

// R: S11: the bridge answers after 10 s; the call times out before leadership goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_leadership_is_not_handed_over_while_an_order_is_in_flight() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let slow = json!({ "kind": "hang_after", "ms": 10_000 });
    cluster.paper.fault(json!({ "fault": slow, "verb": "placeorder", "count": 1 })).await;
    let old = cluster.leader().await;
    let signal = cluster.post(old, &base("in-flight", GOLD, 140_000)).await;
    wait::until("the order is at the bridge", PATIENCE, async || {
        if cluster.paper.orders().await.is_empty() { Err(cluster.logs()) } else { Ok(()) }
    })
    .await;
    cluster.members[old].process.signal(Signal::TERM);
    let new = cluster.leader_within(PATIENCE, |index| index != old).await;
    assert!(cluster.members[old].process.exit(PATIENCE).await.success());
    // What was in flight at the handover would have been put in doubt by the successor.
    let log = cluster.members[new].log();
    assert!(!log.contains("order intents of an older epoch are in doubt"), "{log}");
    let handovers = "SELECT count(*) FROM leadership_history WHERE reason = 'handover'";
    assert_eq!(cluster.count(handovers).await, 1, "{:?}", cluster.history().await);
    let view = cluster.terminal(&signal.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1));
}
