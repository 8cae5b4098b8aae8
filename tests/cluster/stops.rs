//! Stops: what is held is sold when its price falls to the stop, whatever the feed, the switches and the leader do.

use rust_decimal::{Decimal, dec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// The stop of [`base`] at 140 000: one ATR below, which is tighter than the signal's.
const STOP: Decimal = dec!(139300);

async fn enter(cluster: &Cluster) {
    price(cluster, dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
}

pub async fn price(cluster: &Cluster, price: Decimal) {
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", price).await;
}

/// Waits until nothing is held.
pub async fn flat(cluster: &Cluster) {
    wait::until("the position is closed", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await {
            0 => Ok(()),
            held => Err((held, cluster.logs())),
        }
    })
    .await;
}

/// Class, cause and state of every order that closes.
async fn exits(cluster: &Cluster) -> Vec<(String, String, String)> {
    let sql = "SELECT class, cause, state FROM order_intent WHERE class <> 'entry' ORDER BY journaled_at";
    let rows = cluster.sql.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn exits_are(class: &str, cause: &str, states: &[&str]) -> Vec<(String, String, String)> {
    states.iter().map(|state| (class.to_owned(), cause.to_owned(), (*state).to_owned())).collect()
}

/// Every line of every member's log with `text` in it.
fn lines(cluster: &Cluster, text: &str) -> Vec<String> {
    let logs = cluster.members.iter().map(|m| m.log());
    let logs: Vec<String> = logs.collect();
    logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(text)).map(str::to_owned).collect()
}

async fn set(cluster: &Cluster, sql: &str) {
    cluster.sql.execute(&format!("UPDATE leadership SET {sql}"), &[]).await.unwrap();
}

async fn metric(cluster: &Cluster, series: &str, wanted: f64) {
    wait::until(&format!("{series} is {wanted}"), PATIENCE, async || {
        let leader = cluster.leader().await;
        let value = cluster.members[leader].metric(series).await;
        if value == Some(wanted) { Ok(()) } else { Err((value, cluster.logs())) }
    })
    .await;
}

// R: D3, the incident of the 21.77 %: no live feed at all, and the stop fires all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_fires_with_the_feed_cut() {
    let env = vec![("BATON_FEED__ENABLED", "false".to_owned())];
    let cluster = Cluster::with(Options { env, ..Options::default() }).await;
    enter(&cluster).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    price(&cluster, STOP + dec!(1)).await;
    metric(&cluster, "baton_stop_hits_total{cause=\"stop_loss\"}", 0.0).await;
    price(&cluster, STOP).await;
    flat(&cluster).await;
    assert_eq!(exits(&cluster).await, exits_are("protective", "stop_loss", &["filled"]));
    let told = lines(&cluster, &format!("[SL] {GOLD_SYMBOL}: Price 139300 <= SL 139300"));
    assert_eq!(told.len(), 1, "{told:?}");
    let leader = cluster.leader().await;
    let asked = cluster.members[leader].metric("baton_feed_rest_quotes_total{outcome=\"ok\"}").await;
    assert!(asked > Some(0.0), "the price came over REST: {asked:?}");
    let cause = "SELECT count(*) FROM position WHERE exit_cause = 'stop_loss'";
    assert_eq!(cluster.count(cause).await, 1);
    // A late EXIT finds nothing.
    let late = cluster.play(1, &exit("late", GOLD, "ALL", 139_000)).await;
    assert_eq!(
        (late["status"].as_str(), late["reasons"][0]["code"].as_str()),
        (Some("refused"), Some("NO_POSITION"))
    );
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: D3, S15: a gap far through the stop is confirmed by a second quote, and sold once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_through_the_stop_is_confirmed_and_sold_once() {
    let cluster = Cluster::start().await;
    enter(&cluster).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    price(&cluster, dec!(109520)).await;
    flat(&cluster).await;
    assert_eq!(exits(&cluster).await, exits_are("protective", "stop_loss", &["filled"]));
    assert!(!lines(&cluster, "asking for a second quote").is_empty());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_profit_is_taken() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    price(&cluster, dec!(140000)).await;
    let mut body = base("held", GOLD, 140_000);
    body["take_profit_percent"] = json!(1);
    let entered = cluster.play(0, &body).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    price(&cluster, dec!(141400)).await;
    flat(&cluster).await;
    assert_eq!(exits(&cluster).await, exits_are("protective", "take_profit", &["filled"]));
    let told = lines(&cluster, &format!("[TP] {GOLD_SYMBOL}: Price 141400 >= TP 141400"));
    assert_eq!(told.len(), 1, "{told:?}");
    cluster.finish().await;
}

// R: D3: nobody leads while the price falls; the next leader sells at its first price.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_was_passed_while_nobody_led_fires_at_the_takeover() {
    let mut cluster = Cluster::start().await;
    enter(&cluster).await;
    for member in &mut cluster.members {
        member.process.kill().await;
    }
    price(&cluster, dec!(138000)).await;
    assert_eq!(exits(&cluster).await, Vec::new());
    cluster.revive().await;
    flat(&cluster).await;
    assert_eq!(exits(&cluster).await, exits_are("protective", "stop_loss", &["filled"]));
    cluster.finish().await;
}

// R: S13, S15: the leader dies with the stop's order on its way; the next one sends no second one before it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_whose_leader_dies_on_the_way_is_sold_once() {
    for place in ["before_journal", "after_journal", "after_write", "before_ack_commit", "before_fill_commit"]
    {
        let mut cluster = Cluster::start().await;
        enter(&cluster).await;
        metric(&cluster, "baton_stops_unarmed", 0.0).await;
        cluster.arm(place, "kill");
        price(&cluster, dec!(139000)).await;
        flat(&cluster).await;
        assert!(!cluster.is_armed(), "{place} was reached");
        let filled = "SELECT count(*) FROM order_intent WHERE class = 'protective' AND state = 'filled'";
        assert_eq!(cluster.count(filled).await, 1, "{place}");
        cluster.revive().await;
        cluster.finish().await;
    }
}

// R: S13: halt lets protective orders through; halt_all does not, and then the stop waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_does_not_hold_a_stop_back_and_halt_all_does() {
    let mut cluster = Cluster::start().await;
    enter(&cluster).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    set(&cluster, "halted = true, halt_all = true").await;
    price(&cluster, dec!(139000)).await;
    metric(&cluster, "baton_stop_hits_total{cause=\"stop_loss\"}", 1.0).await;
    // It survives a failover, and so does the wish to sell.
    cluster.kill_leader().await;
    metric(&cluster, "baton_stop_hits_total{cause=\"stop_loss\"}", 1.0).await;
    assert_eq!(exits(&cluster).await, Vec::new(), "halt_all holds everything but an operator's order");
    // The price comes back: nothing is owed.
    price(&cluster, dec!(140000)).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    set(&cluster, "halt_all = false").await;
    let waiting = cluster.post(0, &exit("waits", GOLD, "ALL", 140_000)).await;
    let open = "SELECT count(*) FROM position WHERE status = 'open'";
    assert_eq!(cluster.count(open).await, 1, "the halt holds the EXIT");
    price(&cluster, dec!(139000)).await;
    flat(&cluster).await;
    assert_eq!(exits(&cluster).await, exits_are("protective", "stop_loss", &["filled"]));
    let view: Value = cluster.terminal(&waiting.id).await;
    assert_eq!(view["status"], "refused", "what it meant is sold already: {view}");
    set(&cluster, "halted = false").await;
    cluster.revive().await;
    cluster.finish().await;
}

// R: S13: an EXIT that comes while `halt --all` holds a stop back is not lost with the stop's wish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_comes_under_halt_all_beside_a_stop_acts_on_resume() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    enter(&cluster).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    set(&cluster, "halted = true, halt_all = true").await;
    price(&cluster, dec!(139000)).await;
    metric(&cluster, "baton_stop_hits_total{cause=\"stop_loss\"}", 1.0).await;
    let mut waiting = Vec::new();
    for n in 0..5 {
        waiting.push(cluster.post(0, &exit(&format!("waits-{n}"), GOLD, "ALL", 139_000)).await);
        // The stop's wish comes and goes with each look: an EXIT in each part of that.
        tokio::time::sleep(std::time::Duration::from_millis(130)).await;
    }
    price(&cluster, dec!(140000)).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    let refused = "SELECT count(*) FROM signal WHERE type = 'EXIT' AND status = 'refused'";
    assert_eq!(cluster.count(refused).await, 0, "{:?}", cluster.logs());
    set(&cluster, "halted = false, halt_all = false").await;
    flat(&cluster).await;
    assert_eq!(exits(&cluster).await, exits_are("exit", "signal", &["filled"]));
    let view = cluster.terminal(&waiting[0].id).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}

// R: D3: the broker refuses the exit; it is tried again until it is flat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stop_is_tried_until_flat() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    enter(&cluster).await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    let refuses =
        json!({ "kind": "broker_error", "status": 400, "message": "RMS: blocked", "placed": false });
    cluster.paper.fault(json!({ "fault": refuses, "verb": "placeorder", "count": 2 })).await;
    price(&cluster, dec!(139000)).await;
    flat(&cluster).await;
    let states = exits(&cluster).await;
    assert_eq!(states.last().unwrap(), &exits_are("protective", "stop_loss", &["filled"])[0]);
    assert_eq!(states.len(), 3, "{states:?}");
    cluster.finish().await;
}

/// Waits until it was told once, to nobody twice, that the position does not get flat, and that it is over or not.
async fn logged(cluster: &Cluster, over: bool) {
    let sql = format!(
        "SELECT count(*) FROM error_notifications_log WHERE error_type = 'EXIT_NOT_FLAT' AND severity = 'critical'
         AND error_message LIKE '%2800 of 2800 units of {GOLD_SYMBOL}%RMS: blocked%' AND resolved = {over}
         AND notification_count = 1"
    );
    wait::until(&format!("it is told, over: {over}"), PATIENCE, async || {
        if cluster.count(&sql).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
}

// R: D3, LESSONS "failed exit never retried": somebody is told, once, and hears when it is over; also of whoever leads next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_refused_again_and_again_is_told_until_it_is_sold() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    enter(&cluster).await;
    metric(&cluster, "baton_exits_not_flat", 0.0).await;
    let refuses =
        json!({ "kind": "broker_error", "status": 400, "message": "RMS: blocked", "placed": false });
    cluster.paper.fault(json!({ "fault": refuses, "verb": "placeorder" })).await;
    price(&cluster, dec!(139000)).await;
    metric(&cluster, "baton_exits_not_flat", 1.0).await;
    logged(&cluster, false).await;
    cluster.members[0].process.kill().await;
    cluster.members[0].restart().await;
    metric(&cluster, "baton_exits_not_flat", 1.0).await;
    logged(&cluster, false).await;
    cluster.paper.heal().await;
    flat(&cluster).await;
    metric(&cluster, "baton_exits_not_flat", 0.0).await;
    logged(&cluster, true).await;
    cluster.finish().await;
}

// R: D3: without any price the operator sees that nobody watches, and entries are frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_price_leaves_the_stop_unarmed_and_freezes_entries() {
    let env = [
        ("BATON_FEED__ENABLED", "false"),
        ("BATON_FEED__LIVE_MAX_AGE_MS", "200"),
        ("BATON_FEED__STALE_MS", "500"),
        ("BATON_FEED__DEAD_MS", "1000"),
    ];
    let mut env: Vec<_> = env.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    env.push(("BATON_TRADING__AGE__NORMAL_S", "1".to_owned()));
    env.push(("BATON_TRADING__AGE__WARN_S", "1".to_owned()));
    env.push(("BATON_TRADING__AGE__REJECT_S", "3".to_owned()));
    let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    enter(&cluster).await;
    for verb in ["quotes", "multiquotes"] {
        let dead = json!({ "kind": "broker_error", "status": 500, "message": "no data", "placed": false });
        cluster.paper.fault(json!({ "fault": dead, "verb": verb })).await;
    }
    metric(&cluster, "baton_stops_unarmed", 1.0).await;
    wait::until("it is told", PATIENCE, async || {
        if lines(&cluster, "is not watched: it has no price, or a dead one").is_empty() {
            Err(cluster.logs())
        } else {
            Ok(())
        }
    })
    .await;
    let frozen = cluster.play(0, &base("frozen", "SILVER_MINI", 150_000)).await;
    let codes: Vec<&str> =
        frozen["reasons"].as_array().unwrap().iter().filter_map(|r| r["code"].as_str()).collect();
    assert!(codes.contains(&"NO_LIVE_PRICE"), "{frozen}");
    cluster.paper.heal().await;
    metric(&cluster, "baton_stops_unarmed", 0.0).await;
    price(&cluster, dec!(139000)).await;
    flat(&cluster).await;
    cluster.finish().await;
}

// R: N12: a leader that stops hands the watch over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handover_keeps_the_stop() {
    let mut cluster = Cluster::start().await;
    enter(&cluster).await;
    let old = cluster.leader().await;
    cluster.members[old].process.signal(Signal::TERM);
    cluster.leader_within(PATIENCE, |index| index != old).await;
    price(&cluster, dec!(139000)).await;
    flat(&cluster).await;
    cluster.members[old].process.exit(PATIENCE).await;
    cluster.members[old].restart().await;
    cluster.finish().await;
}
