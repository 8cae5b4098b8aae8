//! Drills about orders and the switches that hold them back.

use std::time::Duration;

use rust_decimal::dec;
use serde_json::json;

use super::{Pager, block, by_hand, done, equipped, prints, shown, told, with_a_position};
use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{paper, wait};

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_switches() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let commands = block("switches");
    let command = |verb: &str| {
        let found = commands.lines().find(|line| line.starts_with(verb));
        found.unwrap_or_else(|| panic!("the section says {verb}")).to_owned()
    };
    done(&cluster, leader, &command("baton halt")).await;
    let mut printed = done(&cluster, leader, &command("baton switches")).await;
    let view = cluster.play(leader, &base("halted", GOLD, 140_000)).await;
    assert_eq!(view["status"], "refused", "{view}");
    assert!(view["reasons"].to_string().contains("HALTED"), "{view}");
    printed += &done(&cluster, leader, &command("baton unhalt")).await;
    shown("switches", &printed);
    let view = cluster.play(leader, &base("lifted", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}

/// Long enough in doubt for a person to look.
const SETTLES: Duration = Duration::from_secs(15);

// R: H6, B3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_in_doubt_orders() {
    if !equipped() {
        return;
    }
    let env = vec![("BATON_BROKER__SETTLE_MS", SETTLES.as_millis().to_string())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let pager = Pager::beside(&cluster).await;
    cluster.arm("after_journal", "kill");
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    let in_doubt = "SELECT count(*) FROM order_intent WHERE state = 'in_doubt'";
    wait::until("the order is in doubt", PATIENCE, async || {
        if cluster.count(in_doubt).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    pager.hears("OrderInDoubt").await;
    let leader = cluster.leader().await;
    let printed = done(&cluster, leader, &block("in-doubt-orders")).await;
    shown("in-doubt-orders", &printed);
    // Mitigation is to wait: it was never sent, and the books prove it.
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "abandoned", "{view}");
    assert_eq!(cluster.count(in_doubt).await, 0);
    // order_abandoned: what was given up.
    let look = told("order_abandoned", "curl -s \"$A/api/v1/orders?state=abandoned\" | jq '.orders[0]'");
    let printed = done(&cluster, leader, look).await;
    assert!(printed.contains(GOLD_SYMBOL) && printed.contains("abandoned"), "{printed}");
    wait::until("the metric says so", Duration::from_secs(10), async || {
        let seen = cluster.members[leader].metric("baton_orders_in_doubt").await;
        if seen == Some(0.0) { Ok(()) } else { Err(seen) }
    })
    .await;
    pager.rests("OrderInDoubt").await;
    cluster.revive().await;
    cluster.all_ready().await;

    // Or to say what became of it, by somebody who looked in the terminal.
    cluster.arm("after_journal", "kill");
    let accepted = cluster.post(0, &base("again", GOLD, 140_000)).await;
    wait::until("another order is in doubt", PATIENCE, async || {
        if cluster.count(in_doubt).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let leader = cluster.leader().await;
    let listed = done(&cluster, leader, told("in-doubt-orders", "baton orders list --in-doubt")).await;
    let row =
        cluster.sql.query_one("SELECT id FROM order_intent WHERE state = 'in_doubt'", &[]).await.unwrap();
    let intent = row.get::<_, uuid::Uuid>(0).to_string();
    assert!(listed.contains(&intent), "{listed}");
    let word = told("in-doubt-orders", "baton orders resolve ID --as abandoned --evidence TEXT --yes");
    let word = word.replace("ID", &intent).replace("TEXT", "'not in the terminal'");
    let begun = std::time::Instant::now();
    done(&cluster, leader, &word).await;
    let view = cluster.terminal(&accepted.id).await;
    assert!(
        view["status"] == "abandoned" && begun.elapsed() < SETTLES,
        "by the word, not by the books: {view}"
    );
    assert_eq!(
        cluster.count("SELECT count(*) FROM audit_log WHERE payload LIKE '%not in the terminal%'").await,
        1
    );
    prints(&cluster, leader, "curl -s $A/metrics", "baton_orders_in_doubt 0").await;
    cluster.revive().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.arrivals), (0, 0), "nothing was ever sent: {check:?}");
}

// R: H6, B3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_late_fill() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    // It fills, nobody hears of it, and the books do not show it for a while.
    for fault in [json!({ "kind": "hidden", "ms": 45_000 }), json!({ "kind": "lost_ack_after" })] {
        cluster.paper.fault(json!({ "fault": fault, "verb": "placeorder", "count": 1 })).await;
    }
    let accepted = cluster.post(0, &base("late", GOLD, 140_000)).await;
    let intent = wait::until("the order is in doubt", PATIENCE, async || {
        let found = cluster.sql.query_opt("SELECT id FROM order_intent WHERE state = 'in_doubt'", &[]).await;
        found.unwrap().map(|row| row.get::<_, uuid::Uuid>(0).to_string()).ok_or_else(|| cluster.logs())
    })
    .await;
    let word = told("in-doubt-orders", "baton orders resolve ID --as abandoned --evidence TEXT --yes");
    done(&cluster, leader, &word.replace("ID", &intent).replace("TEXT", "'not in the terminal'")).await;
    assert_eq!(cluster.terminal(&accepted.id).await["status"], "abandoned");

    // There it is after all; what it bought is sold by itself.
    shown("late_fill", &prints(&cluster, leader, &block("late_fill"), " filled ").await);
    let verify = told("late_fill", "baton positions list");
    prints(&cluster, leader, verify, "no position is open").await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "{check:?}");
}

// R: H6, C7
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_foreign_orders() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options::default()).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let leader = cluster.leader().await;
    // Somebody trades another contract of the account by hand.
    let number = by_hand(&cluster, SILVER_SYMBOL, "BUY", 5).await;
    cluster.members[leader].says("orders at the broker that are not ours: reported, never touched").await;
    let held = told(
        "foreign-orders",
        "curl -s $A/api/v1/positions | jq '.positions[] | {instrument, symbol, quantity, status}'",
    );
    let printed = done(&cluster, leader, held).await;
    assert!(printed.contains(GOLD_SYMBOL) && !printed.contains(SILVER_SYMBOL), "{printed}");
    let seen = told(
        "foreign-orders",
        "psql \"$DATABASE_URL\" -c \"SELECT order_id, first_seen_at FROM broker_order_seen ORDER BY seq DESC LIMIT 20\"",
    );
    let printed = done(&cluster, leader, seen).await;
    assert!(printed.contains(&number), "{printed}");
    let book = told(
        "foreign-orders",
        "curl -s $BRIDGE/api/v1/positionbook -H 'content-type: application/json' -d '{\"apikey\":\"KEY\"}' | jq .data",
    );
    let printed = done(&cluster, leader, &book.replace("KEY", paper::KEY)).await;
    assert!(printed.contains(SILVER_SYMBOL), "{printed}");
    // Verify: nothing of Baton's was touched.
    done(&cluster, leader, told("foreign-orders", "baton positions diff")).await;
    assert_eq!(cluster.count("SELECT count(*) FROM position").await, 1);
}

// R: H6, K8
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_strategies() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let leader = cluster.leader().await;
    done(&cluster, leader, "baton strategies disable default --reason drill --yes").await;
    let view = cluster.play(leader, &base("disabled", SILVER, 150_000)).await;
    assert!(
        view["status"] == "refused" && view["reasons"].to_string().contains("STRATEGY_DISABLED"),
        "{view}"
    );
    let printed = done(&cluster, leader, told("strategies", "baton strategies list")).await;
    assert!(printed.contains("disabled") && printed.contains("drill"), "{printed}");
    shown("strategies", &done(&cluster, leader, &block("strategies")).await);
    let view = cluster.play(leader, &base("enabled", SILVER, 150_000)).await;
    assert_eq!(view["status"], "executed", "{view}");

    // Without any instance: one statement.
    let by_hand = told(
        "strategies",
        "UPDATE leadership SET strategies = strategies || '{\"default\": false}' WHERE id = 1",
    );
    done(&cluster, leader, &format!("psql \"$DATABASE_URL\" -c \"{}\"", by_hand.replace('"', "\\\""))).await;
    let view = cluster.play(leader, &base("by-hand", GOLD, 140_000)).await;
    assert_ne!(view["status"], "executed", "{view}");
    cluster.finish().await;
}
