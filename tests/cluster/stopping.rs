//! The last instance stops: its exit policy, with a slow broker, a dead one, and a dead database.

use std::time::{Duration, Instant};

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;

/// The budget of a clean stop, and what a busy machine may add.
const BUDGET: Duration = Duration::from_secs(10);

/// The broker may show an order as late as the tests hide one.
fn settles_late() -> Vec<(&'static str, String)> {
    vec![("BATON_BROKER__SETTLE_MS", "60000".to_owned())]
}

async fn alone(env: Vec<(&'static str, String)>) -> Cluster {
    let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster
}

/// Stops the first member by SIGTERM; gives its log.
async fn stopped(cluster: &mut Cluster) -> String {
    stopped_within(cluster, 0, BUDGET).await
}

/// Stops a member by SIGTERM, which may take so long; gives its log.
async fn stopped_within(cluster: &mut Cluster, member: usize, budget: Duration) -> String {
    let begun = Instant::now();
    cluster.members[member].process.signal(Signal::TERM);
    ended_within(cluster, member, begun, budget).await
}

/// Waits for the end of a stop that was begun then; gives the log.
async fn ended_within(cluster: &mut Cluster, member: usize, begun: Instant, budget: Duration) -> String {
    let status = cluster.members[member].process.exit(PATIENCE).await;
    let took = begun.elapsed();
    let log = cluster.members[member].log();
    println!("stopped after {took:?}");
    assert!(status.success(), "{status}\n{log}");
    assert!(took < budget, "{took:?}\n{log}");
    log
}

/// What was told last of this kind, with its severity.
async fn told(cluster: &Cluster, kind: &str) -> Option<(String, String)> {
    let sql = "SELECT severity, error_message FROM error_notifications_log WHERE error_type = $1";
    let row = cluster.sql.query_opt(sql, &[&kind]).await.unwrap();
    row.map(|row| (row.get(0), row.get(1)))
}

async fn held(cluster: &Cluster) -> i64 {
    cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await
}

// R: N12, K3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_instance_flattens_and_tells_each_step() {
    let mut cluster = alone(Vec::new()).await;
    let log = stopped(&mut cluster).await;
    assert_eq!(held(&cluster).await, 0, "{log}");
    for line in [
        "[SHUTDOWN] drained",
        "[SHUTDOWN] exit policy flatten",
        "[SHUTDOWN] cancel: no entry rests at the broker",
        "[SHUTDOWN] close: 1 positions closed, flat by the broker's books",
        "[SHUTDOWN] save:",
        "[SHUTDOWN] disconnect:",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    let cause = "SELECT count(*) FROM order_intent WHERE class = 'operator' AND cause = 'shutdown' AND state = 'filled'";
    assert_eq!(cluster.count(cause).await, 1);
    let (severity, message) = told(&cluster, "STOPPED").await.expect("the stop is told");
    assert_eq!(severity, "info");
    assert!(message.contains("flat by the broker's books"), "{message}");
    assert_eq!(told(&cluster, "POSITIONS_UNWATCHED").await, None);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_keeps_positions_and_cancels_entries_that_rest() {
    let mut cluster = alone(vec![("BATON_SHUTDOWN__EXIT_POLICY", "hold".to_owned())]).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    cluster.paper.post("fills", json!({ "hold": true })).await;
    cluster.post(0, &base("rests", SILVER, 150_000)).await;
    wait::until("the entry rests", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM order_intent WHERE state = 'acknowledged'").await {
            1 => Ok(()),
            _ => Err(cluster.logs()),
        }
    })
    .await;
    let log = stopped(&mut cluster).await;
    assert_eq!(held(&cluster).await, 1, "{log}");
    assert!(log.contains("[SHUTDOWN] cancel: 1 resting entries ended"), "{log}");
    assert!(!log.contains("[SHUTDOWN] close"), "{log}");
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE state = 'cancelled'").await, 1);
    let (_, message) = told(&cluster, "STOPPED").await.expect("the stop is told");
    assert!(message.contains("held as the exit policy says; nobody watches"), "{message}");
    cluster.paper.post("fills", json!({ "hold": false })).await;
    cluster.finish().await;
}

// R: N12: a slow broker costs the step its budget, not the process its end; what was sent is found by the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_broker_ends_the_stop_within_its_budget_and_the_next_one_finds_the_exit() {
    let mut cluster = alone(Vec::new()).await;
    cluster.paper.fault(json!({ "fault": { "kind": "hang_after", "ms": 8000 }, "verb": "placeorder" })).await;
    cluster.paper.post("fills", json!({ "hold": true })).await;
    let log = stopped(&mut cluster).await;
    assert!(log.contains("[SHUTDOWN] close: still held:"), "{log}");
    let (severity, message) = told(&cluster, "POSITIONS_UNWATCHED").await.expect("what is left is told");
    assert_eq!(severity, "critical");
    assert!(message.contains("still held:") && message.contains(GOLD_SYMBOL), "{message}");
    cluster.paper.heal().await;
    cluster.paper.post("fills", json!({ "hold": false })).await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "the exit is one order");
}

/// Leaves an entry on silver that was answered, but that the bridge shows in no book for `ms`.
async fn unseen_entry(cluster: &Cluster, ms: u64) {
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    cluster
        .paper
        .fault(json!({ "fault": { "kind": "hidden", "ms": ms }, "verb": "placeorder", "count": 1 }))
        .await;
    cluster
        .paper
        .fault(json!({ "fault": { "kind": "lost_ack_after" }, "verb": "placeorder", "count": 1 }))
        .await;
    cluster.post(0, &base("unseen", SILVER, 150_000)).await;
    crate::support::wait::until("the entry is in doubt", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM order_intent WHERE state = 'in_doubt'").await {
            1 => Ok(()),
            _ => Err(cluster.logs()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_entry_in_doubt_fills_during_the_stop_is_sold_too() {
    let mut cluster = alone(settles_late()).await;
    unseen_entry(&cluster, 1500).await;
    let log = stopped(&mut cluster).await;
    assert!(log.contains("flat by the broker's books"), "{log}");
    assert_eq!(held(&cluster).await, 0, "{log}");
    let sold = "SELECT count(*) FROM order_intent WHERE class <> 'entry' AND state = 'filled'";
    assert_eq!(cluster.count(sold).await, 2, "{log}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_stays_in_doubt_is_not_called_flat() {
    let mut cluster = alone(settles_late()).await;
    unseen_entry(&cluster, 15_000).await;
    let log = stopped(&mut cluster).await;
    assert!(!log.contains("flat by the broker's books"), "{log}");
    assert!(log.contains("[SHUTDOWN] cancel: 1 entries are in doubt"), "{log}");
    assert!(log.contains(&format!("of {SILVER_SYMBOL}: its entry is not known to have ended")), "{log}");
    assert_eq!(held(&cluster).await, 0, "what could be sold was: {log}");
    cluster.members[0].restart().await;
    cluster.leader().await;
    let check = cluster.finish().await;
    assert_eq!(check.open_positions, 0, "what it fills is closed at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_broker_is_told_and_nothing_is_pretended() {
    let mut cluster = alone(Vec::new()).await;
    cluster.paper.fault(json!({ "fault": { "kind": "lost_ack_before" }, "verb": "any" })).await;
    let log = stopped(&mut cluster).await;
    assert!(log.contains("positions stay as they are and nobody watches their stops"), "{log}");
    assert_eq!(held(&cluster).await, 1);
    cluster.paper.heal().await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_database_is_told_and_ends_within_the_budget() {
    let mut cluster = alone(Vec::new()).await;
    cluster.stores.postgres().kill().await.unwrap();
    let log = stopped(&mut cluster).await;
    assert!(log.contains("[SHUTDOWN]") && !log.contains("positions closed"), "{log}");
    assert!(log.contains("nobody watches their stops"), "{log}");
    cluster.stores.postgres().start().await.unwrap();
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.reconnected().await.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_aborts_the_stop() {
    let mut cluster = alone(Vec::new()).await;
    cluster.paper.fault(json!({ "fault": { "kind": "hang_after", "ms": 8000 }, "verb": "placeorder" })).await;
    let begun = Instant::now();
    cluster.members[0].process.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(400)).await;
    cluster.members[0].process.signal(Signal::TERM);
    cluster.members[0].process.exit(PATIENCE).await;
    println!("aborted after {:?}", begun.elapsed());
    let log = cluster.members[0].log();
    assert!(log.contains("SIGTERM again: leaving at once"), "{log}");
    cluster.paper.heal().await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.finish().await;
}

// R: K2: with a follower the leader hands over, and positions stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn post_shutdown_hands_over_and_the_last_one_obeys_its_policy() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster.play(0, &base("held", GOLD, 140_000)).await;
    let leader = cluster.leader().await;
    let body = json!({ "reason": "deploy" });
    let (status, answer) = cluster.members[leader].command("/api/shutdown", &body).await.unwrap();
    assert_eq!((status.as_u16(), answer["status"].as_str()), (202, Some("stopping")), "{answer}");
    assert!(cluster.members[leader].process.exit(PATIENCE).await.success());
    let other = cluster.leader_within(PATIENCE, |index| index != leader).await;
    assert_eq!(held(&cluster).await, 1, "a handover keeps positions");
    let (_, message) = told(&cluster, "STOPPED").await.expect("the stop is told");
    let to = format!("handed over to {}", cluster.members[other].name);
    assert!(message.contains(&to), "{message}");
    let hold = json!({ "reason": "the end", "exit_policy": "hold" });
    cluster.members[other].command("/api/shutdown", &hold).await.unwrap();
    assert!(cluster.members[other].process.exit(PATIENCE).await.success());
    assert_eq!(held(&cluster).await, 1, "it was asked to hold");
    cluster.revive().await;
    cluster.leader().await;
    cluster.finish().await;
}

// R: N12: rule 20: all are told to stop while nobody is in office. Each of the two would leave as a follower.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r20_all_told_to_stop_without_a_leader_the_last_one_flattens() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster.play(0, &base("held", GOLD, 140_000)).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    cluster.members[leader].process.signal(Signal::KILL);
    for index in &others {
        cluster.members[*index].process.signal(Signal::TERM);
    }
    let begun = Instant::now();
    for index in &others {
        let status = cluster.members[*index].process.exit(PATIENCE).await;
        assert!(status.success(), "{status}\n{:?}", cluster.logs());
    }
    println!("both had left after {:?}", begun.elapsed());
    assert!(begun.elapsed() < BUDGET, "{:?}\n{:?}", begun.elapsed(), cluster.logs());
    assert_eq!(held(&cluster).await, 0, "somebody acts by the exit policy\n{:?}", cluster.logs());
    cluster.finish().await;
}

/// A bridge so slow that a wait of 3 s for a successor would leave too little to sell in, of the 7 s that all steps have.
async fn hurried(env: Vec<(&'static str, String)>) -> (Cluster, usize) {
    let env = [vec![("BATON_SHUTDOWN__CLOSE_MS", "6000".to_owned())], env].concat();
    let cluster = Cluster::with(Options { members: 3, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster.paper.fault(json!({ "fault": { "kind": "slow_fills", "ms": 3900 }, "verb": "placeorder" })).await;
    let leader = cluster.leader().await;
    (cluster, leader)
}

// R: N12: members that were killed stay in the registry until the same names come back: nobody waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_died_do_not_cost_the_last_one_the_time_to_sell() {
    let (mut cluster, leader) = hurried(Vec::new()).await;
    for index in (0..cluster.members.len()).filter(|index| *index != leader) {
        cluster.members[index].process.kill().await;
    }
    wait::until("the dead are known to be dead", PATIENCE, async || {
        let view = cluster.members[leader].json("/api/v1/cluster").await.unwrap_or_default();
        if view["instances"].as_array().is_some_and(|alive| alive.len() == 1) { Ok(()) } else { Err(view) }
    })
    .await;
    let log = stopped_within(&mut cluster, leader, BUDGET).await;
    assert_eq!(held(&cluster).await, 0, "{log}");
    cluster.finish().await;
}

// R: N12: whoever may still take over is waited for, but not with the time that selling needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_does_not_cost_the_last_one_the_time_to_sell() {
    // It counts as alive for T.
    let ttl = vec![("BATON_TIMING__LEASE_TTL_MS", "6000".to_owned())];
    let (mut cluster, leader) = hurried(ttl).await;
    for index in (0..cluster.members.len()).filter(|index| *index != leader) {
        cluster.members[index].process.signal(Signal::STOP);
    }
    let log = stopped_within(&mut cluster, leader, BUDGET).await;
    assert_eq!(held(&cluster).await, 0, "{log}");
    for index in (0..cluster.members.len()).filter(|index| *index != leader) {
        cluster.members[index].process.signal(Signal::CONT);
    }
    cluster.finish().await;
}

// R: N12, rule 16: a restart of the database is no reason to leave positions behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_told_to_stop_while_the_database_restarts_comes_back_and_flattens() {
    let mut cluster = alone(Vec::new()).await;
    cluster.stores.postgres().kill().await.unwrap();
    cluster.members[0].says("suspended under epoch").await;
    let begun = Instant::now();
    cluster.members[0].process.signal(Signal::TERM);
    cluster.members[0].says("[SHUTDOWN] drained").await;
    cluster.stores.postgres().start().await.unwrap();
    println!("the database was back after {:?}", begun.elapsed());
    let log = ended_within(&mut cluster, 0, begun, BUDGET).await;
    let cluster = cluster.reconnected().await;
    assert_eq!(held(&cluster).await, 0, "{log}");
    assert!(log.contains("flat by the broker's books"), "{log}");
    cluster.finish().await;
}

// R: N12: the budget is what all steps take together, the last words and a database that hangs included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_costs_the_budget_and_no_more() {
    let mut proxy = None;
    let env = vec![("BATON_SHUTDOWN__BUDGET_MS", "3000".to_owned())];
    let mut cluster = Cluster::wired(Options { members: 1, env, ..Options::default() }, async |launch| {
        proxy = Some(Proxy::before(launch, "BATON_POSTGRES__URL").await);
    })
    .await;
    let proxy = proxy.expect("the member was wired");
    proxy.set(Link::Stall(Way::Both));
    let log = stopped_within(&mut cluster, 0, Duration::from_millis(4000)).await;
    assert!(log.contains("[SHUTDOWN]"), "{log}");
    proxy.set(Link::Open);
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.finish().await;
}

// R: K2: whoever asks for a stop that is under way is told what it will do, not what was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_request_is_told_the_exit_policy_in_force() {
    let mut cluster = alone(Vec::new()).await;
    cluster.paper.fault(json!({ "fault": { "kind": "slow_fills", "ms": 1500 }, "verb": "placeorder" })).await;
    let begun = Instant::now();
    cluster.members[0].process.signal(Signal::TERM);
    cluster.members[0].says("[SHUTDOWN] exit policy flatten").await;
    let hold = json!({ "reason": "keep them", "exit_policy": "hold" });
    let (status, answer) = cluster.members[0].command("/api/shutdown", &hold).await.expect("it answers");
    assert_eq!(status.as_u16(), 202, "{answer}");
    assert_eq!((&answer["status"], &answer["exit_policy"]), (&json!("stopping already"), &json!("flatten")));
    let log = ended_within(&mut cluster, 0, begun, BUDGET).await;
    assert_eq!(held(&cluster).await, 0, "{log}");
    cluster.finish().await;
}
