//! What the agent knows of the world outside: feed, broker session, names.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::names::{Double, Manner};
use crate::support::paper::KEY;
use crate::support::process::Launch;
use crate::support::stalls::Stalls;
use crate::support::wait;

async fn connections(cluster: &Cluster, member: usize) -> Value {
    cluster.members[member].json("/api/v1/monitoring/connection-health").await.unwrap_or_default()
}

async fn until(cluster: &Cluster, what: &str, holds: impl Fn(&Value) -> bool) {
    wait::until(what, PATIENCE, async || {
        for member in 0..cluster.members.len() {
            let seen = connections(cluster, member).await;
            if !holds(&seen) {
                return Err(seen);
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until the alert that prices come from nowhere is open, or over.
async fn until_told(cluster: &Cluster, open: bool) {
    wait::until(&format!("NO_PRICES is open: {open}"), PATIENCE, async || {
        let seen = cluster.members[0].json("/api/v1/errors").await.unwrap_or_default();
        if seen.to_string().contains("NO_PRICES") == open { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// Has a member find the bridge by a name that only the test's server knows.
fn by_name(launch: &mut Launch) {
    for name in ["BATON_BROKER__URL", "BATON_FEED__URL"] {
        let url = launch.env[name].replace("127.0.0.1", "bridge.baton.test");
        launch.env.insert(name.to_owned(), url);
    }
}

fn session(seen: &Value) -> &str {
    seen["broker"]["session"].as_str().unwrap_or_default()
}

// R: B5, D5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_shown_stops_entries_and_ends_by_itself() {
    let options = Options { members: 2, ..Options::default() };
    let cluster = Cluster::with(options).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    until(&cluster, "all are connected and logged in", |seen| {
        seen["websocket"]["connected"] == true && session(seen) == "valid"
    })
    .await;
    let leader = cluster.leader().await;
    let health = cluster.members[leader].json("/api/v1/monitoring/health").await.unwrap();
    assert_eq!(health["status"], "healthy", "{health}");
    let status = cluster.members[leader].json("/api/v1/monitoring/status").await.unwrap();
    assert_eq!(
        (&status["open_trades"], &status["trades"], &status["leading"]),
        (&json!(0), &json!([]), &json!(true))
    );
    let first = cluster.play(0, &base("before", GOLD, 140_000)).await;
    assert_eq!(first["status"], "executed", "{first}");
    let status = cluster.members[leader].json("/api/v1/monitoring/status").await.unwrap();
    assert_eq!((&status["open_trades"], &status["trades"][0]["symbol"]), (&json!(1), &json!(GOLD_SYMBOL)));
    let closed = cluster.play(0, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(closed["status"], "executed", "{closed}");

    let orders = cluster.paper.arrivals().await.len();
    cluster.paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    until(&cluster, "the dead session is noticed", |seen| session(seen) == "expired").await;
    let health = cluster.members[leader].json("/api/v1/monitoring/health").await.unwrap();
    assert_eq!(health["checks"]["broker_session"]["ok"], false, "{health}");
    let entry = cluster.post(0, &base("during", GOLD, 140_000)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.paper.arrivals().await.len(), orders, "an entry left under a dead session");

    cluster.paper.heal().await;
    until(&cluster, "the session is back", |seen| session(seen) == "valid").await;
    let view = cluster.terminal(&entry.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    // The feed authenticated anew, by itself: the old socket would hear nothing for ever.
    until(&cluster, "a new socket", |seen| {
        seen["websocket"]["connected"] == true && seen["websocket"]["generation"].as_u64() > Some(1)
    })
    .await;
    cluster.finish().await;
}

// R: B5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_was_crossed_under_a_dead_session_fires_when_it_is_back() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster.paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    until(&cluster, "the dead session is noticed", |seen| session(seen) == "expired").await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(130000)).await;
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE status = 'open'").await, 1);
    cluster.paper.heal().await;
    wait::until("it is sold", PATIENCE, async || {
        let sold = "SELECT count(*) FROM position WHERE status = 'closed' AND exit_cause = 'stop_loss'";
        match cluster.count(sold).await {
            1 => Ok(()),
            other => Err((other, cluster.logs())),
        }
    })
    .await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: K6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_is_switched_to_the_other_mode_gets_no_entry_and_trading_goes_on_when_it_is_back() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let toggled = async |analyze: bool| {
        let body = json!({ "apikey": KEY, "mode": analyze });
        let url = format!("{}/api/v1/analyzer/toggle", cluster.paper.http);
        assert!(cluster.client.post(url).json(&body).send().await.unwrap().status().is_success());
    };
    let code = async |wanted: Option<&str>| {
        wait::until(&format!("the state's code is {wanted:?}"), PATIENCE, async || {
            let seen = cluster.members[leader].json("/api/v1/monitoring/health").await.unwrap_or_default();
            let state = &seen["operational"];
            if state["code"].as_str() == wanted && (wanted.is_some() || state["state"] == "ACTIVE") {
                Ok(())
            } else {
                Err((seen, cluster.logs()))
            }
        })
        .await;
    };
    code(None).await;
    toggled(true).await;
    code(Some("WRONG_MODE")).await;
    let entry = cluster.post(leader, &base("during", GOLD, 140_000)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.paper.arrivals().await.len(), 0, "an entry left for the other mode");
    toggled(false).await;
    let view = cluster.terminal(&entry.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    code(None).await;
    cluster.finish().await;
}

// R: D1. The system knows nothing of the name; then nobody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_find_their_way_by_the_configured_server_and_then_by_the_last_good_address() {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let names = Double::start(Manner::Answers(loopback, 1)).await;
    let server = names.address.to_string();
    let options = Options {
        members: 1,
        env: vec![("BATON_DNS__SERVERS", server), ("BATON_DNS__NEGATIVE_TTL_MS", "100".to_owned())],
        ..Options::default()
    };
    let cluster = Cluster::wired(options, async |launch| by_name(launch)).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    until(&cluster, "the name is known and the feed connected", |seen| {
        seen["websocket"]["connected"] == true && seen["dns"]["names"][0]["resolved_by"] == "server"
    })
    .await;
    let entry = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entry["status"], "executed", "{entry}");

    names.now(Manner::Hangs);
    until(&cluster, "the outage is noticed", |seen| seen["dns"]["names"][0]["is_stale"] == true).await;
    let out = cluster.play(0, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    let used = cluster.members[0].metric("baton_dns_lookups_total{via=\"last_good\"}").await;
    assert!(used > Some(0.0), "{used:?}");
    cluster.members[0].says("[DNS] no resolver gives an address of bridge.baton.test").await;
    cluster.finish().await;
}

// R: D3. The incident of the 21.77 %: no name is resolved, no tick comes, and the price falls through the stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_fires_while_names_and_feed_are_dead() {
    let names = Double::start(Manner::Answers(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)).await;
    let options = Options {
        members: 1,
        env: vec![
            ("BATON_DNS__SERVERS", names.address.to_string()),
            ("BATON_DNS__NEGATIVE_TTL_MS", "100".to_owned()),
        ],
        ..Options::default()
    };
    let cluster = Cluster::wired(options, async |launch| by_name(launch)).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entry = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entry["status"], "executed", "{entry}");
    let source = |seen: &Value| {
        seen["price_cache"]["cache_entries"][format!("MCX:{GOLD_SYMBOL}")]["source"]
            .as_str()
            .map(str::to_owned)
    };
    until(&cluster, "the position's price is live", |seen| source(seen).as_deref() == Some("live")).await;

    names.now(Manner::Hangs);
    cluster.paper.fault(json!({ "fault": { "kind": "tick_silence" } })).await;
    cluster.paper.post("ws/drop", json!({})).await;
    until(&cluster, "nothing but REST is left", |seen| {
        source(seen).as_deref() == Some("rest") && seen["dns"]["names"][0]["is_stale"] == true
    })
    .await;
    // With REST dead too, somebody is told, and nothing is entered; the bridge's other routes still answer.
    let stalls = Stalls::watch();
    let before = cluster.paper.arrivals().await.len();
    let rules: Vec<Value> = ["multiquotes", "quotes"]
        .map(|verb| json!({ "fault": { "kind": "bad_gateway" }, "verb": verb }))
        .to_vec();
    let rules = cluster.paper.post("faults", json!(rules)).await["ids"].clone();
    let begun = stalls.begin();
    let frozen = cluster.post(0, &base("frozen", SILVER, 155_000)).await;
    wait::until("the critical alert leaves", PATIENCE, async || {
        let log = cluster.members[0].log();
        // It may be told beside others, over several lines.
        let mut told = log.split("[NOTIFICATION]").skip(1);
        if told.any(|told| told.contains("CRITICAL") && told.contains("NO_PRICES")) {
            Ok(())
        } else {
            let lines =
                log.lines().filter(|line| line.contains("[NOTIFICATION]") || line.contains("[FALLBACK]"));
            Err(lines.map(str::to_owned).collect::<Vec<_>>())
        }
    })
    .await;
    let took = begun.took();
    println!("from the last price to the critical alert: {took:.2?}");
    assert!(took < Duration::from_secs(5), "{took:?}\n{:?}", cluster.logs());
    until_told(&cluster, true).await;
    assert_eq!(cluster.paper.arrivals().await.len(), before, "an entry left without a price");
    for rule in rules.as_array().unwrap() {
        let url = format!("{}/_ctl/faults/{rule}", cluster.paper.control);
        cluster.client.delete(url).send().await.unwrap().error_for_status().unwrap();
    }
    until_told(&cluster, false).await;
    let view = cluster.terminal(&frozen.id).await;
    assert_eq!(view["status"], "executed", "{view}");

    let before = cluster.paper.arrivals().await.len();
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(109522)).await;
    let begun = stalls.begin();
    wait::until("the exit reaches the bridge", PATIENCE, async || {
        if cluster.paper.arrivals().await.len() > before { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let took = begun.took();
    println!("from the fall by 21.77 % to the exit at the bridge, by REST alone: {took:.2?}");
    assert!(took < Duration::from_secs(2), "{took:?}\n{:?}", cluster.logs());
    wait::until("nothing of it is held", PATIENCE, async || {
        let held = "SELECT count(*) FROM position WHERE status <> 'closed' AND instrument = 'GOLD_MINI'";
        let held = cluster.count(held).await;
        if held == 0 { Ok(()) } else { Err((held, cluster.logs())) }
    })
    .await;
    for line in ["[FALLBACK] no live price", "[DNS] no resolver", "[SL] GOLDM05DEC25FUT: Price 109522 <= SL"]
    {
        cluster.members[0].says(line).await;
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (3, 1));
}
