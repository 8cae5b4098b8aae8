//! A dry run says what the leader would do, and does nothing.

use reqwest::StatusCode;
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::Cluster;
use crate::support::member::TOKEN;

async fn asked(cluster: &Cluster, member: usize, body: &Value) -> (StatusCode, Value) {
    let url = format!("{}/api/v1/signals/dry-run", cluster.members[member].address);
    let answer = cluster.client.post(url).bearer_auth(TOKEN).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// What a dry run answers.
async fn tried(cluster: &Cluster, member: usize, body: &Value) -> Value {
    let (status, answer) = asked(cluster, member, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

// R: B7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_what_the_leader_would_do_and_nothing_is_stored_or_sent() {
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let stored = "SELECT (SELECT count(*) FROM signal) + (SELECT count(*) FROM signal_rejection)
        + (SELECT count(*) FROM order_intent)";

    // A follower asks the leader; what comes of the real one is what was said.
    let entry = base("in", GOLD, 140_000);
    let would = tried(&cluster, follower, &entry).await;
    assert_eq!((&would["would"], &would["repeat_of"]), (&json!("order"), &Value::Null), "{would}");
    assert_eq!((&would["waits_for"], &would["held_by_switch"]), (&json!([]), &Value::Null), "{would}");
    let order = &would["orders"][0];
    assert_eq!((&order["side"], &order["symbol"]), (&json!("BUY"), &json!(GOLD_SYMBOL)), "{would}");
    assert!(!would["decision"]["projection"].is_null(), "gates are shown: {would}");
    assert_eq!(cluster.count(stored).await, 0);
    assert!(cluster.paper.orders().await.is_empty());

    let folder = cluster.folder().to_owned();
    std::fs::write(folder.join("baton.toml"), format!("[signals]\ntoken = {TOKEN:?}\n")).unwrap();
    std::fs::write(folder.join("alert.json"), entry.to_string()).unwrap();
    let (code, said) = cluster.members[leader].cli(&["signals", "dry-run", "alert.json"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap()["orders"][0]["quantity"],
        order["quantity"],
        "{said}"
    );

    let executed = cluster.play(follower, &entry).await;
    assert_eq!(executed["status"], "executed", "{executed}");
    let bought = "SELECT quantity FROM order_intent";
    assert_eq!(json!(cluster.count(bought).await), order["quantity"]);

    // Held now: the same again is a repeat, another one is refused, with every reason.
    let again = tried(&cluster, leader, &entry).await;
    assert_eq!(again["repeat_of"]["status"], "executed", "{again}");
    let (code, said) = cluster.members[leader].cli(&["signals", "dry-run", "alert.json"]);
    assert_eq!(code, Some(1), "{said}");
    let other = tried(&cluster, leader, &base("more", GOLD, 140_000)).await;
    assert_eq!(other["would"], "refuse", "{other}");
    let codes: Vec<&Value> =
        other["reasons"].as_array().unwrap().iter().map(|reason| &reason["code"]).collect();
    assert!(codes.contains(&&json!("BASE_ALREADY_OPEN")), "{other}");

    // A bar of another market moves no stop, and a dry run says the same.
    let out = exit("out", GOLD, "ALL", 140_000);
    let closes_at = |id: &str, close: i64| {
        let mut bar = base(id, GOLD, close);
        (bar["type"], bar["atr"], bar["supertrend"]) = ("MARKET_DATA".into(), 700.into(), 139_000.into());
        bar["bar_time"] = out["bar_time"].clone();
        bar
    };
    let stop = "SELECT current_stop::bigint FROM position";
    let before = cluster.count(stop).await;
    let wrong = closes_at("wrong", 1_400_000);
    let would = tried(&cluster, leader, &wrong).await;
    assert_eq!(
        (&would["would"], &would["reasons"][0]["code"]),
        (&json!("refuse"), &json!("BAR_DIVERGENCE")),
        "{would}"
    );
    let played = cluster.play(follower, &wrong).await;
    assert_eq!(
        (&played["status"], &played["reasons"][0]["code"]),
        (&json!("refused"), &json!("BAR_DIVERGENCE")),
        "{played}"
    );
    let counted = r#"baton_signals_total{outcome="rejected",type="MARKET_DATA"}"#;
    assert_eq!(cluster.members[leader].metric(counted).await, Some(1.0));
    let stored_then = cluster.count(stored).await;
    assert_eq!(cluster.count(stop).await, before);

    // A bar would raise the stop, an EXIT would sell it all; neither does.
    let bar = closes_at("bar", 141_000);
    let moved = tried(&cluster, leader, &bar).await;
    assert_eq!(moved["would"], "move_stops", "{moved}");
    assert_eq!(moved["stops"][0]["label"], "Long_1", "{moved}");
    let sold = tried(&cluster, leader, &out).await;
    assert_eq!((&sold["would"], &sold["orders"][0]["side"]), (&json!("order"), &json!("SELL")), "{sold}");
    assert_eq!(sold["orders"][0]["quantity"], order["quantity"], "{sold}");
    assert_eq!((cluster.count(stop).await, cluster.count(stored).await), (before, stored_then));

    // A switch that would hold it back is named.
    let halt = json!({ "switch": "halted", "on": true, "reason": "a look" });
    cluster.members[leader].command("/api/v1/switches", &halt).await.unwrap();
    assert_eq!(tried(&cluster, leader, &out).await["held_by_switch"], "trading is halted");

    // Bad input and strangers are told apart as by the webhook, and nothing of it is kept.
    let (status, problem) = asked(&cluster, leader, &json!({ "type": "BASE_ENTRY" })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    let url = format!("{}/api/v1/signals/dry-run", cluster.members[leader].address);
    let stranger = cluster.client.post(url).json(&out).send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(cluster.count(stored).await, stored_then);
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1));
}
