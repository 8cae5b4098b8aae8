//! Drills about the bridge: one cluster that holds a position, and one fault of the bridge after the other.

use std::net::{IpAddr, Ipv4Addr};

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{block, done, equipped, hasty, prints, told, typed, with_a_position};
use crate::signals::{SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::names::{Double, Manner};
use crate::support::{paper, wait};

/// A fault of the bridge, what shows it and what shows that it is over: each a section, its command, and what that prints.
struct Case {
    fault: &'static str,
    verb: Option<&'static str>,
    shows: &'static [(&'static str, &'static str, &'static str)],
    heals: &'static [(&'static str, &'static str, &'static str)],
}

const CONNECTIONS: &str =
    "curl -s $A/api/v1/monitoring/connection-health | jq '.websocket, .price_cache.source, .broker'";
const PRICES: &str =
    "curl -s $A/api/v1/monitoring/connection-health | jq '.price_cache.cache_entries, .dns, .broker'";
const PING: &str =
    "curl -s $BRIDGE/api/v1/ping -H 'content-type: application/json' -d '{\"apikey\":\"KEY\"}'";

const CASES: [Case; 3] = [
    Case {
        fault: "bad_gateway",
        verb: Some("any"),
        shows: &[
            ("bridge-unusable", PING, "html"),
            ("broker_unverified", "curl -s $A/healthz", "not usable"),
        ],
        heals: &[
            ("bridge-unusable", PING, "success"),
            ("broker_unverified", "baton positions diff", "ledger and broker agree"),
        ],
    },
    Case {
        fault: "stream_down",
        verb: None,
        shows: &[("feed-down", CONNECTIONS, "\"rest\"")],
        heals: &[("feed-down", CONNECTIONS, "\"live\"")],
    },
    Case {
        fault: "bad_gateway",
        verb: Some("multiquotes"),
        shows: &[("no_prices", PRICES, "\"cache\"")],
        heals: &[("no_prices", PRICES, "\"rest\"")],
    },
];

/// Types a command of a section until it prints this.
async fn says(cluster: &Cluster, leader: usize, (section, command, wanted): &(&str, &str, &str)) {
    prints(cluster, leader, &told(section, command).replace("KEY", paper::KEY), wanted).await;
}

// R: H6, D1, D3, K9
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_the_bridge() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(hasty()).await;
    let leader = cluster.leader().await;
    for Case { fault, verb, shows, heals } in &CASES {
        // Prices come from nowhere only where the feed is gone, too.
        if *verb == Some("multiquotes") {
            cluster.paper.fault(json!({ "fault": { "kind": "stream_down" } })).await;
            cluster.paper.fault(json!({ "fault": { "kind": fault }, "verb": "quotes" })).await;
        }
        cluster.paper.fault(json!({ "fault": { "kind": fault }, "verb": verb })).await;
        cluster.paper.post("ws/drop", json!({})).await;
        for shown in *shows {
            says(&cluster, leader, shown).await;
        }
        if *verb == Some("any") {
            is_unverified(&cluster, leader).await;
        }
        if *verb == Some("multiquotes") {
            cluster.members[leader].says("[FALLBACK] no live price and no REST quote").await;
            // REST alone answers first; then the feed is back, too.
            for rule in cluster.paper.get("faults").await["faults"].as_array().expect("a list") {
                if rule["rule"]["fault"]["kind"] == "bad_gateway" || rule["fault"]["kind"] == "bad_gateway" {
                    let url = format!("{}/_ctl/faults/{}", cluster.paper.control, rule["id"]);
                    cluster.client.delete(url).send().await.unwrap().error_for_status().unwrap();
                }
            }
        } else {
            cluster.paper.heal().await;
        }
        for healed in *heals {
            says(&cluster, leader, healed).await;
        }
        cluster.paper.heal().await;
        assert_eq!(cluster.leader().await, leader, "nothing moved");
    }
    for source in ["cache", "none"] {
        let sample = format!("baton_price_source{{source=\"{source}\"}} 0");
        prints(&cluster, leader, "curl -s $A/metrics", &sample).await;
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

/// Nothing is known of the positions, and the books are compared no more.
async fn is_unverified(cluster: &Cluster, leader: usize) {
    let compared =
        told("reconcile-stale", "curl -s $A/metrics | grep baton_reconcile_last_success_timestamp_seconds");
    let stands_at = done(cluster, leader, compared).await;
    let output = typed(cluster, leader, told("broker_unverified", "baton positions diff")).await;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("could not be verified"), "{said}");
    let (status, problem) = cluster.members[leader].get("/api/v1/positions/diff").await.unwrap();
    assert!(status == 503 && problem.contains("BROKER_UNVERIFIED"), "{status} {problem}");
    assert_eq!(done(cluster, leader, compared).await, stands_at, "no reading of the books succeeded");
    cluster.paper.heal().await;
    wait::until("the books are compared again", PATIENCE, async || {
        let now = done(cluster, leader, compared).await;
        if now == stands_at { Err(now) } else { Ok(()) }
    })
    .await;
}

/// A bridge whose book of orders cannot be read, so that what is in doubt stays so for as long as a drill looks.
fn doubtful() -> Options {
    let env = vec![("BATON_BROKER__SETTLE_MS", "20000".to_owned())];
    Options { env, ..Options::default() }
}

async fn is_in_doubt(cluster: &Cluster) {
    wait::until("an order is in doubt", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM order_intent WHERE state = 'in_doubt'").await {
            1 => Ok(()),
            other => Err((other, cluster.logs())),
        }
    })
    .await;
}

// R: H6, K2
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_wrong_mode() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::with(doubtful()).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let leader = cluster.leader().await;
    // Answered in the other mode, and in no book yet.
    for fault in [json!({ "kind": "wrong_mode" }), json!({ "kind": "hidden", "ms": 6000 })] {
        cluster.paper.fault(json!({ "fault": fault, "verb": "placeorder", "count": 1 })).await;
    }
    let accepted = cluster.post(0, &base("wrongly", SILVER, 150_000)).await;
    is_in_doubt(&cluster).await;
    let look = told(
        "wrong_mode",
        "curl -s \"$A/api/v1/orders?state=in_doubt\" | jq '.orders[] | {symbol, side, quantity, reason}'",
    );
    let printed = done(&cluster, leader, look).await;
    assert!(printed.contains(SILVER_SYMBOL) && printed.contains("mode"), "{printed}");
    let mode = told(
        "wrong_mode",
        "curl -s $BRIDGE/api/v1/analyzer -H 'content-type: application/json' -d '{\"apikey\":\"KEY\"}' | jq .data.mode",
    );
    let printed = done(&cluster, leader, &mode.replace("KEY", paper::KEY)).await;
    assert!(printed.contains("live"), "{printed}");
    let printed = done(&cluster, leader, told("wrong_mode", "curl -s $A/healthz | jq .mode")).await;
    assert!(printed.contains("live"), "{printed}");
    prints(&cluster, leader, "baton status", "WRONG_MODE").await;

    // Mitigation: the modes agree; found while trading, the leader is restarted cleanly.
    let pid = cluster.members[leader].process.id();
    done(&cluster, leader, &format!("kill -TERM {pid}")).await;
    cluster.members[leader].process.exit(PATIENCE).await;
    cluster.leader_within(PATIENCE, |index| index != leader).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let new = cluster.leader().await;
    assert_eq!(done(&cluster, new, look).await, "", "no order is in doubt any more");
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, C7
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_ambiguous_orders() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::with(doubtful()).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let leader = cluster.leader().await;
    let unread = json!({ "kind": "broker_error", "status": 500 });
    cluster.paper.fault(json!({ "fault": unread, "verb": "orderbook" })).await;
    cluster
        .paper
        .fault(json!({ "fault": { "kind": "lost_ack_after" }, "verb": "placeorder", "count": 1 }))
        .await;
    let accepted = cluster.post(0, &base("ours", SILVER, 150_000)).await;
    is_in_doubt(&cluster).await;
    let [ours] = cluster.paper.orders().await.try_into().expect("one order");
    // Somebody else sends an order of the same terms.
    let order = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": ours.symbol, "exchange": "MCX", "action": ours.side,
        "product": "NRML", "pricetype": ours.price_type, "quantity": ours.quantity, "price": 0, "trigger_price": 0,
    });
    let placed = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&order);
    let answer: Value = placed.send().await.unwrap().json().await.unwrap();
    let theirs = answer["orderid"].as_str().expect("it was placed").to_owned();
    cluster.paper.heal().await;
    let leader = if cluster.members[leader].trades().await { leader } else { cluster.leader().await };
    cluster.members[leader].says("more orders at the broker than in-doubt intents: say which is ours").await;
    let listed = done(&cluster, leader, told("in-doubt-orders", "baton orders list --in-doubt")).await;
    assert!(listed.contains(SILVER_SYMBOL), "{listed}");
    let row =
        cluster.sql.query_one("SELECT id FROM order_intent WHERE state = 'in_doubt'", &[]).await.unwrap();
    let intent: uuid::Uuid = row.get(0);
    let log = cluster.members[leader].log();
    for id in [intent.to_string(), ours.orderid.clone(), theirs] {
        assert!(log.contains(&id), "the log line names {id}");
    }

    // Mitigation: the operator says which one is Baton's, of those that the bridge's own log shows.
    told("ambiguous-orders", "--as acknowledged --order-id");
    let word = format!(
        "baton orders resolve {intent} --as acknowledged --order-id {} --evidence 'seen in the terminal' --yes",
        ours.orderid
    );
    done(&cluster, leader, &word).await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(view["orders"][0]["broker_order_id"], ours.orderid, "{view}");
    let printed = done(&cluster, leader, &block("in-doubt-orders")).await;
    assert!(printed.contains("(0 rows)"), "none is in doubt any more:\n{printed}");
    assert_eq!(cluster.count("SELECT count(*) FROM fill").await, 1, "theirs is not booked");
}

// R: H6, D1
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_dns_failing() {
    if !equipped() {
        return;
    }
    let names = Double::start(Manner::Answers(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)).await;
    let env = vec![
        ("BATON_DNS__SERVERS", names.address.to_string()),
        ("BATON_DNS__NEGATIVE_TTL_MS", "100".to_owned()),
    ];
    let urls = ["BATON_BROKER__URL", "BATON_FEED__URL"];
    let mut addresses = Vec::new();
    let options = Options { members: 1, env, ..Options::default() };
    let mut cluster = Cluster::wired(options, async |launch| {
        for key in urls {
            let url = launch.env[key].clone();
            launch.env.insert(key.to_owned(), url.replace("127.0.0.1", "bridge.baton.test"));
            addresses.push(url);
        }
    })
    .await;
    names.now(Manner::Hangs);
    let look = told("dns-failing", "curl -s $A/api/v1/monitoring/connection-health | jq .dns");
    prints(&cluster, 0, look, "\"is_stale\": true").await;
    let printed = done(&cluster, 0, look).await;
    assert!(printed.contains("last_error") && printed.contains("resolved_by"), "{printed}");
    let asked =
        typed(&cluster, 0, &told("dns-failing", "getent hosts NAME").replace("NAME", "bridge.baton.test"))
            .await;
    assert!(!asked.status.success(), "{asked:?}");
    cluster.members[0].says("[DNS] no resolver gives an address of bridge.baton.test").await;

    // Mitigation, the one way: the resolver is mended.
    names.now(Manner::Answers(IpAddr::V4(Ipv4Addr::LOCALHOST), 1));
    prints(&cluster, 0, look, "\"is_stale\": false").await;
    // And the other: addresses in place of names, and a restart.
    names.now(Manner::Hangs);
    for (key, url) in urls.into_iter().zip(addresses) {
        cluster.members[0].launch.env.insert(key.to_owned(), url);
    }
    cluster.members[0].process.signal(Signal::TERM);
    cluster.members[0].process.exit(PATIENCE).await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.finish().await;
}
