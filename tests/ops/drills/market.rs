//! Drills about the bridge, the broker behind it, and the market.

use chrono::{NaiveTime, TimeDelta};
use rust_decimal::dec;
use serde_json::json;

use super::{Pager, block, by_hand, done, equipped, hasty, prints, shown, told, typed, with_a_position};
use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Options, PATIENCE, independent};
use crate::support::wait;

// R: H6, B5
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_broker_down() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(hasty()).await;
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    cluster.paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    pager.hears("BrokerDown").await;
    let printed = prints(&cluster, leader, &block("broker-down"), "\"session\": \"expired\"").await;
    shown("broker-down", &printed);

    // Mitigation: somebody logs in to the broker.
    cluster.paper.heal().await;
    prints(&cluster, leader, &block("broker-down"), "\"session\": \"valid\"").await;
    cluster.leader().await;
    pager.rests("BrokerDown").await;
    cluster.finish().await;
}

// R: H6, D3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_feed_stale_and_stop_not_armed() {
    if !equipped() {
        return;
    }
    let mut options = hasty();
    options.env.extend(independent());
    let cluster = with_a_position(options).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let view = cluster.play(0, &base("too", SILVER, 150_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    cluster.paper.fault(json!({ "fault": { "kind": "stream_down" } })).await;
    cluster.paper.post("ws/drop", json!({})).await;
    for verb in ["quotes", "multiquotes"] {
        cluster.paper.fault(json!({ "fault": { "kind": "bad_gateway" }, "verb": verb })).await;
    }
    pager.hears("StopNotArmed").await;
    prints(&cluster, leader, &block("stop-not-armed"), "baton_stops_unarmed 2").await;
    let printed = done(&cluster, leader, &block("stop-not-armed")).await;
    shown("stop-not-armed", &printed);
    assert!(printed.contains(GOLD_SYMBOL), "it shows the positions to watch:\n{printed}");
    pager.hears("FeedStale").await;
    shown("feed-stale", &done(&cluster, leader, &block("feed-stale")).await);
    let watched = told(
        "last-instance",
        "psql \"$DATABASE_URL\" -c \"SELECT instrument, label, symbol, quantity, current_stop, status FROM position WHERE \
         status <> 'closed'\"",
    );
    assert!(done(&cluster, leader, watched).await.contains(SILVER_SYMBOL), "what to watch by hand");

    // Mitigation: what must go now is closed, though nobody knows its price.
    let close = told("stop-not-armed", "baton close SYMBOL").replace("SYMBOL", GOLD_SYMBOL);
    done(&cluster, leader, &format!("{close} --reason drill --yes")).await;
    let verify = told("stop-not-armed", "curl -s $A/metrics | grep baton_stops_unarmed");
    prints(&cluster, leader, verify, "baton_stops_unarmed 1").await;

    // And the bridge's feed is restarted; what is left is armed again by itself.
    cluster.paper.heal().await;
    prints(&cluster, leader, verify, "baton_stops_unarmed 0").await;
    pager.rests("StopNotArmed").await;
    pager.rests("FeedStale").await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (3, 1), "{check:?}");
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_position_drift() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(hasty()).await;
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    let held = cluster.count("SELECT sum(quantity)::bigint FROM position").await;
    by_hand(&cluster, GOLD_SYMBOL, "SELL", held).await;
    pager.hears("PositionDrift").await;
    let compared = prints(&cluster, leader, &block("position_drift"), "missing").await;
    shown("position_drift", &compared);

    // Mitigation: the sale is booked, after a look at what would be.
    let look = told("position_drift", "baton recover --repair");
    let proposed = typed(&cluster, leader, look).await;
    assert!(String::from_utf8_lossy(&proposed.stdout).contains(GOLD_SYMBOL), "{proposed:?}");
    let apply = told("position_drift", "--apply --reason TEXT --yes").replace("TEXT", "drill");
    done(&cluster, leader, &format!("{look} {apply}")).await;
    let leader = cluster.leader().await;
    let verify = told("position_drift", "curl -s $A/metrics | grep baton_position_drift");
    prints(&cluster, leader, verify, "baton_position_drift 0").await;
    wait::until("baton positions diff exits 0", PATIENCE, async || {
        let output = typed(&cluster, leader, told("position_drift", "baton positions diff")).await;
        if output.status.success() { Ok(()) } else { Err(output) }
    })
    .await;
    pager.rests("PositionDrift").await;

    // Surplus: somebody buys in the broker's terminal, and has Baton take it up.
    by_hand(&cluster, GOLD_SYMBOL, "BUY", held).await;
    pager.hears("PositionDrift").await;
    prints(&cluster, leader, &block("position_drift"), "surplus").await;
    let adopt = told("position_drift", "baton positions adopt NAME --lots N --price P --stop S")
        .replace("NAME", GOLD)
        .replace("lots N", &format!("lots {}", held / 100))
        .replace("price P", "price 140000")
        .replace("stop S", "stop 138600");
    assert!(done(&cluster, leader, &adopt).await.contains("it can be taken up"));
    done(&cluster, leader, &format!("{adopt} {apply}")).await;
    let leader = cluster.leader().await;
    prints(&cluster, leader, verify, "baton_position_drift 0").await;
    prints(&cluster, leader, "baton positions diff", "agree").await;
    pager.rests("PositionDrift").await;
    // It is Baton's from then on: its stop sells it.
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(138000)).await;
    prints(&cluster, leader, "curl -s $A/api/v1/positions | jq '.positions | length'", "0\n").await;
    cluster.all_ready().await;
}

// R: H6, K3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_square_off_late() {
    if !equipped() {
        return;
    }
    let minutes = |name, minutes: u32| (name, minutes.to_string());
    let env = vec![
        ("BATON_INSTRUMENTS__GOLD_MINI__PRODUCT", "MIS".to_owned()),
        minutes("BATON_TRADING__SQUARE_OFF__COMMODITY__ENTRIES_MIN", 11),
        minutes("BATON_TRADING__SQUARE_OFF__COMMODITY__EXIT_MIN", 10),
        minutes("BATON_TRADING__SQUARE_OFF__COMMODITY__BROKER_MIN", 0),
    ];
    let now = wait::time_in_india().await;
    let mut cluster = with_a_position(Options { members: 1, env, ..Options::default() }).await;
    // Everything is halted, and by the hours that the next leader reads the time to go is over: the broker is next.
    done(&cluster, 0, "baton halt --all --reason drill --yes").await;
    let hours = json!({ "hours": { "opens": NaiveTime::MIN, "closes": now + TimeDelta::minutes(4) } });
    cluster.paper.post("calendar", hours).await;
    cluster.members[0].process.kill().await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    let pager = Pager::beside(&cluster).await;
    pager.hears("SquareOffLate").await;
    let printed = prints(&cluster, 0, &block("square_off_late"), GOLD_SYMBOL).await;
    shown("square_off_late", &printed);
    prints(&cluster, 0, told("square_off_late", "baton switches"), "drill").await;

    // Mitigation: what holds it back is ended; the leader sells.
    done(&cluster, 0, "baton unhalt --reason drilled --yes").await;
    let verify = told("square_off_late", "curl -s $A/metrics | grep baton_square_off_late");
    prints(&cluster, 0, verify, "baton_square_off_late 0").await;
    pager.rests("SquareOffLate").await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: H6, D3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_exit_not_flat() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(hasty()).await;
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    let refuses =
        json!({ "kind": "broker_error", "status": 400, "message": "RMS: blocked", "placed": false });
    cluster.paper.fault(json!({ "fault": refuses, "verb": "placeorder" })).await;
    // The price falls through the stop.
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(139000)).await;
    pager.hears("ExitNotFlat").await;
    let printed = done(&cluster, leader, &block("exit-not-flat")).await;
    shown("exit-not-flat", &printed);
    assert!(printed.contains("RMS: blocked"), "it shows the broker's words:\n{printed}");
    prints(&cluster, leader, "baton errors", "EXIT_NOT_FLAT").await;

    // Mitigation: the broker's block is lifted; the next attempt follows by itself.
    cluster.paper.heal().await;
    let verify = told("exit-not-flat", "curl -s $A/metrics | grep baton_exits_not_flat");
    prints(&cluster, leader, verify, "baton_exits_not_flat 0").await;
    pager.rests("ExitNotFlat").await;
    let check = cluster.finish().await;
    assert_eq!(check.open_positions, 0);
}
