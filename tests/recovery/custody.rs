//! A custodian: leads while stored state is damaged, and lets nothing leave but an operator's closes, sized by the
//! broker's verified book, and the stops of positions that agree with it (HA.md rule 14).

use std::time::{Duration, Instant};

use rust_decimal::{Decimal, dec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::drift::{by_hand, held};
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{database, wait};

const COPPER: &str = "COPPER";
const COPPER_SYMBOL: &str = "COPPER31DEC25FUT";
const APPLY: [&str; 8] =
    ["recover", "--repair", "--apply", "--reason", "drill", "--operator", "asha", "--yes"];

fn quick() -> Vec<(&'static str, String)> {
    [("BATON_RECOVERY__RECONCILE_MS", "300"), ("BATON_RECOVERY__DRIFT_SETTLE_MS", "300")]
        .map(|(key, value)| (key, value.to_owned()))
        .to_vec()
}

/// Three members that hold gold and copper.
async fn holding() -> Cluster {
    let cluster = Cluster::with(Options { env: quick(), ..Options::default() }).await;
    price(&cluster, GOLD_SYMBOL, dec!(140000)).await;
    price(&cluster, COPPER_SYMBOL, dec!(1000)).await;
    for (name, level) in [(GOLD, 140_000), (COPPER, 1000)] {
        let entered = cluster.play(0, &base(&format!("in-{name}"), name, level)).await;
        assert_eq!(entered["status"], "executed", "{entered}");
    }
    cluster
}

async fn price(cluster: &Cluster, symbol: &str, price: Decimal) {
    cluster.paper.set_price(symbol, "MCX", price).await;
}

async fn damage(cluster: &Cluster, sql: &str) {
    cluster.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The member that leads, once it does as custodian.
async fn custodian(cluster: &Cluster, code: &str) -> usize {
    wait::until("a member leads as custodian", PATIENCE, async || {
        for (index, member) in cluster.members.iter().enumerate() {
            let Some((_, text)) = member.get("/leader").await else { continue };
            let seen: Value = serde_json::from_str(&text).unwrap_or_default();
            let now = &seen["operational"];
            let says = now["reason"].as_str().is_some_and(|reason| reason.contains("leads as custodian"));
            if seen["role"] == "leader" && now["state"] == "ERROR" && now["code"] == code && says {
                return Ok(index);
            }
        }
        Err(cluster.logs())
    })
    .await
}

/// Units of a symbol that were sold at the broker, whoever sold them.
async fn sold(cluster: &Cluster, symbol: &str) -> i64 {
    let orders = cluster.paper.orders().await;
    let sales = orders.iter().filter(|order| order.side == "SELL" && order.symbol == symbol);
    sales.map(|order| order.filled_quantity).sum()
}

async fn bought(cluster: &Cluster, symbol: &str) -> i64 {
    let orders = cluster.paper.orders().await;
    let buys = orders.iter().filter(|order| order.side == "BUY" && order.symbol == symbol);
    buys.map(|order| order.filled_quantity).sum()
}

async fn sells(cluster: &Cluster, symbol: &str, units: i64) {
    wait::until(&format!("{units} units of {symbol} are sold"), PATIENCE, async || {
        let sold = sold(cluster, symbol).await;
        if sold == units { Ok(()) } else { Err((sold, cluster.logs())) }
    })
    .await;
}

fn close(cluster: &Cluster, by: usize, name: &str) -> (Option<i32>, Value) {
    let (code, said) = cluster.members[by].cli(&["close", name, "--reason", "drill", "--yes"]);
    (code, serde_json::from_str(&said).unwrap_or(json!(said)))
}

/// A repair is made, and somebody trades again.
async fn repaired(cluster: &Cluster) {
    let made = cluster.baton(&APPLY).await;
    let text = [made.stdout, made.stderr].concat();
    assert!(made.status.success(), "{}\n{:?}", String::from_utf8_lossy(&text), cluster.logs());
    cluster.leader().await;
    let marked = cluster.count("SELECT count(*) FROM leadership WHERE custody IS NOT NULL").await;
    assert_eq!(marked, 0, "the mark went with the damage");
}

async fn told(cluster: &Cluster, kind: &str) -> i64 {
    cluster.count(&format!("SELECT count(*) FROM error_notifications_log WHERE error_type = '{kind}'")).await
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_wait_for_the_repair_while_one_after_the_other_leads_as_custodian() {
    let mut cluster = holding().await;
    let units = bought(&cluster, GOLD_SYMBOL).await;
    let arrivals = cluster.paper.arrivals().await.len();
    damage(&cluster, "UPDATE portfolio_state SET risk_amount = risk_amount + 1").await;
    let first = custodian(&cluster, "VALIDATION_FAILED").await;
    assert_eq!(
        cluster.sql.query_one("SELECT custody FROM leadership", &[]).await.unwrap().get::<_, &str>(0),
        "VALIDATION_FAILED"
    );

    let entry = cluster.play(first, &base("no", "SILVER_MINI", 150_000)).await;
    assert!(entry["status"] == "refused" && entry["reasons"].to_string().contains("CUSTODY"), "{entry}");
    let out = cluster.post(first, &exit("out", GOLD, "ALL", 140_000)).await;
    let dropped = cluster.post(first, &exit("dropped", COPPER, "ALL", 1000)).await;
    let waits = async |who: usize, id: &str| {
        wait::until("the EXIT says why it waits", PATIENCE, async || {
            let view = cluster.members[who].json(&format!("/api/v1/signals/{id}")).await;
            let view = view.unwrap_or_default();
            let why = view["reasons"].to_string();
            if view["status"] == "pending" && why.contains("CUSTODY") { Ok(()) } else { Err(view) }
        })
        .await;
    };
    waits(first, &out.id).await;
    waits(first, &dropped.id).await;
    // An inbox that cannot be read ends no custodian's term, and keeps no operator from dropping what waits.
    damage(&cluster, "ALTER TABLE signal RENAME COLUMN payload TO unread").await;
    let (path, why) = (format!("/api/v1/signals/{}/drop", dropped.id), json!({ "reason": "drill" }));
    let (status, view) = cluster.members[first].command(&path, &why).await.expect("it answers");
    assert!(status.is_success() && view["status"] == "refused", "{status} {view}");
    damage(&cluster, "ALTER TABLE signal RENAME COLUMN unread TO payload").await;

    let begun = Instant::now();
    cluster.members[first].process.signal(Signal::KILL);
    cluster.members[first].process.kill().await;
    let next = custodian(&cluster, "VALIDATION_FAILED").await;
    println!("the next custodian after {:?}", begun.elapsed());
    assert!(next != first && begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let entry = cluster.play(next, &base("neither", "SILVER_MINI", 150_000)).await;
    assert!(entry["status"] == "refused" && entry["reasons"].to_string().contains("CUSTODY"), "{entry}");
    let view = cluster.members[next].json(&format!("/api/v1/signals/{}", out.id)).await.unwrap();
    assert_eq!(view["status"], "pending", "{view}");
    assert_eq!(cluster.paper.arrivals().await.len(), arrivals, "nothing left");

    repaired(&cluster).await;
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(sold(&cluster, GOLD_SYMBOL).await, units);
    let again = cluster.play(next, &base("again", GOLD, 140_000)).await;
    assert_eq!(again["status"], "executed", "{again}");
    cluster.members[first].restart().await;
    cluster.finish().await;
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_close_of_what_agrees_is_booked_and_the_rest_of_the_damage_stays() {
    let cluster = holding().await;
    let units = bought(&cluster, GOLD_SYMBOL).await;
    damage(&cluster, "UPDATE portfolio_state SET risk_amount = risk_amount + 1").await;
    let leader = custodian(&cluster, "VALIDATION_FAILED").await;
    let follower = (leader + 1) % cluster.members.len();
    let (code, answer) = close(&cluster, follower, GOLD_SYMBOL);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(
        (&answer["positions"][0]["outcome"], &answer["positions"][0]["sold"]),
        (&json!("filled"), &json!(units)),
        "{answer}"
    );
    assert_eq!(sold(&cluster, GOLD_SYMBOL).await, units);
    let open = "SELECT count(*) FROM position WHERE status <> 'closed' AND instrument = 'GOLD_MINI'";
    assert_eq!(cluster.count(open).await, 0, "booked on its position");
    // What was derived from damaged rows would have made them look whole.
    custodian(&cluster, "VALIDATION_FAILED").await;
    let (code, answer) = close(&cluster, leader, GOLD_SYMBOL);
    assert!(code != Some(0) && answer.to_string().contains("No open trade"), "{answer}");
    assert_eq!(sold(&cluster, GOLD_SYMBOL).await, units, "asked again, nothing more");
    repaired(&cluster).await;
    cluster.finish().await;
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_close_of_what_disagrees_sells_exactly_what_the_verified_book_holds() {
    for (name, sql, restore) in [
        (
            "too much",
            "ALTER TABLE position DROP CONSTRAINT position_check; UPDATE position SET quantity = quantity + 500 WHERE instrument = 'GOLD_MINI'",
            "",
        ),
        ("too little", "UPDATE position SET quantity = quantity - 100 WHERE instrument = 'GOLD_MINI'", ""),
        (
            "the row is gone",
            "CREATE TABLE kept AS SELECT * FROM position WHERE instrument = 'GOLD_MINI';
             DELETE FROM pyramiding_state WHERE instrument = 'GOLD_MINI'; DELETE FROM position WHERE instrument = 'GOLD_MINI'",
            "INSERT INTO position SELECT * FROM kept",
        ),
    ] {
        let cluster = holding().await;
        let units = bought(&cluster, GOLD_SYMBOL).await;
        damage(&cluster, sql).await;
        let leader = custodian(&cluster, "VALIDATION_FAILED").await;
        let (code, answer) = close(&cluster, leader, GOLD_SYMBOL);
        assert_eq!(code, Some(0), "{name}: {answer}\n{:?}", cluster.logs());
        assert_eq!(answer["positions"][0]["sold"], json!(units), "{name}: {answer}");
        let (_, answer) = close(&cluster, leader, GOLD_SYMBOL);
        assert_eq!(sold(&cluster, GOLD_SYMBOL).await, units, "{name}: asked again, nothing more: {answer}");
        custodian(&cluster, "VALIDATION_FAILED").await;
        damage(&cluster, restore).await;
        repaired(&cluster).await;
        assert_eq!(held(&cluster).await, bought(&cluster, COPPER_SYMBOL).await, "{name}: gold is booked as sold");
        let audit = cluster.baton(&["audit", "verify"]).await;
        assert!(audit.status.success(), "{name}: {}", String::from_utf8_lossy(&audit.stdout));
    }
}

// What is closed without the ledger elsewhere is left alone; the rest is closed, and the answer tells which is which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flatten_leaves_out_what_an_emergency_close_is_at_and_says_so() {
    let cluster = holding().await;
    let units = bought(&cluster, COPPER_SYMBOL).await;
    damage(&cluster, "UPDATE portfolio_state SET risk_amount = risk_amount + 1").await;
    let leader = custodian(&cluster, "VALIDATION_FAILED").await;
    let mark = json!({ "id": uuid::Uuid::now_v7(), "host": "desk-2", "operator": "asha" });
    let client = redis::Client::open(cluster.stores.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("baton:test:emergency:{GOLD_SYMBOL}");
    let _: () = redis::cmd("SET").arg(&key).arg(mark.to_string()).query_async(&mut connection).await.unwrap();
    let flatten = json!({ "reason": "drill" });
    let (status, answer) =
        cluster.members[leader].command("/api/v1/positions/flatten", &flatten).await.unwrap();
    assert!(status.is_success(), "copper is being closed: {status} {answer}");
    let left = &answer["not_sold"][0];
    assert!(left["contract"].as_str().is_some_and(|of| of.contains(GOLD_SYMBOL)), "{answer}");
    assert!(left["why"].as_str().is_some_and(|why| why.contains("may still sell")), "{answer}");
    sells(&cluster, COPPER_SYMBOL, units).await;
    assert_eq!(sold(&cluster, GOLD_SYMBOL).await, 0);
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut connection).await.unwrap();
    repaired(&cluster).await;
    cluster.finish().await;
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_that_cannot_be_verified_closes_nothing() {
    let cluster = holding().await;
    damage(&cluster, "UPDATE position SET quantity = quantity - 100 WHERE instrument = 'GOLD_MINI'").await;
    let leader = custodian(&cluster, "VALIDATION_FAILED").await;
    for verb in ["positionbook", "funds", "orderbook"] {
        cluster
            .paper
            .fault(json!({ "fault": { "kind": "broker_error", "status": 500 }, "verb": verb }))
            .await;
        let (code, answer) = close(&cluster, leader, GOLD_SYMBOL);
        let text = answer.to_string();
        assert!(code != Some(0) && text.contains("could not be verified"), "{verb}: {text}");
        assert_eq!(sold(&cluster, GOLD_SYMBOL).await, 0, "{verb}");
        cluster.paper.heal().await;
    }
    let (code, answer) = close(&cluster, leader, GOLD_SYMBOL);
    assert_eq!(code, Some(0), "{answer}");
}

// R: C4, D3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stop_of_a_position_that_agrees_fires_and_that_of_one_that_does_not_is_told() {
    for (name, sql) in [
        (
            "an impossible stop",
            "UPDATE position SET current_stop = entry_price * 2 WHERE instrument = 'GOLD_MINI'",
        ),
        // What the other one was charged says nothing of what is held.
        (
            "an impossible stop, and charges that nobody told",
            "UPDATE position SET current_stop = entry_price * 2 WHERE instrument = 'GOLD_MINI';
             UPDATE position SET charges = charges + 1 WHERE instrument = 'COPPER'",
        ),
        (
            "a stop that was moved",
            "UPDATE position SET current_stop = current_stop + 1 WHERE instrument = 'GOLD_MINI'",
        ),
        ("another quantity", "UPDATE position SET quantity = quantity - 100 WHERE instrument = 'GOLD_MINI'"),
    ] {
        let cluster = holding().await;
        damage(&cluster, sql).await;
        custodian(&cluster, "VALIDATION_FAILED").await;
        price(&cluster, GOLD_SYMBOL, dec!(100000)).await;
        price(&cluster, COPPER_SYMBOL, dec!(900)).await;
        sells(&cluster, COPPER_SYMBOL, bought(&cluster, COPPER_SYMBOL).await).await;
        wait::until("the other stop is told", PATIENCE, async || {
            if told(&cluster, "STOP_NOT_WATCHED").await > 0 { Ok(()) } else { Err(cluster.logs()) }
        })
        .await;
        assert_eq!(sold(&cluster, GOLD_SYMBOL).await, 0, "{name}");
        let classes = "SELECT count(*) FROM order_intent WHERE class = 'protective' AND cause = 'stop_loss'";
        assert_eq!(cluster.count(classes).await, 1, "{name}");
    }
}

// R: C4, D3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_whose_contract_the_broker_holds_otherwise_does_not_fire_and_is_told() {
    let cluster = holding().await;
    damage(&cluster, "UPDATE portfolio_state SET risk_amount = risk_amount + 1").await;
    custodian(&cluster, "VALIDATION_FAILED").await;
    by_hand(&cluster, "SELL", 100).await;
    price(&cluster, GOLD_SYMBOL, dec!(100000)).await;
    wait::until("it is told", PATIENCE, async || {
        if told(&cluster, "STOP_NOT_WATCHED").await > 0 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    assert_eq!(sold(&cluster, GOLD_SYMBOL).await, 100, "what was sold by hand, and nothing else");
    // Bought back, they agree, and the stop that waited fires.
    by_hand(&cluster, "BUY", 100).await;
    sells(&cluster, GOLD_SYMBOL, bought(&cluster, GOLD_SYMBOL).await).await;
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_leaves_the_others_their_stops_and_the_operator_the_book() {
    let cluster = holding().await;
    let free = "ALTER TABLE position DROP CONSTRAINT position_product_check;";
    damage(&cluster, &format!("{free} UPDATE position SET product = 'CO' WHERE instrument = 'GOLD_MINI'"))
        .await;
    let leader = custodian(&cluster, "DATA_CORRUPT").await;
    price(&cluster, COPPER_SYMBOL, dec!(900)).await;
    sells(&cluster, COPPER_SYMBOL, bought(&cluster, COPPER_SYMBOL).await).await;
    let units = bought(&cluster, GOLD_SYMBOL).await;
    let (code, answer) = close(&cluster, leader, GOLD);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(sold(&cluster, GOLD_SYMBOL).await, units, "{answer}");
    damage(&cluster, "UPDATE position SET product = 'NRML' WHERE instrument = 'GOLD_MINI'").await;
    repaired(&cluster).await;
    assert_eq!(held(&cluster).await, 0);
}

/// The leader looks seldom, its followers often.
async fn seldom(wire: impl Fn(&str) -> Option<(&'static str, String)>, options: Options) -> Cluster {
    Cluster::wired(options, async |launch| {
        let member = launch.env["BATON_CLUSTER__MEMBER"].clone();
        let (priority, every) = if member == "b1" { ("1", "600000") } else { ("40", "300") };
        launch.env.insert("BATON_CLUSTER__PRIORITY".to_owned(), priority.to_owned());
        launch.env.insert("BATON_RECOVERY__RECONCILE_MS".to_owned(), every.to_owned());
        if let Some((key, value)) = wire(&member) {
            launch.env.insert(key.to_owned(), value);
        }
    })
    .await
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_finds_makes_the_leader_look_again_within_5_seconds() {
    let mut cluster = seldom(|_| None, Options::default()).await;
    // Whoever else won the first election makes way.
    while cluster.members[cluster.leader().await].name != "b1" {
        cluster.kill_leader().await;
        cluster.revive().await;
        cluster.all_ready().await;
    }
    price(&cluster, GOLD_SYMBOL, dec!(140000)).await;
    let entered = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    damage(&cluster, "UPDATE portfolio_state SET risk_amount = risk_amount + 1").await;
    let found = "SELECT count(*) FROM damage_report WHERE member <> 'b1'";
    wait::until("a follower reports", PATIENCE, async || {
        if cluster.count(found).await > 0 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let begun = Instant::now();
    let leader = custodian(&cluster, "VALIDATION_FAILED").await;
    println!("the leader's finding came {:?} after the follower's", begun.elapsed());
    assert!(
        cluster.members[leader].name == "b1" && begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    repaired(&cluster).await;
    cluster.finish().await;
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_alone_finds_damage_ends_nobodys_trading() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("bare.toml");
    std::fs::write(&bare, "").unwrap();
    let bare = bare.display().to_string();
    let options = Options { members: 2, instruments: vec!["TIN".to_owned()], ..Options::default() };
    // Its configuration lacks an instrument that the others hold.
    let lacks = |member: &str| (member == "b2").then(|| ("BATON_CONFIG", bare.clone()));
    let mut cluster = seldom(lacks, options).await;
    while cluster.members[cluster.leader().await].name != "b1" {
        cluster.kill_leader().await;
        cluster.revive().await;
        cluster.all_ready().await;
    }
    let entered = cluster.play(0, &base("in", "TIN", 1000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    wait::until("the leader has looked again", PATIENCE, async || {
        let log = cluster.members[0].log();
        let health = cluster.members[1].json("/healthz").await.unwrap_or_default();
        let told = log.contains("a follower finds stored state damaged");
        if told && health["operational"]["state"] == "ERROR" { Ok(()) } else { Err((health, cluster.logs())) }
    })
    .await;
    let out = cluster.play(0, &exit("out", "TIN", "ALL", 1000)).await;
    assert_eq!(out["status"], "executed", "the leader's finding decides: {out}");
    assert_eq!(cluster.count("SELECT count(*) FROM leadership WHERE custody IS NOT NULL").await, 0);
    let own = database::connect(&cluster.stores.database_url()).await;
    assert_eq!(
        own.query_one("SELECT epoch FROM leadership", &[]).await.unwrap().get::<_, i64>(0),
        cluster.epoch().await
    );
    cluster.finish().await;
}
