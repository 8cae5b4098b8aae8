//! An order in doubt under a broker session that is dead and shows empty books: unknown, and never taken for absent.

use std::time::Duration;

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// Twice as long as an order may stay in doubt under books that can be believed: its send window, and what the bridge needs to
/// show it, are 3.3 s here.
const LONG: Duration = Duration::from_secs(7);

const STATE: &str = "SELECT count(*) FROM order_intent WHERE state = ";

/// However long its absence shows, an order is in doubt until the session is alive again; then it is found.
async fn it_stays_so_until_healed(cluster: Cluster, signal: &str) {
    tokio::time::sleep(LONG).await;
    assert_eq!(
        cluster.count(&format!("{STATE}'in_doubt'")).await,
        1,
        "empty books prove nothing: {:?}",
        cluster.logs()
    );
    cluster.paper.heal().await;
    let view = cluster.terminal(signal).await;
    assert_eq!(view["status"], "executed", "{view}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1));
}

/// The leader dies before the answer to its order is heard, and the session with it; then the cluster leads on.
async fn an_order_in_doubt(members: usize, dead: &str) {
    let mut cluster = Cluster::with(Options { members, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let slow = json!({ "fault": { "kind": "hang_after", "ms": 20_000 }, "verb": "placeorder", "count": 1 });
    cluster.paper.fault(slow).await;
    let signal = cluster.post(leader, &base("in", GOLD, 140_000)).await;
    wait::until("the order is at the broker", PATIENCE, async || match cluster.paper.orders().await {
        orders if orders.len() == 1 => Ok(()),
        orders => Err((orders, cluster.logs())),
    })
    .await;
    cluster.members[leader].process.signal(Signal::KILL);
    cluster.members[leader].process.kill().await;
    cluster.paper.fault(json!({ "fault": { "kind": dead } })).await;
    if members == 1 {
        cluster.members[leader].restart().await;
    }
    wait::until("it is in doubt, under a session that is known to be dead", PATIENCE, async || {
        let dead = "SELECT count(*) FROM operational_state WHERE code = 'SESSION_EXPIRED'";
        let (doubt, dead) = (cluster.count(&format!("{STATE}'in_doubt'")).await, cluster.count(dead).await);
        if doubt == 1 && dead > 0 { Ok(()) } else { Err((doubt, dead, cluster.logs())) }
    })
    .await;
    it_stays_so_until_healed(cluster, &signal.id).await;
}

// R: B3, B5, HA.md rule 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_under_a_dead_session_keeps_an_order_in_doubt() {
    an_order_in_doubt(1, "session_expired").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_under_a_dead_session_keeps_an_order_in_doubt() {
    an_order_in_doubt(2, "session_expired").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_under_a_dead_session_that_shows_empty_books_keeps_an_order_in_doubt() {
    an_order_in_doubt(2, "empty_books").await;
}

/// The order's answer is lost and the session dies, under one leader all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_under_a_dead_session_that_shows_empty_books_keeps_an_order_in_doubt() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let hidden = json!({ "fault": { "kind": "hidden", "ms": 1_000 }, "verb": "placeorder", "count": 1 });
    let lost = json!({ "fault": { "kind": "lost_ack_after" }, "verb": "placeorder", "count": 1 });
    for fault in [hidden, lost] {
        cluster.paper.fault(fault).await;
    }
    let signal = cluster.post(leader, &base("in", GOLD, 140_000)).await;
    wait::until("it is in doubt", PATIENCE, async || {
        match cluster.count(&format!("{STATE}'in_doubt'")).await {
            1 => Ok(()),
            other => Err((other, cluster.logs())),
        }
    })
    .await;
    cluster.paper.fault(json!({ "fault": { "kind": "empty_books" } })).await;
    it_stays_so_until_healed(cluster, &signal.id).await;
}
