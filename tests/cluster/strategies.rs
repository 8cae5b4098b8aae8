//! Strategies through the built binary: one watches the market over a failover, each is switched by name.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// A strategy on gold with bars of a second, and stops far away.
fn watching() -> Vec<(&'static str, String)> {
    [
        ("BATON_STRATEGIES__VWAP__KIND", "session_vwap"),
        ("BATON_STRATEGIES__VWAP__INSTRUMENT", GOLD),
        ("BATON_STRATEGIES__VWAP__BAR_S", "1"),
        ("BATON_STRATEGIES__VWAP__BAND_PERCENT", "0.1"),
        ("BATON_STRATEGIES__VWAP__STOP_PERCENT", "5"),
        ("BATON_STRATEGIES__VWAP__ATR_BARS", "2"),
        ("BATON_STRATEGIES__VWAP__FLAT_BEFORE_CLOSE_S", "1"),
        ("BATON_TRADING__INITIAL_STOP", "signal"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

async fn shown(cluster: &Cluster, member: usize, name: &str) -> Value {
    let all = cluster.members[member].json("/api/v1/strategies").await.unwrap();
    let all = all["strategies"].as_array().unwrap().clone();
    all.into_iter().find(|strategy| strategy["name"] == name).unwrap()
}

fn say(cluster: &Cluster, member: usize, verb: &str, name: &str) {
    let arguments = ["strategies", verb, name, "--reason", "a test", "--yes"];
    let (code, said) = cluster.members[member].cli(&arguments);
    assert_eq!(code, Some(0), "{said}");
}

/// Waits until the strategy has so many positions, of which so many are closed, and all of its signals are decided.
async fn positions(cluster: &Cluster, all: i64, closed: i64) {
    let sql = "SELECT format('%s %s %s', (SELECT count(*) FROM position WHERE strategy = 'vwap'),
        (SELECT count(*) FROM position WHERE strategy = 'vwap' AND status = 'closed'),
        (SELECT count(*) FROM signal WHERE strategy = 'vwap' AND status IN ('pending', 'working')))";
    wait::until(&format!("{all} positions, {closed} closed"), PATIENCE, async || {
        let found: String = cluster.sql.query_one(sql, &[]).await.unwrap().get(0);
        if found == format!("{all} {closed} 0") { Ok(()) } else { Err((found, cluster.logs())) }
    })
    .await;
}

/// Waits until whoever leads knows the session's VWAP, and gives its last bar.
async fn watches(cluster: &Cluster) -> DateTime<Utc> {
    wait::until("the leader knows the session's VWAP", PATIENCE, async || {
        for member in &cluster.members {
            let all = member.json("/api/v1/strategies").await.unwrap_or_default();
            let outlooks =
                all["strategies"].as_array().into_iter().flatten().map(|strategy| &strategy["outlook"]);
            let known = |outlook: &&Value| outlook["vwap"].is_string();
            if let Some(bar) = outlooks.filter(known).find_map(|outlook| outlook["bar_time"].as_str()) {
                return Ok(bar.parse().unwrap());
            }
        }
        Err(cluster.logs())
    })
    .await
}

// R: K8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_that_watches_trades_over_a_kill_of_its_leader_and_doubles_nothing() {
    let mut cluster = Cluster::with(Options { env: watching(), ..Options::default() }).await;
    let gold = async |cluster: &Cluster, price| cluster.paper.set_price(GOLD_SYMBOL, "MCX", price).await;
    gold(&cluster, dec!(140000)).await;
    cluster.paper.post("market", json!({ "moving": true })).await;
    watches(&cluster).await;

    // Nobody enabled it: whatever the market does, it enters nothing.
    let follower = cluster.follower().await;
    assert_eq!(shown(&cluster, follower, "vwap").await["enabled"], false);
    say(&cluster, follower, "enable", "vwap");
    gold(&cluster, dec!(141000)).await;
    positions(&cluster, 1, 0).await;

    // The next leader reads the history, and goes on with the position that the former one entered.
    let (_, leader, _) = cluster.kill_leader().await;
    watches(&cluster).await;
    gold(&cluster, dec!(139500)).await;
    positions(&cluster, 1, 1).await;
    gold(&cluster, dec!(142500)).await;
    positions(&cluster, 2, 1).await;

    // Disabled, it leaves as ever, and enters no more.
    say(&cluster, leader, "disable", "vwap");
    gold(&cluster, dec!(139000)).await;
    positions(&cluster, 2, 2).await;
    gold(&cluster, dec!(144000)).await;
    let since = watches(&cluster).await;
    wait::until("three more bars", PATIENCE, async || {
        let bar = watches(&cluster).await;
        if bar >= since + TimeDelta::seconds(3) { Ok(()) } else { Err(bar) }
    })
    .await;
    positions(&cluster, 2, 2).await;

    let doubled = "SELECT count(*) - count(DISTINCT (type, payload ->> 'bar_time')) FROM signal WHERE strategy = 'vwap'";
    assert_eq!(cluster.count(doubled).await, 0);
    let entered =
        "SELECT count(*) FROM signal WHERE strategy = 'vwap' AND type = 'BASE_ENTRY' AND status = 'executed'";
    assert_eq!(cluster.count(entered).await, 2, "one an entry");
    let counter = r#"baton_strategy_signals_total{strategy="vwap",type="BASE_ENTRY"}"#;
    let mut counted = 0.0;
    for member in &cluster.members {
        counted += member.metric(counter).await.unwrap_or_default();
    }
    assert!(counted >= 1.0, "whoever stored the second entry counted it");
    let enabled = cluster.members[leader].metric(r#"baton_strategy_enabled{strategy="vwap"}"#).await;
    assert_eq!(enabled, Some(0.0));
    cluster.finish().await;
}

// R: K8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_strategy_enters_nothing_and_its_exits_act() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let follower = cluster.follower().await;
    say(&cluster, follower, "disable", "default");
    cluster.kill_leader().await;
    let refused = cluster.play(follower, &base("refused", SILVER, 155_000)).await;
    let codes: Vec<_> = refused["reasons"].as_array().unwrap().iter().map(|reason| &reason["code"]).collect();
    assert!(codes.contains(&&json!("STRATEGY_DISABLED")), "{refused}");
    let sold = cluster.play(follower, &exit("sold", GOLD, "ALL", 140_000)).await;
    assert_eq!(sold["status"], "executed", "{sold}");
    let default = shown(&cluster, follower, "default").await;
    assert_eq!(
        (&default["enabled"], &default["who"], &default["why"]),
        (&json!(false), &json!("asha"), &json!("a test"))
    );
    assert_eq!((&default["signals_today"], &default["last_signal"]["type"]), (&json!(3), &json!("EXIT")));
    // In force at once, both ways.
    say(&cluster, follower, "enable", "default");
    let again = cluster.play(follower, &base("again", SILVER, 155_000)).await;
    assert_eq!(again["status"], "executed", "{again}");
    let gone = json!({ "enabled": false, "reason": "x" });
    for (name, body, expected) in [("nobody", gone, 404), ("default", json!({ "enabled": true }), 400)] {
        let path = format!("/api/v1/strategies/{name}");
        let (status, answer) = cluster.members[follower].command(&path, &body).await.unwrap();
        assert_eq!(status, expected, "{answer}");
    }
    cluster.revive().await;
    cluster.finish().await;
}
