//! Orders that the broker took and that do not fill: cancelled; an exit is sent anew, and sells once.

use std::time::Duration;

use rust_decimal::dec;
use serde_json::json;

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::stops::flat;
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::paper::PaperOrder;
use crate::support::wait;

async fn cluster(members: usize) -> Cluster {
    let env = ["ENTRY", "EXIT"].map(|class| match class {
        "ENTRY" => ("BATON_TRADING__ORDERS__ENTRY_PATIENCE_MS", "1000".to_owned()),
        _ => ("BATON_TRADING__ORDERS__EXIT_PATIENCE_MS", "1000".to_owned()),
    });
    let cluster = Cluster::with(Options { members, env: env.to_vec(), ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster
}

async fn hold(cluster: &Cluster, hold: bool) {
    cluster.paper.post("fills", json!({ "hold": hold })).await;
}

/// Sales at the bridge, in the order of their arrival.
async fn sales(cluster: &Cluster) -> Vec<PaperOrder> {
    cluster.paper.orders().await.into_iter().filter(|order| order.side == "SELL").collect()
}

/// How often the bridge was asked for the order book.
async fn readings(cluster: &Cluster) -> u64 {
    cluster.paper.get("requests").await["requests"]["orderbook"].as_u64().unwrap_or(0)
}

/// One sale filled, all of what was bought; every other one was cancelled, and nothing of it filled.
async fn sold_once(cluster: &Cluster) {
    let orders = cluster.paper.orders().await;
    let bought: i64 =
        orders.iter().filter(|order| order.side == "BUY").map(|order| order.filled_quantity).sum();
    let sales = sales(cluster).await;
    let filled: Vec<&PaperOrder> = sales.iter().filter(|sale| sale.filled_quantity > 0).collect();
    assert_eq!(filled.iter().map(|sale| sale.filled_quantity).sum::<i64>(), bought, "{sales:#?}");
    assert_eq!(filled.len(), 1, "{sales:#?}");
}

// R: B8, the predecessor's exit that rested while the price fell
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_rests_is_cancelled_and_sent_anew_until_it_fills() {
    let cluster = cluster(1).await;
    cluster.play(0, &base("in", GOLD, 140_000)).await;
    hold(&cluster, true).await;
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    wait::until("a second exit rests, the first is cancelled", PATIENCE, async || {
        let sales = sales(&cluster).await;
        let statuses: Vec<&str> = sales.iter().map(|sale| sale.order_status.as_str()).collect();
        match statuses[..] {
            ["cancelled", "open", ..] => Ok(()),
            _ => Err((sales, cluster.logs())),
        }
    })
    .await;
    hold(&cluster, false).await;
    assert_eq!(cluster.terminal(&out.id).await["status"], "executed");
    flat(&cluster).await;
    sold_once(&cluster).await;
    let overdue = cluster.members[0].metric("baton_orders_overdue_total{class=\"exit\"}").await;
    assert!(overdue >= Some(1.0), "{overdue:?}");
    // Nothing is awaited any more, so the books are read seldom again: every 5 s, not every 50 ms.
    wait::until("the books are left alone", PATIENCE, async || {
        let before = readings(&cluster).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let reads = readings(&cluster).await - before;
        if reads <= 1 { Ok(()) } else { Err(reads) }
    })
    .await;
    cluster.finish().await;
}

// R: S15: the cancel comes too late, and the first exit fills all the same
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_fills_while_it_is_being_cancelled_sells_once() {
    let cluster = cluster(1).await;
    cluster.play(0, &base("in", GOLD, 140_000)).await;
    hold(&cluster, true).await;
    let late = json!({ "fault": { "kind": "takes_late", "ms": 1500 }, "verb": "cancelorder", "count": 1 });
    cluster.paper.fault(late).await;
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    wait::until("the cancel was asked for", PATIENCE, async || {
        let asked = cluster.count("SELECT count(*) FROM order_cancel").await;
        if asked > 0 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    hold(&cluster, false).await;
    assert_eq!(cluster.terminal(&out.id).await["status"], "executed");
    flat(&cluster).await;
    sold_once(&cluster).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_rests_is_cancelled_and_not_sent_again() {
    let cluster = cluster(1).await;
    hold(&cluster, true).await;
    let entry = cluster.post(0, &base("in", GOLD, 140_000)).await;
    let view = cluster.terminal(&entry.id).await;
    assert_eq!(view["orders"][0]["state"], "cancelled", "{view}");
    hold(&cluster, false).await;
    assert_eq!(cluster.count("SELECT count(*) FROM position").await, 0);
    let orders = cluster.paper.orders().await;
    let [order] = &orders[..] else { panic!("{orders:#?}") };
    assert_eq!((order.order_status.as_str(), order.filled_quantity), ("cancelled", 0));
    cluster.finish().await;
}

// R: S6, S15: the leader dies anywhere on the way of the cancel
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_whose_leader_dies_while_it_is_being_cancelled_sells_once() {
    for place in ["before_request", "after_request_journal", "after_request_write", "after_request_reply"] {
        let mut cluster = cluster(2).await;
        cluster.play(0, &base("in", GOLD, 140_000)).await;
        hold(&cluster, true).await;
        cluster.arm(place, "kill");
        let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
        hit(&mut cluster, place).await;
        cluster.revive().await;
        cluster.leader().await;
        hold(&cluster, false).await;
        assert_eq!(cluster.terminal(&out.id).await["status"], "executed", "{place}");
        flat(&cluster).await;
        sold_once(&cluster).await;
        cluster.finish().await;
    }
}
