//! Entries that are worked: bids that rest, rise and end, what follows them, and the leader that dies on the way.
//!
//! One of each kind runs with every `make test`; the others take a minute and a half, and are among the slow ones.

use baton::failpoint::PLACES;
use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};

use crate::doubt::hit;
use crate::signals::{GOLD, SILVER, SILVER_SYMBOL, base, exit};
use crate::stops::{flat, price};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::paper::PaperOrder;
use crate::support::wait;

/// A limit of a second.
const LIMIT: &[(&str, &str)] =
    &[("INSTRUMENTS__GOLD_MINI__EXECUTION", "limit"), ("TRADING__EXECUTION__LIMIT_TIMEOUT_MS", "1000")];
/// Bids at 140 000, 140 140, … 141 400, half a second each, by a plugin that may raise.
const PROGRESSIVE: &[(&str, &str)] = &[
    ("INSTRUMENTS__GOLD_MINI__EXECUTION", "progressive"),
    ("TRADING__EXECUTION__STEP_MS", "500"),
    ("BROKER__PLUGIN", "upstox"),
];
/// What is left is ordered at the cap, 142 800.
const MARKET: &[(&str, &str)] = &[("TRADING__EXECUTION__REMAINDER", "market")];

/// A cluster whose orders do not fill, with the price at 140 000.
async fn cluster(members: usize, settings: &[&[(&str, &str)]]) -> Cluster {
    let env = settings.concat().into_iter();
    let env =
        env.map(|(key, value)| (format!("BATON_{key}").leak() as &'static str, value.to_owned())).collect();
    let cluster = Cluster::with(Options { members, env, witnessed: true, ..Options::default() }).await;
    price(&cluster, dec!(140000)).await;
    hold(&cluster, true).await;
    cluster
}

async fn hold(cluster: &Cluster, hold: bool) {
    cluster.paper.post("fills", json!({ "hold": hold })).await;
}

/// Purchases at the bridge, in the order of their arrival.
async fn purchases(cluster: &Cluster) -> Vec<PaperOrder> {
    cluster.paper.orders().await.into_iter().filter(|order| order.side == "BUY").collect()
}

/// Waits until as many bids as that were taken by the bridge and the last one is known to rest there.
async fn bids(cluster: &Cluster, number: i64) {
    wait::until(&format!("bid {number} rests at the broker"), PATIENCE, async || {
        let sql = "SELECT count(*) FROM order_intent WHERE class = 'entry' AND price_type = 'LIMIT'
            AND state IN ('acknowledged', 'partially_filled')";
        let known = cluster.count(sql).await;
        let orders = purchases(cluster).await;
        if known == 1 && orders.len() as i64 == number {
            Ok(())
        } else {
            Err((known, orders, cluster.logs()))
        }
    })
    .await;
}

/// The prices that the bridge was asked to place a bid at or to move one to, as they arrived.
async fn asked(cluster: &Cluster) -> Vec<Decimal> {
    let arrivals = cluster.paper.arrivals().await.into_iter();
    let bids = arrivals.filter(|a| a.verb != "cancelorder" && a.body["action"] == "BUY");
    let price = |body: &Value| match &body["price"] {
        Value::String(text) => text.parse().unwrap(),
        other => other.to_string().parse().unwrap(),
    };
    bids.map(|arrival| price(&arrival.body)).collect()
}

/// Codes of what was said at a signal's end.
fn codes(view: &Value) -> Vec<&str> {
    view["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

/// What was decided on was bought, once, and is held.
async fn bought_once(cluster: &Cluster, from: usize) {
    let orders = purchases(cluster).await.split_off(from);
    let wanted = orders[0].quantity;
    assert_eq!(orders.iter().map(|order| order.filled_quantity).sum::<i64>(), wanted, "{orders:#?}");
    assert_eq!(
        cluster.count("SELECT sum(quantity)::bigint FROM position WHERE status = 'open'").await,
        wanted
    );
}

/// The leader's figure of a series.
async fn metric(cluster: &Cluster, series: &str) -> f64 {
    let leader = cluster.leader().await;
    cluster.members[leader].metric(series).await.unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a plan of its own"]
async fn a_limit_that_does_not_fill_is_cancelled_and_what_it_left_is_not_bought() {
    let cluster = cluster(1, &[LIMIT]).await;
    let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(
        (view["status"].as_str(), &codes(&view)[..]),
        (Some("rejected"), &["NOT_FILLED"][..]),
        "{view}"
    );
    let orders = purchases(&cluster).await;
    let [order] = &orders[..] else { panic!("{orders:#?}") };
    assert_eq!((order.price_type.as_str(), order.order_status.as_str()), ("LIMIT", "cancelled"));
    assert_eq!(asked(&cluster).await, [dec!(140000)]);
    assert!(metric(&cluster, "baton_entry_bids_total{event=\"timed_out\"}").await >= 1.0);
    hold(&cluster, false).await;
    assert_eq!(cluster.finish().await.open_positions, 0);
}

// R: S1: filled in part, the rest follows at the cap, and in all it is what was decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_limit_left_is_ordered_once_with_its_limit_at_the_cap() {
    let cluster = cluster(1, &[LIMIT, MARKET]).await;
    let model =
        |slices: u32| json!({ "latency_ms": 0, "slices": slices, "slice_delay_ms": 3000, "spread_ticks": 0 });
    cluster.paper.post("fills", json!({ "hold": false, "model": model(2) })).await;
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    wait::until("half of it is bought", PATIENCE, async || {
        let orders = purchases(&cluster).await;
        if orders.first().is_some_and(|order| order.filled_quantity > 0) { Ok(()) } else { Err(orders) }
    })
    .await;
    price(&cluster, dec!(141000)).await;
    cluster.paper.post("fills", json!({ "model": model(1) })).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!((view["status"].as_str(), &view["reasons"]), (Some("executed"), &json!([])), "{view}");
    let orders = purchases(&cluster).await;
    let [limit, rest] = &orders[..] else { panic!("{orders:#?}") };
    assert_eq!((limit.order_status.as_str(), rest.order_status.as_str()), ("cancelled", "complete"));
    assert!(limit.filled_quantity > 0 && limit.filled_quantity < limit.quantity, "{limit:?}");
    assert_eq!(rest.quantity, limit.quantity - limit.filled_quantity);
    assert_eq!(asked(&cluster).await, [dec!(140000), dec!(142800)]);
    bought_once(&cluster, 0).await;
    assert!(metric(&cluster, "baton_entry_bids_total{event=\"rest_ordered\"}").await >= 1.0);
    cluster.finish().await;
}

// R: S13: a switch that holds entries back takes the bid away, and nothing follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a plan of its own"]
async fn a_bid_under_reduce_only_ends_and_nothing_follows_it() {
    let cluster = cluster(1, &[LIMIT, MARKET]).await;
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    bids(&cluster, 1).await;
    cluster.sql.execute("UPDATE leadership SET reduce_only = true", &[]).await.unwrap();
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(
        (view["status"].as_str(), &codes(&view)[..]),
        (Some("rejected"), &["NOT_FILLED"][..]),
        "{view}"
    );
    assert_eq!(purchases(&cluster).await.len(), 1);
    cluster.finish().await;
}

// R: B4: a limit that is hit while a bid stands takes it away, as it refuses a new entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a plan of its own"]
async fn a_bid_that_stands_when_a_limit_is_hit_is_called_off() {
    let long =
        [("TRADING__EXECUTION__LIMIT_TIMEOUT_MS", "60000"), ("TRADING__LIMITS__MAX_DAILY_LOSS", "1000")];
    let cluster = cluster(1, &[&LIMIT[..1], &long]).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    hold(&cluster, false).await;
    let held = cluster.play(0, &base("held", SILVER, 150_000)).await;
    assert_eq!(held["status"], "executed", "{held}");
    hold(&cluster, true).await;
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    bids(&cluster, 2).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(149000)).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "rejected", "{view}");
    assert_eq!(cluster.count("SELECT count(*) FROM limit_latch WHERE code = 'MAX_DAILY_LOSS'").await, 1);
    assert_eq!(purchases(&cluster).await.pop().unwrap().order_status, "cancelled");
    hold(&cluster, false).await;
    cluster.finish().await;
}

// R: S1: the cancel comes too late: what it filled counts, and nothing is ordered beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a plan of its own"]
async fn a_limit_that_fills_while_it_is_being_cancelled_is_followed_by_nothing() {
    let cluster = cluster(1, &[LIMIT, MARKET]).await;
    let late = json!({ "fault": { "kind": "takes_late", "ms": 1500 }, "verb": "cancelorder", "count": 1 });
    cluster.paper.fault(late).await;
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    wait::until("the cancel was asked for", PATIENCE, async || {
        let asked = cluster.count("SELECT count(*) FROM order_cancel WHERE state = 'acknowledged'").await;
        if asked > 0 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    hold(&cluster, false).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!((view["status"].as_str(), &view["reasons"]), (Some("executed"), &json!([])), "{view}");
    assert_eq!(purchases(&cluster).await.len(), 1);
    bought_once(&cluster, 0).await;
    cluster.finish().await;
}

// R: S1: a cancel whose answer is lost, one that hangs, one that is refused: the books tell, and what is left is bought once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: three plans, one after the other"]
async fn whatever_becomes_of_the_cancel_what_was_decided_is_bought_once() {
    let refused =
        json!({ "kind": "broker_error", "status": 400, "message": "RMS: not now", "placed": false });
    let cluster = cluster(1, &[LIMIT, MARKET]).await;
    for fault in [json!({ "kind": "lost_ack_after" }), json!({ "kind": "hang_before", "ms": 700 }), refused] {
        let kind = fault["kind"].as_str().unwrap().to_owned();
        let before = purchases(&cluster).await.len();
        cluster.paper.fault(json!({ "fault": fault, "verb": "cancelorder", "count": 1 })).await;
        let view = rests_and_ends(&cluster, &kind, async || {}).await;
        assert_eq!(view["status"], "executed", "{kind}: {view}");
        bought_once(&cluster, before).await;
        leave(&cluster, &kind).await;
    }
    cluster.finish().await;
}

// R: S15: an EXIT does not wait for a bid's time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a plan of its own"]
async fn an_exit_calls_a_bid_off() {
    let patient = &[("TRADING__EXECUTION__LIMIT_TIMEOUT_MS", "600000")];
    let cluster = cluster(1, &[LIMIT, patient, MARKET]).await;
    let entry = cluster.post(0, &base("in", GOLD, 140_000)).await;
    bids(&cluster, 1).await;
    cluster.play(0, &exit("out", GOLD, "ALL", 140_000)).await;
    let view = cluster.terminal(&entry.id).await;
    assert_eq!((view["status"].as_str(), codes(&view)[0]), (Some("rejected"), "NOT_FILLED"), "{view}");
    assert_eq!(purchases(&cluster).await.len(), 1);
    hold(&cluster, false).await;
    assert_eq!(cluster.finish().await.open_positions, 0);
}

/// A bid rests at 140 000, something is done then, the price is at 140 300, and the entry ends.
async fn rests_and_ends(cluster: &Cluster, id: &str, then: impl AsyncFnOnce()) -> Value {
    let before = purchases(cluster).await.len();
    price(cluster, dec!(140000)).await;
    hold(cluster, true).await;
    cluster.all_ready().await;
    let accepted = cluster.post(0, &base(&format!("in-{id}"), GOLD, 140_000)).await;
    bids(cluster, before as i64 + 1).await;
    then().await;
    price(cluster, dec!(140300)).await;
    hold(cluster, false).await;
    let view = cluster.terminal(&accepted.id).await;
    println!("{id}: {} {}", view["status"], view["reasons"]);
    view
}

/// The same, and the leader dies at the place.
async fn dies_at(cluster: &mut Cluster, place: &str) -> Value {
    let view = rests_and_ends(cluster, place, async || cluster.arm(place, "kill")).await;
    hit(cluster, place).await;
    cluster.revive().await;
    cluster.check().await;
    view
}

/// Sells what is held, so that the next entry is a base again.
async fn leave(cluster: &Cluster, place: &str) {
    let out = cluster.play(0, &exit(&format!("out-{place}"), GOLD, "ALL", 140_300)).await;
    assert_eq!(out["status"], "executed", "{out}");
    flat(cluster).await;
}

// R: S1, S2, S14: the leader dies on the way of the bid itself; whoever is next ends it, and buys what it left, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: seven leaders die"]
async fn s14_a_leader_that_dies_on_the_way_of_a_bid_buys_what_was_decided_at_most_once() {
    let mut cluster = cluster(2, &[LIMIT, MARKET]).await;
    // Those that may never have left come last, as below.
    let unsent = ["after_write", "after_check", "after_journal"];
    let first = PLACES.into_iter().filter(|place| !unsent.contains(place));
    for place in first.chain(unsent) {
        let before = purchases(&cluster).await.len();
        price(&cluster, dec!(140000)).await;
        hold(&cluster, true).await;
        cluster.all_ready().await;
        let body = base(&format!("in-{place}"), GOLD, 140_000);
        let accepted = if place == "before_fill_commit" {
            // Of what its rest buys: the bid itself fills nothing.
            let accepted = cluster.post(0, &body).await;
            bids(&cluster, before as i64 + 1).await;
            cluster.arm(place, "kill");
            price(&cluster, dec!(140300)).await;
            hold(&cluster, false).await;
            hit(&mut cluster, place).await;
            accepted
        } else {
            cluster.arm(place, "kill");
            let accepted = cluster.post(0, &body).await;
            hit(&mut cluster, place).await;
            if place != "before_journal" {
                price(&cluster, dec!(140300)).await;
            }
            hold(&cluster, false).await;
            accepted
        };
        let view = cluster.terminal(&accepted.id).await;
        println!("{place}: {} {}", view["status"], view["reasons"]);
        let ends: &[&str] = match place {
            "after_write" => &["executed", "abandoned"],
            "after_check" | "after_journal" => &["abandoned"],
            _ => &["executed"],
        };
        assert!(ends.iter().any(|end| view["status"] == *end), "{place}: {view}");
        cluster.revive().await;
        cluster.check().await;
        if view["status"] == "executed" {
            bought_once(&cluster, before).await;
            price(&cluster, dec!(140300)).await;
            leave(&cluster, place).await;
        } else {
            assert_eq!(purchases(&cluster).await.len(), before, "{place}: {view}");
        }
    }
    assert_eq!(cluster.finish().await.open_positions, 0);
}

// R: S1, S14: the leader dies on the way of the cancel that makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: four leaders die"]
async fn s14_a_leader_that_dies_while_a_limit_is_cancelled_buys_what_was_decided_once() {
    let mut cluster = cluster(2, &[LIMIT, MARKET]).await;
    for place in ["before_request", "after_request_journal", "after_request_write", "after_request_reply"] {
        let before = purchases(&cluster).await.len();
        let view = dies_at(&mut cluster, place).await;
        assert_eq!(
            (view["status"].as_str(), &view["reasons"]),
            (Some("executed"), &json!([])),
            "{place}: {view}"
        );
        bought_once(&cluster, before).await;
        leave(&cluster, place).await;
    }
    cluster.finish().await;
}

// R: S1, S14: the leader dies on the way of the order for what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: six leaders die"]
async fn s14_a_leader_that_dies_on_the_way_of_a_rest_buys_it_at_most_once() {
    let mut cluster = cluster(2, &[LIMIT, MARKET]).await;
    // In live shape a cancelled row behind another one takes 20 s to be believed: what is not bought comes last.
    for place in
        ["before_journal", "before_ack_commit", "after_reply", "after_write", "after_check", "after_journal"]
    {
        let ends: &[&str] = match place {
            // It dies two milliseconds after the last check, on a busy machine before a byte has left.
            "after_write" => &["executed", "abandoned"],
            // Never sent, and nobody could prove it.
            "after_check" | "after_journal" => &["abandoned"],
            _ => &["executed"],
        };
        let before = purchases(&cluster).await.len();
        let view = dies_at(&mut cluster, place).await;
        let status = view["status"].as_str().unwrap();
        assert!(ends.contains(&status), "{place}: {view}");
        let orders = purchases(&cluster).await.split_off(before);
        let filled: i64 = orders.iter().map(|order| order.filled_quantity).sum();
        let wanted = if status == "executed" { orders[0].quantity } else { 0 };
        assert_eq!(filled, wanted, "{place}: {view} {orders:#?}");
        if filled > 0 {
            leave(&cluster, place).await;
        }
    }
    cluster.finish().await;
}

// R: S1: one order that rises in place, up to where it fills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_progressive_bid_rises_in_place_until_it_fills() {
    let cluster = cluster(1, &[PROGRESSIVE]).await;
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    bids(&cluster, 1).await;
    price(&cluster, dec!(140300)).await;
    hold(&cluster, false).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!((view["status"].as_str(), &view["reasons"]), (Some("executed"), &json!([])), "{view}");
    let asked = asked(&cluster).await;
    let steps: Vec<Decimal> = asked.iter().map(|price| (price - dec!(140000)) / dec!(140)).collect();
    assert!(steps.iter().all(|step| step.fract().is_zero()) && steps.is_sorted_by(|a, b| a < b), "{asked:?}");
    let last = *asked.last().unwrap();
    assert!((asked[0], last > dec!(140300)) == (dec!(140000), true), "{asked:?}");
    let orders = purchases(&cluster).await;
    let [order] = &orders[..] else { panic!("{orders:#?}") };
    assert!(order.fills.iter().all(|fill| fill.price <= last), "{order:?}");
    bought_once(&cluster, 0).await;
    assert!(metric(&cluster, "baton_entry_bids_total{event=\"raised\"}").await >= 1.0);
    cluster.finish().await;
}

// R: S1, S14: the leader dies on the way of a raise; the next one goes on from where the bid stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: four leaders die"]
async fn s14_a_leader_that_dies_while_it_raises_a_bid_leaves_one_bid_that_never_falls() {
    let mut cluster = cluster(2, &[PROGRESSIVE, MARKET]).await;
    for place in ["before_request", "after_request_journal", "after_request_write", "after_request_reply"] {
        let (orders, prices) = (purchases(&cluster).await.len(), asked(&cluster).await.len());
        let view = dies_at(&mut cluster, place).await;
        assert_eq!(view["status"], "executed", "{place}: {view}");
        bought_once(&cluster, orders).await;
        let prices = asked(&cluster).await.split_off(prices);
        assert!(
            prices.is_sorted() && prices.iter().all(|price| *price <= dec!(142800)),
            "{place}: {prices:?}"
        );
        leave(&cluster, place).await;
    }
    cluster.finish().await;
}

// R: S6: while a raise may still arrive nothing is asked of its bid but its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: two plans up to their ends"]
async fn a_raise_in_doubt_blocks_the_next_until_the_books_show_it() {
    for (kind, raised) in [("lost_ack_after", true), ("lost_ack_before", false)] {
        let few = &[("TRADING__EXECUTION__STEPS", "6")];
        let cluster = cluster(1, &[PROGRESSIVE, few]).await;
        cluster.paper.fault(json!({ "fault": { "kind": kind }, "verb": "modifyorder", "count": 1 })).await;
        let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
        assert_eq!(view["status"], "rejected", "{view}");
        let asked = asked(&cluster).await;
        assert_eq!(asked.len() > 2, raised, "{kind}: {asked:?}");
        let states = "SELECT string_agg(state, ' ' ORDER BY journaled_at) FROM order_modify";
        let states: String = cluster.sql.query_one(states, &[]).await.unwrap().get(0);
        let first = if raised { "applied" } else { "void" };
        assert!(states.starts_with(first), "{kind}: {states}");
        hold(&cluster, false).await;
        cluster.finish().await;
    }
}

// R: B8: what the broker refuses is not tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: two plans, one after the other"]
async fn a_bid_or_a_rest_that_the_broker_refuses_ends_its_entry() {
    let cluster = cluster(1, &[LIMIT, MARKET]).await;
    let refuses = json!({ "kind": "broker_error", "status": 400, "message": "RMS: no", "placed": false });
    let refuse = json!({ "fault": refuses, "verb": "placeorder", "count": 1 });
    cluster.paper.fault(refuse.clone()).await;
    let view = cluster.play(0, &base("refused", GOLD, 140_000)).await;
    assert_ne!(view["status"], "executed", "{view}");
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    bids(&cluster, 1).await;
    cluster.paper.fault(refuse).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_ne!(view["status"], "executed", "{view}");
    assert_eq!(purchases(&cluster).await.len(), 1);
    hold(&cluster, false).await;
    assert_eq!(cluster.finish().await.open_positions, 0);
}
