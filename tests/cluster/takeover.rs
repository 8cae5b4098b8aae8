//! Takeovers that meet a ledger which says no.

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Accepted, Cluster, Options, PATIENCE};
use crate::support::wait;

/// A position whose exit was sold at the bridge, by a leader that died before it had heard so; another takes over.
async fn sold_unheard() -> (Cluster, Accepted) {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let held = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(held["status"], "executed", "{held}");
    // The next leader is kept waiting for the books, so that a test can act between its reading back and its booking.
    cluster.paper.fault(json!({ "fault": { "kind": "hang_after", "ms": 2000 }, "verb": "orderbook" })).await;
    cluster.arm("before_ack_commit", "kill");
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    hit(&mut cluster, "before_ack_commit").await;
    (cluster, out)
}

/// How many readings of the order book have begun.
async fn readings(cluster: &Cluster) -> u64 {
    let faults = cluster.paper.get("faults").await;
    faults["faults"][0]["hits"].as_u64().unwrap_or_else(|| panic!("{faults}"))
}

/// Waits until a new leader has read everything back and waits for the books.
async fn reads_books(cluster: &Cluster, before: u64) {
    wait::until("the new leader has read back and reads the books", PATIENCE, async || {
        let doubted = cluster.count("SELECT count(*) FROM order_intent WHERE state = 'in_doubt'").await;
        let now = readings(cluster).await;
        if doubted == 1 && now > before { Ok(()) } else { Err((doubted, now, cluster.logs())) }
    })
    .await;
}

// A commit whose answer was lost leaves the ledger ahead of the leader's memory: every later change of that row is
// refused, for as long as it is drafted over that memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_whose_memory_fell_behind_reads_back_anew() {
    let (cluster, out) = sold_unheard().await;
    let before = readings(&cluster).await;
    reads_books(&cluster, before).await;
    let ahead = "UPDATE position SET version = version + 1 WHERE status <> 'closed'";
    assert_eq!(cluster.sql.execute(ahead, &[]).await.unwrap(), 1);
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.paper.heal().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

const REFUSE: &str = "
CREATE FUNCTION refuse_fill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no fill of this order fits' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER refuse_fill BEFORE INSERT ON fill FOR EACH ROW EXECUTE FUNCTION refuse_fill();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_postgresql_always_refuses_is_an_error_and_leadership_is_given_up() {
    let (mut cluster, out) = sold_unheard().await;
    cluster.sql.batch_execute(REFUSE).await.unwrap();
    cluster.paper.heal().await;
    cluster.revive().await;
    let begun = cluster.epoch().await;
    wait::until("leadership is given up twice, and it is an error", PATIENCE, async || {
        let epoch = cluster.epoch().await;
        let told: Vec<Value> = cluster
            .sql
            .query("SELECT code, reason FROM operational_state_history WHERE new_state = 'ERROR'", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| json!([row.get::<_, Option<String>>(0), row.get::<_, String>(1)]))
            .collect();
        let is_told = told.iter().any(|error| {
            error[0] == "DATA_CORRUPT"
                && error[1].as_str().is_some_and(|why| why.contains("no fill of this order fits"))
        });
        if epoch >= begun + 2 && is_told { Ok(()) } else { Err((epoch, told, cluster.logs())) }
    })
    .await;
    cluster.sql.batch_execute("DROP TRIGGER refuse_fill ON fill").await.unwrap();
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}
