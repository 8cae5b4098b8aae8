//! The life of a position, from a follower's webhook to flat.

use rust_decimal::{Decimal, dec};
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit, pyramid};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// Waits until a member shows what the base is worth at this price; a follower asks the leader.
async fn until_worth(cluster: &Cluster, member: usize, price: Decimal) {
    let points = price - dec!(140000);
    wait::until("the base is shown with its price", PATIENCE, async || {
        let seen = cluster.members[member].json("/api/v1/positions").await.unwrap_or_default();
        let base = &seen["positions"][0];
        let of = |name: &str| base[name].as_str().and_then(|text| text.parse::<Decimal>().ok());
        if of("current_price") != Some(price) {
            return Err(seen);
        }
        assert_eq!((&seen["prices"], &base["label"]), (&json!("watched"), &json!("Long_1")), "{seen}");
        assert!(base["price_source"].is_string() && base["price_age_seconds"].is_number(), "{seen}");
        // ₹10 a point on a lot of 100 units.
        let lots = Decimal::from(base["quantity"].as_i64().unwrap() / 100);
        assert_eq!(of("unrealised_pnl"), Some(points * lots * dec!(10)), "{seen}");
        Ok(())
    })
    .await;
}

async fn story(shape: &'static str) {
    let cluster = Cluster::with(Options { shape, ..Options::default() }).await;
    let follower = cluster.follower().await;
    let leader = cluster.leader().await;
    assert_ne!(follower, leader);

    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(follower, &base("one", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    assert_eq!(entered["received_by"], cluster.members[follower].name.as_str());
    assert_eq!(entered["orders"][0]["average_price"], "140000.00000000");

    // A repeat is the same signal, wherever it arrives.
    let repeat = cluster.post(leader, &base("one", GOLD, 140_000)).await;
    assert_eq!((repeat.status.as_u16(), repeat.id.as_str()), (200, entered["id"].as_str().unwrap()));

    // More than its risk ahead: a pyramid on it.
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(143000)).await;
    let added = cluster.play(leader, &pyramid("two", GOLD, "Long_2", 143_000)).await;
    assert_eq!(added["status"], "executed", "{added}");
    let held = cluster.members[follower].json("/api/v1/positions").await.unwrap();
    let labels: Vec<&str> =
        held["positions"].as_array().unwrap().iter().map(|p| p["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["Long_1", "Long_2"]);

    for member in [leader, follower] {
        until_worth(&cluster, member, dec!(143000)).await;
    }

    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(144000)).await;
    let out = cluster.play(follower, &exit("three", GOLD, "ALL", 144_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    assert_eq!(out["orders"].as_array().unwrap().len(), 2, "{out}");
    let held = cluster.members[follower].json("/api/v1/positions").await.unwrap();
    assert_eq!(held["positions"], json!([]));

    // Nothing is left to exit, and it says so.
    let again = cluster.play(leader, &exit("four", GOLD, "ALL", 144_000)).await;
    assert_eq!(again["status"], "refused", "{again}");
    assert!(again["reasons"][0]["sentence"].as_str().unwrap().len() > 10, "{again}");

    let check = cluster.finish().await;
    assert_eq!((check.signals, check.intents, check.orders, check.open_positions), (4, 4, 4, 0));
}

// R: H2, B2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_becomes_a_position_and_an_exit_closes_it() {
    story("live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_becomes_a_position_in_analyze_shape_too() {
    story("analyze").await;
}
