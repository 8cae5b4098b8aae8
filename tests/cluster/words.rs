//! An operator's word on signals: one that waits is dropped, a refused one is put in again, once; and the books compared.

use reqwest::StatusCode;
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{paper, wait};

async fn say(cluster: &Cluster, member: usize, id: &str, word: &str) -> (StatusCode, Value) {
    let path = format!("/api/v1/signals/{id}/{word}");
    cluster.members[member].command(&path, &json!({ "reason": "a mistake" })).await.expect("it answers")
}

async fn audited(cluster: &Cluster, kind: &str, of: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM audit_log WHERE kind = '{kind}' AND payload LIKE '%{of}%'");
    cluster.count(&sql).await
}

// R: S1, B9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_waits_is_dropped_and_a_refused_one_is_put_in_again_once() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);

    // An entry waits while nobody is logged in at the broker.
    cluster.paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    wait::until("the dead session is noticed", PATIENCE, async || {
        let seen =
            cluster.members[leader].json("/api/v1/monitoring/connection-health").await.unwrap_or_default();
        if seen["broker"]["session"] == "expired" { Ok(()) } else { Err(seen) }
    })
    .await;
    let waiting = cluster.post(leader, &base("waits", GOLD, 140_000)).await.id;
    let (status, dropped) = say(&cluster, follower, &waiting, "drop").await;
    assert_eq!((status, &dropped["status"]), (StatusCode::OK, &json!("refused")), "{dropped}");
    let why = dropped["reasons"].to_string();
    assert!(why.contains("DROPPED") && why.contains("a mistake"), "{dropped}");
    assert_eq!(audited(&cluster, "change", &waiting).await, 1);
    let (status, again) = say(&cluster, leader, &waiting, "drop").await;
    assert_eq!((status, &again["code"]), (StatusCode::CONFLICT, &json!("SIGNAL_SETTLED")), "{again}");
    cluster.paper.heal().await;
    cluster.leader().await;

    // What was dropped by mistake: tried first, then put in; a repetition, and one through a takeover, is the same signal.
    let member = &cluster.members[follower];
    let (code, said) = wait::until("the leader would order", PATIENCE, async || {
        let asked = member.cli(&["signals", "replay", &waiting, "--dry-run"]);
        if asked.0 == Some(0) { Ok(asked) } else { Err(asked) }
    })
    .await;
    assert!(
        code == Some(0) && said.contains("\"would\":\"order\"") || said.contains("\"would\": \"order\""),
        "{said}"
    );
    assert_eq!(cluster.paper.arrivals().await.len(), 0, "nothing has left so far");
    let (status, first) = say(&cluster, follower, &waiting, "replay").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{first}");
    let id = first["id"].as_str().unwrap().to_owned();
    let view = cluster.terminal(&id).await;
    assert_eq!(
        (&view["status"], &view["key"]),
        (&json!("executed"), &json!(format!("replay:{waiting}"))),
        "{view}"
    );
    cluster.kill_leader().await;
    let survivor = cluster.leader().await;
    let (status, second) = say(&cluster, survivor, &waiting, "replay").await;
    assert_eq!(
        (status, &second["id"], &second["status"]),
        (StatusCode::OK, &first["id"], &json!("executed")),
        "{second}"
    );
    assert_eq!(cluster.paper.arrivals().await.len(), 1, "one order");
    assert_eq!(audited(&cluster, "replay", &waiting).await, 1);
    let (status, refused) = say(&cluster, survivor, &id, "replay").await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("SIGNAL_SETTLED")), "{refused}");

    // An entry that was too old stays too old.
    let mut old = base("old", SILVER, 150_000);
    old["timestamp"] = json!((chrono::Utc::now() - chrono::TimeDelta::minutes(10)).to_rfc3339());
    let stale = cluster.play(survivor, &old).await;
    let (_, again) = say(&cluster, survivor, stale["id"].as_str().unwrap(), "replay").await;
    let view = cluster.terminal(again["id"].as_str().unwrap()).await;
    assert!(view["status"] == "refused" && view["reasons"].to_string().contains("SIGNAL_TOO_OLD"), "{view}");
    let (code, listed) = cluster.members[survivor].cli(&["signals", "list", "--status", "refused"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, listed["signals"].as_array().map(Vec::len)), (Some(0), Some(3)), "{listed}");

    // The books, compared by the leader; what somebody else ordered is named.
    cluster.revive().await;
    cluster.all_ready().await;
    let follower = cluster.follower().await;
    let compared = async |code: i32| {
        wait::until(&format!("baton reconcile exits {code}"), PATIENCE, async || {
            let (ended, said) = cluster.members[follower].cli(&["reconcile"]);
            if ended == Some(code) { Ok(serde_json::from_str::<Value>(&said).unwrap()) } else { Err(said) }
        })
        .await
    };
    let report = compared(0).await;
    assert_eq!((&report["positions"]["drift"], &report["foreign"]), (&json!(0), &json!([])), "{report}");
    let by_hand = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": GOLD_SYMBOL, "exchange": "MCX", "action": "BUY",
        "product": "NRML", "pricetype": "MARKET", "quantity": 100, "price": 0, "trigger_price": 0,
    });
    let bought = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&by_hand);
    assert!(bought.send().await.unwrap().status().is_success());
    let report = compared(1).await;
    assert_eq!(report["foreign"].as_array().map(Vec::len), Some(1), "{report}");
    let led = &cluster.members[cluster.leader().await].name;
    assert_eq!((&report["positions"]["drift"], &report["by"]), (&json!(1), &json!(led)), "{report}");
}
