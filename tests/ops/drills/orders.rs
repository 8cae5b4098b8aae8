//! Drills about orders and the switches that hold them back.

use std::time::Duration;

use rust_decimal::dec;

use super::{Pager, block, done, equipped};
use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

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
    let view = cluster.play(leader, &base("halted", GOLD, 140_000)).await;
    assert_eq!(view["status"], "refused", "{view}");
    assert!(view["reasons"].to_string().contains("HALTED"), "{view}");
    done(&cluster, leader, &command("baton unhalt")).await;
    let view = cluster.play(leader, &base("lifted", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}

// R: H6, B3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_in_doubt_orders() {
    if !equipped() {
        return;
    }
    // Long enough in doubt for a person to look.
    let env = vec![("BATON_BROKER__SETTLE_MS", "15000".to_owned())];
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
    assert!(printed.contains(GOLD_SYMBOL), "it shows the order:\n{printed}");
    // Mitigation is to wait: it was never sent, and the books prove it.
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "abandoned", "{view}");
    assert_eq!(cluster.count(in_doubt).await, 0);
    wait::until("the metric says so", Duration::from_secs(10), async || {
        let seen = cluster.members[leader].metric("baton_orders_in_doubt").await;
        if seen == Some(0.0) { Ok(()) } else { Err(seen) }
    })
    .await;
    pager.rests("OrderInDoubt").await;
    cluster.revive().await;
    cluster.all_ready().await;
    cluster.finish().await;
}
