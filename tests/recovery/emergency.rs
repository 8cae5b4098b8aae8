//! An operator's emergency close while PostgreSQL is gone: only then, once, and told to the ledger afterwards (rule 16).

use std::process::Output;

use rust_decimal::{Decimal, dec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::drift::held;
use crate::seeded::answer;
use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE, independent, run_as};
use crate::support::paper;
use crate::support::process::Launch;
use crate::support::{database, wait};

/// Two members that hold gold; their journal is in the folder that they share with the command line.
async fn holding() -> Cluster {
    let cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    price(&cluster, dec!(140000)).await;
    let entered = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    cluster
}

async fn price(cluster: &Cluster, price: Decimal) {
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", price).await;
}

async fn outage(cluster: &mut Cluster) {
    cluster.stores.postgres().stop().await.unwrap();
    wait::until("nobody holds the lease", PATIENCE, async || {
        for member in &cluster.members {
            let Some((_, text)) = member.get("/leader").await else { return Err("no answer".to_owned()) };
            let seen: Value = serde_json::from_str(&text).unwrap_or_default();
            if seen["role"] == "leader" {
                return Err(text);
            }
        }
        Ok(())
    })
    .await;
}

const CLOSE: [&str; 8] =
    ["emergency-close", GOLD_SYMBOL, "--reason", "drill", "--operator", "asha", "--yes", "-o"];

fn arguments() -> Vec<&'static str> {
    CLOSE.into_iter().chain(["json"]).collect()
}

/// Closes as soon as the lease of the former leader has expired.
async fn close_at(launch: &Launch) -> Output {
    wait::until("the last lease expires", PATIENCE, async || {
        let output = run_as(launch, &arguments()).await;
        let said = text(&output);
        if said.contains("holds the leader's lease") { Err(said) } else { Ok(output) }
    })
    .await
}

async fn close(cluster: &Cluster) -> Output {
    close_at(&cluster.members[0].launch).await
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

async fn units(cluster: &Cluster, side: &str) -> i64 {
    let orders = cluster.paper.orders().await;
    orders.iter().filter(|order| order.side == side).map(|order| order.filled_quantity).sum()
}

/// The database comes back.
async fn back(mut cluster: Cluster) -> Cluster {
    cluster.stores.postgres().start().await.unwrap();
    cluster.sql = database::connect(&cluster.stores.database_url()).await;
    cluster
}

/// A leader is there, the emergency order is in the ledger, and its position closed.
async fn imported(cluster: &Cluster) {
    wait::until("the emergency order is in the ledger", PATIENCE, async || {
        let open = held(cluster).await;
        let orders = cluster.count("SELECT count(*) FROM order_intent WHERE custody").await;
        if (open, orders) == (0, 1) { Ok(()) } else { Err((open, orders, cluster.logs())) }
    })
    .await;
    cluster.leader().await;
    let told = "SELECT actor, payload::jsonb -> 'proposals' -> 'order' ->> 'reason' FROM audit_log WHERE kind = 'emergency'";
    let row = cluster.sql.query_one(told, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("asha", "drill"));
    let check = cluster.baton(&["recover", "--check"]).await;
    assert!(check.status.success(), "{}", text(&check));
    let audit = cluster.baton(&["audit", "verify"]).await;
    assert!(audit.status.success(), "{}", text(&audit));
}

// R: C5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_holds_is_sold_once_and_in_the_ledger_when_it_is_back() {
    let mut cluster = holding().await;
    let bought = units(&cluster, "BUY").await;
    outage(&mut cluster).await;
    let output = close(&cluster).await;
    assert!(output.status.success(), "{}", text(&output));
    let sold = answer(&output);
    assert_eq!((&sold["sold"], &sold["held"]), (&json!(bought), &json!(bought)), "{sold}");
    assert_eq!(units(&cluster, "SELL").await, bought);
    // Run twice.
    let again = close(&cluster).await;
    assert!(!again.status.success() && text(&again).contains("nothing of"), "{}", text(&again));

    let cluster = back(cluster).await;
    imported(&cluster).await;
    assert_eq!(units(&cluster, "SELL").await, bought, "nobody sold it again");
    // And they trade on.
    let entered = cluster.play(0, &base("again", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}\n{:?}", cluster.logs());
    let out = cluster.play(0, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
}

// R: C5, B8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_held_is_sold_in_slices_and_what_stops_one_contract_stops_no_other() {
    let mut cluster = Cluster::with(Options { members: 2, env: independent(), ..Options::default() }).await;
    for (symbol, instrument, at) in [(GOLD_SYMBOL, GOLD, 140_000), (SILVER_SYMBOL, SILVER, 150_000)] {
        cluster.paper.set_price(symbol, "MCX", Decimal::from(at)).await;
        let entered = cluster.play(0, &base(&format!("in-{instrument}"), instrument, at)).await;
        assert_eq!(entered["status"], "executed", "{entered}");
    }
    let intraday = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": GOLD_SYMBOL, "exchange": "MCX", "action": "BUY",
        "product": "MIS", "pricetype": "MARKET", "quantity": 100, "price": 0, "trigger_price": 0,
    });
    let bought = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&intraday);
    assert!(bought.send().await.unwrap().status().is_success());
    // And a bid of somebody's rests: what it bought after the close, nobody would watch.
    let resting = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": GOLD_SYMBOL, "exchange": "MCX", "action": "BUY",
        "product": "NRML", "pricetype": "LIMIT", "quantity": 100, "price": 100000, "trigger_price": 0,
    });
    let rests = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&resting);
    let rests: Value = rests.send().await.unwrap().json().await.unwrap();
    let held_units = cluster.count("SELECT sum(quantity)::bigint FROM position").await;
    outage(&mut cluster).await;

    let mut launch = cluster.members[0].launch.clone();
    launch.env.insert("BATON_INSTRUMENTS__GOLD_MINI__FREEZE_QUANTITY".to_owned(), "1500".to_owned());
    let all = ["emergency-close", "--all", "--reason", "drill", "--operator", "asha", "--yes", "-o", "json"];
    let refusal =
        json!({ "fault": { "kind": "risk_refusal" }, "verb": "placeorder", "symbol": SILVER_SYMBOL });
    // For as long as it takes: the lease may expire between the looks for one contract and for the next.
    cluster.paper.fault(refusal).await;
    let output = wait::until("the last lease expires", PATIENCE, async || {
        let output = run_as(&launch, &all).await;
        if text(&output).contains("holds the leader's lease") { Err(text(&output)) } else { Ok(output) }
    })
    .await;
    assert!(!output.status.success(), "silver is held: {}", text(&output));
    let told = answer(&output);
    let sold = |index: usize| told["contracts"][index]["orders"].as_array().unwrap().len();
    assert_eq!((sold(0), sold(1)), (2, 1), "{told}");
    assert_eq!((&told["contracts"][0]["sold"], &told["contracts"][1]["sold"]), (&json!(2800), &json!(0)));
    assert_eq!(told["foreign"][0]["held"], json!(100), "{told}");

    cluster.paper.heal().await;
    let output = run_as(&launch, &all).await;
    assert!(!output.status.success(), "a bid rests: {}", text(&output));
    assert_eq!(answer(&output)["buying"][0]["order_id"], rests["orderid"], "{}", text(&output));
    assert_eq!(units(&cluster, "SELL").await, held_units);
    let cancel = json!({ "apikey": paper::KEY, "strategy": "by hand", "orderid": rests["orderid"] });
    let cancelled = cluster.client.post(format!("{}/api/v1/cancelorder", cluster.paper.http)).json(&cancel);
    assert!(cancelled.send().await.unwrap().status().is_success());
    let output = run_as(&launch, &all).await;
    assert!(output.status.success() && answer(&output)["contracts"] == json!([]), "{}", text(&output));

    let cluster = back(cluster).await;
    wait::until("what was sold is in the ledger", PATIENCE, async || match held(&cluster).await {
        0 => Ok(()),
        open => Err((open, cluster.logs())),
    })
    .await;
    cluster.leader().await;
    let check = cluster.baton(&["recover", "--check"]).await;
    assert!(check.status.success(), "{}", text(&check));
    assert_eq!(units(&cluster, "SELL").await, held_units, "nobody sold it again");
}

// R: C5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_somebody_may_trade_it_is_refused_whatever_this_host_sees() {
    let mut cluster = holding().await;
    let arrivals = cluster.paper.arrivals().await.len();
    let output = run_as(&cluster.members[0].launch, &arguments()).await;
    assert!(
        !output.status.success() && text(&output).contains("holds the leader's lease"),
        "{}",
        text(&output)
    );

    // Only this host is cut from the database: the lease tells, and where Redis lost that, the instances do.
    let mut cut = cluster.members[0].launch.clone();
    cut.env.insert("BATON_POSTGRES__URL".to_owned(), "postgres://baton@127.0.0.1:1/baton".to_owned());
    let output = run_as(&cut, &arguments()).await;
    assert!(
        !output.status.success() && text(&output).contains("holds the leader's lease"),
        "{}",
        text(&output)
    );

    // Nobody leads, but an instance does not say so.
    outage(&mut cluster).await;
    cluster.members[1].process.signal(Signal::STOP);
    // However late the command looks: the entry does not lapse before.
    let client = redis::Client::open(cluster.stores.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let kept: bool =
        redis::cmd("PERSIST").arg("baton:test:instance:b2").query_async(&mut connection).await.unwrap();
    assert!(kept, "b2 is registered");
    let output = close(&cluster).await;
    cluster.members[1].process.signal(Signal::CONT);
    assert!(!output.status.success() && text(&output).contains("b2 is registered at"), "{}", text(&output));

    // A book that cannot be verified, a confirmation that was not given.
    for verb in ["funds", "positionbook", "orderbook"] {
        cluster
            .paper
            .fault(json!({ "fault": { "kind": "broker_error", "status": 500 }, "verb": verb }))
            .await;
        let output = close(&cluster).await;
        assert!(
            !output.status.success() && text(&output).contains("could not be verified"),
            "{}",
            text(&output)
        );
        cluster.paper.heal().await;
    }
    let unasked: Vec<&str> = arguments().into_iter().filter(|argument| *argument != "--yes").collect();
    let output = run_as(&cluster.members[0].launch, &unasked).await;
    assert!(!output.status.success() && text(&output).contains("add --yes"), "{}", text(&output));
    assert_eq!(cluster.paper.arrivals().await.len(), arrivals, "nothing left");
}

// R: C5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hosts_at_once_one_sells() {
    let mut cluster = holding().await;
    let bought = units(&cluster, "BUY").await;
    outage(&mut cluster).await;
    let mut other = cluster.members[1].launch.clone();
    other.env.insert("BATON_EMERGENCY__JOURNAL".to_owned(), "other.jsonl".to_owned());
    let (one, two) = tokio::join!(close(&cluster), close_at(&other));
    assert!(one.status.success() != two.status.success(), "{}\n{}", text(&one), text(&two));
    let refused = if one.status.success() { text(&two) } else { text(&one) };
    assert!(refused.contains("is being closed already"), "{refused}");
    assert_eq!(units(&cluster, "SELL").await, bought);
}

// R: C5, S14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_dies_before_or_after_its_order_left_sells_once() {
    for place in ["emergency_after_journal", "emergency_after_reply"] {
        let mut cluster = holding().await;
        let bought = units(&cluster, "BUY").await;
        outage(&mut cluster).await;
        cluster.arm(place, "kill");
        let died = close(&cluster).await;
        assert!(died.status.code().is_none() && !cluster.is_armed(), "{place}: {}", text(&died));
        let left = if place == "emergency_after_reply" { bought } else { 0 };
        assert_eq!(units(&cluster, "SELL").await, left, "{place}");
        // Another host cannot know, and is kept away.
        let mut other = cluster.members[1].launch.clone();
        other.env.insert("BATON_EMERGENCY__JOURNAL".to_owned(), "other.jsonl".to_owned());
        let output = close_at(&other).await;
        let kept_away =
            ["is being closed already", "nothing of"].iter().any(|why| text(&output).contains(why));
        assert!(!output.status.success() && kept_away, "{place}: {}", text(&output));
        // This one finds out first.
        let output = close(&cluster).await;
        assert_eq!(units(&cluster, "SELL").await, bought, "{place}: {}", text(&output));
        assert_eq!(output.status.success(), left == 0, "{place}: {}", text(&output));
    }
}

// R: C5, S6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_without_an_answer_is_found_in_the_books_and_never_sent_again() {
    for (name, kind) in [("taken", "lost_ack_after"), ("never arrived", "lost_ack_before")] {
        let mut cluster = holding().await;
        let bought = units(&cluster, "BUY").await;
        outage(&mut cluster).await;
        let arrivals = cluster.paper.arrivals().await.len();
        cluster.paper.fault(json!({ "fault": { "kind": kind }, "verb": "placeorder", "count": 1 })).await;
        let output = close(&cluster).await;
        let sold = if name == "taken" { bought } else { 0 };
        assert_eq!(answer(&output)["sold"], json!(sold), "{name}: {}", text(&output));
        assert_eq!(units(&cluster, "SELL").await, sold, "{name}");
        assert_eq!(cluster.paper.arrivals().await.len(), arrivals + 1, "{name}: sent once");
    }
}

// R: C5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_comes_back_leaves_a_marked_symbol_alone() {
    let mut cluster = holding().await;
    let bought = units(&cluster, "BUY").await;
    outage(&mut cluster).await;
    // The order works at the broker, whose position book shows all of it still held.
    cluster.paper.post("fills", json!({ "hold": true })).await;
    cluster.arm("emergency_after_reply", "kill");
    let died = close(&cluster).await;
    assert!(died.status.code().is_none(), "{}", text(&died));
    // Somebody leads again, and the stop is hit.
    price(&cluster, dec!(100000)).await;
    let cluster = back(cluster).await;
    wait::until("the leader leaves the symbol alone", PATIENCE, async || {
        let logs = cluster.members.iter().map(|m| m.log());
        let says = "an operator closes it without the ledger";
        if logs.into_iter().any(|log| log.contains(says)) { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let sales =
        |orders: &[crate::support::paper::PaperOrder]| orders.iter().filter(|o| o.side == "SELL").count();
    assert_eq!(sales(&cluster.paper.orders().await), 1);
    cluster.paper.post("fills", json!({ "hold": false })).await;
    imported(&cluster).await;
    assert_eq!(sales(&cluster.paper.orders().await), 1, "nobody sold it again");
    assert_eq!(units(&cluster, "SELL").await, bought);
}
