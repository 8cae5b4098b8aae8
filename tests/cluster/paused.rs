//! Leaders that stop for longer than their lease and wake up believing.

use std::time::{Duration, Instant};

use rust_decimal::dec;
use rustix::process::Signal;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::seed::Seed;
use crate::support::wait;

/// Wakes a member and waits until it is a part of the cluster again: as a follower, or restarted if it ended itself.
pub async fn wake(cluster: &mut Cluster, index: usize) {
    let member = &mut cluster.members[index];
    member.process.signal(Signal::CONT);
    wait::until(&format!("{} is back", member.name), PATIENCE, async || {
        if member.process.exited().is_some() {
            println!("{} ended itself after its pause", member.name);
            member.restart().await;
        }
        if member.is_ready().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
}

// R: S3, S4; LESSONS "paused leader still believed it led"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_that_wakes_journals_and_sends_nothing() {
    let mut seed = Seed::drawn("stop");
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    for round in 0..3 {
        cluster.all_ready().await;
        let old = cluster.leader().await;
        let epoch = cluster.epoch().await;
        // It stops somewhere in an order's way; the followers take more signals meanwhile.
        let begun = cluster.post(old + 1, &base(&format!("in-{round}"), GOLD, 140_000)).await;
        tokio::time::sleep(seed.duration(Duration::from_millis(40))).await;
        cluster.members[old].process.signal(Signal::STOP);
        let out = cluster.post(old + 1, &exit(&format!("out-{round}"), GOLD, "ALL", 140_000)).await;
        // Who follows asks the leader for prices, and does not wait for one that stands still.
        let (asked, follower) = (Instant::now(), &cluster.members[(old + 1) % 3]);
        let held = follower.json("/api/v1/positions").await.expect("a read answers");
        assert!(held["positions"].is_array() && held["prices"].is_string(), "{held}");
        assert!(asked.elapsed() < Duration::from_secs(3), "a read hung for {:?}", asked.elapsed());
        let new = cluster.leader_within(PATIENCE, |index| index != old).await;
        let journaled = cluster.intents_of(epoch).await;
        println!("round {round}: {} took over from {}", cluster.members[new].name, cluster.members[old].name);
        cluster.terminal(&begun.id).await;
        cluster.terminal(&out.id).await;

        wake(&mut cluster, old).await;
        // It takes part again, and nothing was added to what its old epoch had journaled.
        let more = cluster.play(old, &base(&format!("more-{round}"), GOLD, 140_000)).await;
        assert_eq!(more["status"], "executed", "{more}");
        let gone = cluster.play(old, &exit(&format!("gone-{round}"), GOLD, "ALL", 140_000)).await;
        assert_eq!(gone["status"], "executed", "{gone}");
        assert_eq!(
            cluster.intents_of(epoch).await,
            journaled,
            "the old epoch {epoch} journaled after its end"
        );
    }
    let check = cluster.finish().await;
    println!("{check:?}");
    assert_eq!(check.open_positions, 0);
}

/// Stops the leader between its last check and its write, lets another take over, and wakes the first after `pause`
/// or when `until_final`, the signal has its end without it.
async fn stopped_before_its_write(cluster: &mut Cluster, id: &str, until_final: bool) -> String {
    cluster.all_ready().await;
    let old = cluster.leader().await;
    let epoch = cluster.epoch().await;
    cluster.arm("after_check", "stop");
    let begun = cluster.post(old + 1, &base(id, GOLD, 140_000)).await;
    wait::until("the leader stops at its fail point", PATIENCE, async || {
        let stopped = !cluster.is_armed() && cluster.members[old].process.is_stopped();
        if stopped { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    cluster.leader_within(PATIENCE, |index| index != old).await;
    let journaled = cluster.intents_of(epoch).await;
    if until_final {
        let view = cluster.terminal(&begun.id).await;
        assert_eq!(view["status"], "abandoned", "{view}");
    }
    wake(cluster, old).await;
    let view = cluster.terminal(&begun.id).await;
    let status = view["status"].as_str().unwrap().to_owned();
    assert_eq!(view["orders"].as_array().unwrap().len(), 1, "never sent again: {view}");
    assert_eq!(cluster.intents_of(epoch).await, journaled);
    let out = cluster.play(old, &exit(&format!("{id}-out"), GOLD, "ALL", 140_000)).await;
    let expected = if status == "executed" { "executed" } else { "refused" };
    assert_eq!(out["status"], expected, "{view}\n{out}");
    status
}

// R: S4, S6: the late write is legal: it is the intent's own, and the successor finds it in the bridge's books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_a_write_that_comes_after_the_takeover_is_adopted_and_never_doubled() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let mut ends = Vec::new();
    for round in 0..3 {
        ends.push(stopped_before_its_write(&mut cluster, &format!("late-{round}"), false).await);
    }
    println!("ends of orders written after the takeover: {ends:?}");
    let check = cluster.finish().await;
    println!("{check:?}");
    assert_eq!(check.open_positions, 0);
}

// R: S16: after B nothing can be written any more: the bridge has closed the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s16_an_abandoned_order_never_reaches_the_bridge() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    for round in 0..2 {
        assert_eq!(stopped_before_its_write(&mut cluster, &format!("lost-{round}"), true).await, "abandoned");
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.states.get("abandoned")), (0, Some(&2)), "{check:?}");
}
