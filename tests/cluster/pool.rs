//! The pool gives no connection while PostgreSQL is well otherwise: a state of its own, not the end of a term.

use rust_decimal::dec;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy};
use crate::support::wait;

/// Ends the connections of the pools; the protocol's own sessions have longer names.
const END_POOLED: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baton/b1'";

// R: L2: HA.md, traps: an exhausted pool is a state of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_pooled_connections_waits_and_goes_on_in_the_same_term() {
    let mut links = Vec::new();
    let cluster = Cluster::wired(Options { members: 1, ..Options::default() }, async |launch| {
        links.push(Proxy::before(launch, "BATON_POSTGRES__URL").await);
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let epoch = cluster.epoch().await;
    // An order whose answer comes while there is nothing to record it with.
    cluster.paper.fault(json!({ "fault": { "kind": "hang_after", "ms": 700 }, "verb": "placeorder" })).await;
    let signal = cluster.post(0, &base("in-flight", GOLD, 140_000)).await;
    wait::until("the order is at the bridge", PATIENCE, async || {
        if cluster.paper.orders().await.is_empty() { Err(cluster.logs()) } else { Ok(()) }
    })
    .await;
    links[0].set(Link::Full);
    cluster.sql.batch_execute(END_POOLED).await.unwrap();
    says(&cluster, "WAITING", "DB_POOL").await;
    // The leader's own session beats on: it stays in office for as long as it takes.
    let beats = cluster.count("SELECT counter FROM leader_heartbeat").await;
    wait::until("the leader has beaten for two leases", PATIENCE, async || {
        match cluster.count("SELECT counter FROM leader_heartbeat").await {
            now if now >= beats + 12 => Ok(()),
            now => Err((beats, now)),
        }
    })
    .await;
    says(&cluster, "WAITING", "DB_POOL").await;
    links[0].set(Link::Open);
    says(&cluster, "ACTIVE", "leading under epoch").await;
    let view = cluster.terminal(&signal.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(cluster.epoch().await, epoch, "leadership did not move");
    let log = cluster.members[0].log();
    for ended in ["the ledger failed under the leader", "this term of trading is over", "are in doubt"] {
        assert!(!log.contains(ended), "{ended}\n{log}");
    }
    cluster.finish().await;
}

/// Waits until the member says this of itself.
async fn says(cluster: &Cluster, state: &str, words: &str) {
    wait::until(&format!("it says {state}: {words}"), PATIENCE, async || {
        let health = cluster.members[0].json("/healthz").await.unwrap_or_default();
        let now = &health["operational"];
        let fits = now["state"] == state && now["reason"].as_str().is_some_and(|text| text.contains(words));
        if fits { Ok(()) } else { Err((health, cluster.logs())) }
    })
    .await;
}
