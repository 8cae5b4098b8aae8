//! Orders whose outcome nobody heard: the leader dies at each place of an order's way, and between two of its fills.

use baton::failpoint::PLACES;
use rust_decimal::{Decimal, dec};
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{charges, wait};

/// Waits until the armed place was reached and its process is dead.
pub async fn hit(cluster: &mut Cluster, place: &str) {
    wait::until(&format!("a leader dies at {place}"), PATIENCE, async || {
        let dead = cluster.members.iter_mut().any(|member| member.process.exited().is_some());
        if dead && !cluster.is_armed() { Ok(()) } else { Err(format!("{:?}", cluster.logs())) }
    })
    .await;
}

// R: S1, S2, S14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s14_a_leader_that_dies_anywhere_in_an_orders_way_leaves_a_ledger_that_fits_the_bridge() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    for place in PLACES {
        for body in
            [base(&format!("in-{place}"), GOLD, 140_000), exit(&format!("out-{place}"), GOLD, "ALL", 140_000)]
        {
            cluster.all_ready().await;
            cluster.arm(place, "kill");
            let accepted = cluster.post(0, &body).await;
            hit(&mut cluster, place).await;
            let view = cluster.terminal(&accepted.id).await;
            println!("{place}: {} ended as {}", view["type"], view["status"]);
            cluster.revive().await;
            if view["type"] == "BASE_ENTRY" && view["status"] == "abandoned" {
                // The exit must have something to do: an entry that is not killed.
                let again = cluster.play(0, &base(&format!("again-{place}"), GOLD, 140_000)).await;
                assert_eq!(again["status"], "executed", "{again}");
            } else {
                assert_eq!(view["status"], "executed", "{view}");
            }
        }
        cluster.check().await;
    }
    let check = cluster.finish().await;
    println!("{check:?}");
    assert_eq!(check.open_positions, 0);
}

// Live books name no intent: two of the same terms are told apart by what is still possible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_belongs_to_the_intent_in_doubt_and_not_to_an_abandoned_one_that_looks_the_same() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster.arm("after_journal", "kill");
    let never_sent = cluster.post(0, &base("never-sent", GOLD, 140_000)).await;
    let view = cluster.terminal(&never_sent.id).await;
    assert_eq!(view["status"], "abandoned", "{view}");
    cluster.revive().await;
    cluster.all_ready().await;

    cluster.arm("after_reply", "kill");
    let unheard = cluster.post(0, &base("unheard", GOLD, 140_000)).await;
    let view = cluster.terminal(&unheard.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let other = cluster.terminal(&never_sent.id).await;
    assert_eq!(other["status"], "abandoned", "{other}");
    cluster.revive().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1));
}

// R: S6: the bridge accepts an order, loses the answer, hides the order for a while, and then fills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_an_order_that_the_bridge_hides_and_then_fills_is_never_sent_again() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    for fault in [json!({ "kind": "hidden", "ms": 1200 }), json!({ "kind": "lost_ack_after" })] {
        cluster.paper.fault(json!({ "fault": fault, "verb": "placeorder", "count": 1 })).await;
    }
    let signal = cluster.post(0, &base("hidden", GOLD, 140_000)).await;
    let doubted = "SELECT count(*) FROM order_intent WHERE state = 'in_doubt'";
    wait::until("the order is in doubt", PATIENCE, async || match cluster.count(doubted).await {
        1 => Ok(()),
        _ => Err(cluster.logs()),
    })
    .await;
    // Whoever leads next is in the same doubt.
    let (old, ..) = cluster.kill_leader().await;
    let view = cluster.terminal(&signal.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.members[old].restart().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "one order, found in the books");
}

/// Times that PostgreSQL is killed at the most: an acknowledgement is forgotten in two of three.
const MOST_ROUNDS: usize = 12;

// R: S6: the answer is recorded by a commit that does not wait for the disk. PostgreSQL is killed with it in its memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_postgresql_forgets_is_found_in_the_books() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    // Whatever is committed beside it puts it on disk, too: until one was not.
    let mut rounds = 0;
    let mut forgotten = false;
    while !forgotten {
        assert!(rounds < MOST_ROUNDS, "no acknowledgement was forgotten: none of this is tested");
        cluster.leader().await;
        let slow = json!({ "kind": "slow_fills", "ms": 3000 });
        cluster.paper.fault(json!({ "fault": slow, "verb": "placeorder", "count": 1 })).await;
        let entry = cluster.post(0, &base(&format!("in-{rounds}"), GOLD, 140_000)).await;
        let acknowledged = "SELECT count(*) FROM order_intent WHERE state = 'acknowledged'";
        wait::until("it is acknowledged", PATIENCE, async || match cluster.count(acknowledged).await {
            1 => Ok(()),
            _ => Err(cluster.logs()),
        })
        .await;
        cluster.stores.postgres().kill().await.unwrap();
        cluster.stores.postgres().start().await.unwrap();
        cluster = cluster.reconnected().await;
        forgotten = cluster.count(acknowledged).await == 0;
        let view = cluster.terminal(&entry.id).await;
        assert_eq!(view["status"], "executed", "{view}");
        assert_eq!(view["orders"].as_array().unwrap().len(), 1, "never sent again: {view}");
        let out = cluster.play(0, &exit(&format!("out-{rounds}"), GOLD, "ALL", 140_000)).await;
        assert_eq!(out["status"], "executed", "{out}");
        rounds += 1;
    }
    println!("in round {rounds} the acknowledgement was forgotten");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2 * rounds, 0), "{check:?}");
}

/// Orders fill in two parts, a while apart; no further while they are held.
async fn fills_in_two(cluster: &Cluster, hold: bool) {
    let model = json!({ "latency_ms": 0, "slices": 2, "slice_delay_ms": 3000, "spread_ticks": 0 });
    cluster.paper.post("fills", json!({ "hold": hold, "model": model })).await;
}

/// Waits until so many fills of how many orders are booked.
async fn booked(cluster: &Cluster, wanted: (i64, i64)) {
    wait::until(&format!("{wanted:?} fills and orders with one are booked"), PATIENCE, async || {
        let found = (cluster.count(FILLS).await, cluster.count(FILLED).await);
        if found == wanted { Ok(()) } else { Err((found, cluster.logs())) }
    })
    .await;
}

const FILLS: &str = "SELECT count(*) FROM fill";
const FILLED: &str = "SELECT count(DISTINCT intent_id) FROM fill";

/// Waits until the newest of so many orders has filled in part at the bridge, holds the rest back, and waits until that part is
/// booked.
async fn half(cluster: &Cluster, orders: usize) {
    wait::until("a part is filled", PATIENCE, async || match &cluster.paper.orders().await[..] {
        all @ [.., last] if all.len() == orders && last.filled_quantity > 0 => Ok(()),
        other => Err((other.to_vec(), cluster.logs())),
    })
    .await;
    fills_in_two(cluster, true).await;
    let order = cluster.paper.orders().await.pop().expect("an order");
    assert!(order.filled_quantity < order.quantity, "it was held too late: {order:?}");
    let orders = i64::try_from(orders).unwrap();
    booked(cluster, (2 * orders - 1, orders)).await;
}

// R: S14, LESSONS "partial fills ignored": the first fill is booked; the second is not there yet, or is read and not booked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s14_whoever_takes_over_between_two_fills_books_the_second_and_not_the_first_again() {
    let mut cluster = Cluster::with(Options { env: charges::metals(), ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let moments = ["in-unfilled", "out-unfilled", "in-unbooked", "out-unbooked"];
    for (before, moment) in moments.into_iter().enumerate() {
        let body = match moment.starts_with("in") {
            true => base(moment, GOLD, 140_000),
            false => exit(moment, GOLD, "ALL", 140_000),
        };
        cluster.all_ready().await;
        let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
        fills_in_two(&cluster, false).await;
        let accepted = cluster.post(leader, &body).await;
        half(&cluster, before + 1).await;
        if moment.ends_with("unbooked") {
            cluster.arm("before_fill_commit", "kill");
            fills_in_two(&cluster, false).await;
            hit(&mut cluster, "before_fill_commit").await;
        } else {
            cluster.kill_leader().await;
            fills_in_two(&cluster, false).await;
        }
        // The dead leader stays away: what follows is its successor's.
        let orders = i64::try_from(before + 1).unwrap();
        booked(&cluster, (2 * orders, orders)).await;
        let view = cluster.terminal(&accepted.id).await;
        assert_eq!(view["status"], "executed", "{moment}: {view}");
        // On a busy machine leadership may have moved before, too: whoever it was that died, it has not come back.
        let history = cluster.history().await;
        assert!(cluster.epoch().await > epoch, "{moment}: {history:?}");
        println!("{moment}:\n{history:?}");
        assert_eq!(cluster.revive().await, 1, "{moment}: one had died");
        cluster.check().await;
    }
    // Each order is charged as one, by two leaders.
    let sql = "SELECT o.side, sum(f.price * f.quantity) * p.point_value / p.lot_size, sum(f.charges), count(*) FROM order_intent o
        JOIN fill f ON f.intent_id = o.id JOIN position p ON p.id = o.position_id GROUP BY o.id, p.id";
    for row in cluster.sql.query(sql, &[]).await.unwrap() {
        let (side, turnover, charged): (&str, Decimal, Decimal) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((charged, row.get::<_, i64>(3)), (charges::of(side, turnover), 2), "{side} of {turnover}");
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (moments.len(), 0), "all that was bought was sold");
}
