//! Stops that rest at the broker: put, moved, cancelled for exits, filled while nobody leads; and the faults of each step.

use rust_decimal::{Decimal, dec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL, bar, base, exit};
use crate::stops::{flat, price};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::paper::{self, PaperOrder};
use crate::support::wait;

async fn cluster(members: usize) -> Cluster {
    with("live", members, &[]).await
}

async fn with(shape: &'static str, members: usize, env: &[(&'static str, &str)]) -> Cluster {
    let env = [("BATON_TRADING__STOPS__RESTING", "on")].iter().chain(env);
    let env = env.map(|(key, value)| (*key, (*value).to_owned())).collect();
    Cluster::with(Options { shape, members, env, ..Options::default() }).await
}

/// Enters at 140 000 with the stop at 139 300, and waits until that rests at the broker.
async fn enter(cluster: &Cluster, id: &str) {
    price(cluster, dec!(140000)).await;
    let entered = cluster.play(0, &base(id, GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    rests(cluster, dec!(139300)).await;
}

/// The stops that the bridge has, in the order of their arrival.
async fn stops(cluster: &Cluster) -> Vec<PaperOrder> {
    cluster.paper.orders().await.into_iter().filter(|order| order.price_type == "SL").collect()
}

/// Waits until one stop waits at the bridge for this trigger, over all that is held, and the ledger has its order.
async fn rests(cluster: &Cluster, trigger: Decimal) -> PaperOrder {
    wait::until(&format!("a stop rests at {trigger}"), PATIENCE, async || {
        let stops = stops(cluster).await;
        let mut waiting = stops.iter().filter(|order| order.order_status == "trigger pending");
        let held = cluster.count("SELECT sum(quantity)::bigint FROM position WHERE status = 'open'").await;
        let known = "SELECT count(*) FROM order_intent WHERE price_type = 'SL' AND state = 'acknowledged'";
        let known = cluster.count(known).await;
        match (waiting.next(), waiting.next()) {
            (Some(stop), None) if (stop.trigger_price, stop.quantity, known) == (trigger, held, 1) => {
                Ok(stop.clone())
            }
            _ => Err((held, known, stops, cluster.logs())),
        }
    })
    .await
}

/// Type, cause and state of every order that closes.
async fn sales(cluster: &Cluster) -> Vec<(String, String, String)> {
    let sql =
        "SELECT price_type, cause, state FROM order_intent WHERE class <> 'entry' ORDER BY journaled_at";
    let rows = cluster.sql.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn are(sales: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    sales.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

async fn cause(cluster: &Cluster) -> Option<String> {
    let sql = "SELECT exit_cause FROM position ORDER BY opened_at DESC LIMIT 1";
    cluster.sql.query_one(sql, &[]).await.unwrap().get(0)
}

/// A bar that closes at 142 000: the stop trails to 140 600.
async fn trail(cluster: &Cluster, id: &str) {
    price(cluster, dec!(142000)).await;
    // A stop never moves up to a price that the leader still believes in.
    wait::until("the leader knows the price", PATIENCE, async || {
        let leader = cluster.leader().await;
        let status = cluster.members[leader].json("/api/v1/monitoring/status").await.unwrap_or_default();
        let price =
            |trade: &Value| trade["current_price"].as_str().and_then(|text| text.parse::<Decimal>().ok());
        let known = |trade: &Value| price(trade) == Some(dec!(142000));
        if status["trades"].as_array().is_some_and(|trades| trades.iter().any(known)) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    let played = cluster.play(0, &bar(id, GOLD, 142_000, 700)).await;
    assert_eq!(played["status"], "executed", "{played}");
}

async fn states(cluster: &Cluster, table: &str) -> Vec<String> {
    let sql = format!("SELECT state FROM {table} ORDER BY journaled_at");
    cluster.sql.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Waits until what became of each move is known, and so.
async fn moves_become(cluster: &Cluster, wanted: &[&str]) {
    wait::until("what became of each move is known", PATIENCE, async || {
        let moved = states(cluster, "order_modify").await;
        if moved == wanted { Ok(()) } else { Err((moved, cluster.logs())) }
    })
    .await;
}

// R: D3, S15: the whole life of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_rests_at_the_broker_moves_up_in_place_and_makes_room_for_an_exit() {
    let cluster = cluster(1).await;
    enter(&cluster, "held").await;
    let before = rests(&cluster, dec!(139300)).await;
    trail(&cluster, "bar").await;
    let after = rests(&cluster, dec!(140600)).await;
    assert_eq!(before.orderid, after.orderid, "moved, not replaced");
    moves_become(&cluster, &["applied"]).await;
    let left = cluster.play(0, &exit("out", GOLD, "ALL", 142_000)).await;
    assert_eq!(left["status"], "executed", "{left}");
    flat(&cluster).await;
    let wanted = are(&[("SL", "stop_loss", "cancelled"), ("MARKET", "signal", "filled")]);
    assert_eq!(sales(&cluster).await, wanted);
    assert_eq!(cause(&cluster).await.as_deref(), Some("signal"));
    assert_eq!(states(&cluster, "order_cancel").await, ["applied"]);
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (3, 0));
}

// R: D3, S15: LESSONS "restored positions were never compared with the broker".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_fills_while_nobody_leads_closes_its_position_and_nothing_is_sold_again() {
    let mut cluster = cluster(3).await;
    enter(&cluster, "held").await;
    for member in &mut cluster.members {
        member.process.kill().await;
    }
    price(&cluster, dec!(139000)).await;
    assert_eq!(stops(&cluster).await[0].order_status, "complete");
    cluster.revive().await;
    flat(&cluster).await;
    assert_eq!(sales(&cluster).await, are(&[("SL", "stop_loss", "filled")]));
    assert_eq!(cause(&cluster).await.as_deref(), Some("stop_loss"));
    let late = cluster.play(0, &exit("late", GOLD, "ALL", 139_000)).await;
    assert_eq!(late["reasons"][0]["code"], "NO_POSITION", "{late}");
    assert_eq!(cluster.finish().await.orders, 2);
}

// R: S14, S15: an exit whose leader dies at each place of the way to it: the stop is cancelled for it, or sells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_a_leader_that_dies_anywhere_between_a_stop_and_an_exit_leaves_one_sale() {
    let mut cluster = cluster(3).await;
    for place in ["before_request", "after_request_journal", "after_request_write", "after_request_reply"] {
        enter(&cluster, &format!("in-{place}")).await;
        cluster.all_ready().await;
        cluster.arm(place, "kill");
        let out = cluster.post(0, &exit(&format!("out-{place}"), GOLD, "ALL", 140_000)).await;
        hit(&mut cluster, place).await;
        let view = cluster.terminal(&out.id).await;
        assert_eq!(view["status"], "executed", "{place}: {view}");
        flat(&cluster).await;
        cluster.revive().await;
        cluster.check().await;
    }
    cluster.finish().await;
}

// R: S14: the same where a stop is moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_while_it_moves_a_stop_leaves_one_stop() {
    let mut cluster = cluster(3).await;
    price(&cluster, dec!(140000)).await;
    for place in ["after_request_journal", "after_request_write", "after_request_reply"] {
        enter(&cluster, &format!("in-{place}")).await;
        cluster.all_ready().await;
        cluster.arm(place, "kill");
        trail(&cluster, &format!("bar-{place}")).await;
        hit(&mut cluster, place).await;
        rests(&cluster, dec!(140600)).await;
        wait::until("what became of each move is known", PATIENCE, async || {
            let moved = states(&cluster, "order_modify").await;
            let known = |state: &String| matches!(state.as_str(), "applied" | "void");
            if moved.iter().all(known) { Ok(()) } else { Err((moved, cluster.logs())) }
        })
        .await;
        cluster.revive().await;
        let out = cluster.play(0, &exit(&format!("out-{place}"), GOLD, "ALL", 142_000)).await;
        assert_eq!(out["status"], "executed", "{out}");
        flat(&cluster).await;
        cluster.check().await;
    }
    cluster.finish().await;
}

// R: S14: the answer is kept, and its leader dies before the books show the move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_only_acknowledged_when_its_leader_died_is_told_by_the_books() {
    let mut cluster = cluster(2).await;
    enter(&cluster, "held").await;
    let late = json!({ "fault": { "kind": "takes_late", "ms": 2000 }, "verb": "modifyorder", "count": 1 });
    cluster.paper.fault(late).await;
    trail(&cluster, "bar").await;
    moves_become(&cluster, &["acknowledged"]).await;
    cluster.kill_leader().await;
    rests(&cluster, dec!(140600)).await;
    moves_become(&cluster, &["applied"]).await;
    cluster.revive().await;
    cluster.finish().await;
}

// R: S1, S14: the same where a stop is put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_while_it_puts_a_stop_leaves_one_stop() {
    // Where the books name their orders, two cancelled rows in a row are told apart at once.
    let mut cluster = with("analyze", 3, &[]).await;
    enter(&cluster, "held").await;
    for place in ["after_journal", "after_write", "before_ack_commit"] {
        cluster.all_ready().await;
        cluster.arm(place, "kill");
        // The broker ends the one that rests, so another is put.
        cluster.paper.post("day/end", json!({})).await;
        hit(&mut cluster, place).await;
        rests(&cluster, dec!(139300)).await;
        cluster.revive().await;
        cluster.check().await;
    }
    let out = cluster.play(0, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    flat(&cluster).await;
    cluster.finish().await;
}

// R: S15: the cancel is taken, and the trigger is faster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_races_the_trigger_sells_nothing_that_the_stop_has_sold() {
    let cluster = cluster(1).await;
    enter(&cluster, "held").await;
    let late = json!({ "fault": { "kind": "takes_late", "ms": 1500 }, "verb": "cancelorder", "count": 1 });
    cluster.paper.fault(late).await;
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    wait::until("the cancel is answered", PATIENCE, async || {
        match states(&cluster, "order_cancel").await.first().map(String::as_str) {
            Some("acknowledged") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    price(&cluster, dec!(139200)).await;
    flat(&cluster).await;
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "refused", "what it meant is sold already: {view}");
    assert_eq!(sales(&cluster).await, are(&[("SL", "stop_loss", "filled")]));
    assert_eq!(cause(&cluster).await.as_deref(), Some("stop_loss"));
    assert_eq!(states(&cluster, "order_cancel").await, ["void"]);
    cluster.finish().await;
}

// R: S6: a move without an answer is asked again only when it cannot arrive any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_whose_answer_is_lost_is_told_by_the_books() {
    for (kind, wanted) in [("lost_ack_after", vec!["applied"]), ("lost_ack_before", vec!["void", "applied"])]
    {
        let cluster = cluster(1).await;
        enter(&cluster, "held").await;
        let lost = json!({ "fault": { "kind": kind }, "verb": "modifyorder", "count": 1 });
        cluster.paper.fault(lost).await;
        trail(&cluster, "bar").await;
        rests(&cluster, dec!(140600)).await;
        moves_become(&cluster, &wanted).await;
        assert_eq!(stops(&cluster).await.len(), 1);
        cluster.finish().await;
    }
}

// R: D3: the price gaps below the stop's limit: the leader cancels it and sells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_through_a_stops_limit_is_sold_by_the_leader() {
    let cluster = cluster(1).await;
    enter(&cluster, "held").await;
    price(&cluster, dec!(130000)).await;
    flat(&cluster).await;
    let wanted = are(&[("SL", "stop_loss", "cancelled"), ("MARKET", "stop_loss", "filled")]);
    assert_eq!(sales(&cluster).await, wanted);
    cluster.finish().await;
}

// R: S13: a halt holds an EXIT back, and does not leave the position without its stop for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halted_exit_leaves_the_stop_where_it_is() {
    let cluster = cluster(1).await;
    enter(&cluster, "held").await;
    cluster.sql.execute("UPDATE leadership SET halted = true", &[]).await.unwrap();
    let waiting = cluster.post(0, &exit("waits", GOLD, "ALL", 140_000)).await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(states(&cluster, "order_cancel").await, Vec::<String>::new());
    rests(&cluster, dec!(139300)).await;
    cluster.sql.execute("UPDATE leadership SET halted = false", &[]).await.unwrap();
    let view: Value = cluster.terminal(&waiting.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    flat(&cluster).await;
    cluster.finish().await;
}

// R: D3: LESSONS "stop-loss order never polled after placement".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_the_broker_ends_is_put_again_and_one_that_it_refuses_is_told() {
    // In live shape a cancelled row behind another one takes 20 s to be believed.
    let cluster = with("analyze", 1, &[]).await;
    enter(&cluster, "held").await;
    cluster.paper.post("day/end", json!({})).await;
    wait::until("the ended stop is known", PATIENCE, async || {
        let ended = "SELECT count(*) FROM order_intent WHERE price_type = 'SL' AND state = 'cancelled'";
        if cluster.count(ended).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    rests(&cluster, dec!(139300)).await;
    let refuses =
        json!({ "kind": "broker_error", "status": 400, "message": "RMS: no stops today", "placed": false });
    cluster.paper.fault(json!({ "fault": refuses, "verb": "placeorder" })).await;
    cluster.paper.post("day/end", json!({})).await;
    let leader = cluster.leader().await;
    wait::until("a position without its stop is counted", PATIENCE, async || {
        match cluster.members[leader].metric("baton_stops_not_resting").await {
            Some(1.0) => Ok(()),
            other => Err((other, cluster.logs())),
        }
    })
    .await;
    cluster.paper.heal().await;
    rests(&cluster, dec!(139300)).await;
    wait::until("it is covered again", PATIENCE, async || {
        match cluster.members[leader].metric("baton_stops_not_resting").await {
            Some(0.0) => Ok(()),
            other => Err((other, cluster.logs())),
        }
    })
    .await;
    cluster.finish().await;
}

// R: LESSONS "SIGTERM and the kill switch cancelled all orders, protective stops too, and left the position naked".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_instance_leaves_the_stop_under_hold_and_makes_room_under_flatten() {
    for (policy, status, held) in [("hold", "trigger pending", 1), ("flatten", "cancelled", 0)] {
        let mut cluster = with("live", 1, &[("BATON_SHUTDOWN__EXIT_POLICY", policy)]).await;
        enter(&cluster, "held").await;
        cluster.members[0].process.signal(Signal::TERM);
        let exit = cluster.members[0].process.exit(PATIENCE).await;
        assert!(exit.success(), "{exit}");
        assert_eq!(stops(&cluster).await[0].order_status, status, "{policy}");
        let open = "SELECT count(*) FROM position WHERE status <> 'closed'";
        assert_eq!(cluster.count(open).await, held, "{policy}: {:?}", cluster.logs());
        cluster.finish().await;
    }
}

// R: S15: what is closed by hand is not sold again by its stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_a_position_that_was_closed_by_hand_is_cancelled_whatever_switch_is_on() {
    let quick = [("BATON_RECOVERY__RECONCILE_MS", "300"), ("BATON_RECOVERY__DRIFT_SETTLE_MS", "300")];
    let cluster = with("live", 1, &quick).await;
    enter(&cluster, "held").await;
    cluster.sql.execute("UPDATE leadership SET halted = true, halt_all = true", &[]).await.unwrap();
    let units = cluster.count("SELECT sum(quantity)::bigint FROM position").await;
    let body = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": GOLD_SYMBOL, "exchange": "MCX", "action": "SELL",
        "product": "NRML", "pricetype": "MARKET", "quantity": units,
    });
    let request = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&body);
    assert!(request.send().await.unwrap().status().is_success());
    wait::until("the stop is cancelled", PATIENCE, async || {
        let stops = stops(&cluster).await;
        if stops[0].order_status == "cancelled" { Ok(()) } else { Err((stops, cluster.logs())) }
    })
    .await;
    // The price falls through it: nothing is sold, and no other stop was put.
    price(&cluster, dec!(139000)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let sold =
        cluster.paper.orders().await.into_iter().filter(|o| o.side == "SELL").map(|o| o.filled_quantity);
    assert_eq!(sold.sum::<i64>(), units);
}
