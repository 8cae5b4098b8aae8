//! Close, flatten and the emergency close: truthful, once, whatever switch is on, from any instance.

use baton::failpoint::PLACES;
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

const EMERGENCY: &str = "/api/v1/monitoring/emergency-close-position";

async fn enter(cluster: &Cluster, id: &str) {
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base(id, GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
}

async fn command(cluster: &Cluster, member: usize, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = cluster.members[member].command(path, &body).await.expect("an answer");
    (status.as_u16(), answer)
}

// R: D4, LESSONS "emergency close sent two exits"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_close_is_one_exit_from_any_instance_under_any_switch() {
    let cluster = Cluster::start().await;
    enter(&cluster, "held").await;
    let halt = json!({ "switch": "halt_all", "on": true, "reason": "everything" });
    assert_eq!(command(&cluster, 0, "/api/v1/switches", halt).await.0, 200);
    let follower = cluster.follower().await;
    let missing = command(&cluster, follower, EMERGENCY, json!({ "symbol": "NOPE", "reason": "x" })).await;
    assert_eq!((missing.0, missing.1["detail"].as_str()), (404, Some("No open trade found for NOPE")));
    for body in [json!({ "reason": "x" }), json!({ "symbol": GOLD_SYMBOL }), json!([1])] {
        assert_eq!(command(&cluster, follower, EMERGENCY, body).await.0, 400);
    }
    let body = json!({ "symbol": GOLD_SYMBOL, "reason": "news" });
    let all = [0, 1, 2].map(|member| command(&cluster, member, EMERGENCY, body.clone()));
    let answers = futures_util::future::join_all(all).await;
    for (status, answer) in &answers {
        // Whoever comes after the fill finds no open trade, which is true.
        assert!([200, 404].contains(status), "{answer}");
        assert!(*status == 404 || answer["status"] == "filled", "{answer}");
    }
    assert!(answers.iter().any(|(status, _)| *status == 200), "{answers:?}");
    let exits = "SELECT count(*) FROM order_intent WHERE class = 'operator'";
    assert_eq!(cluster.count(exits).await, 1);
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: D4, LESSONS "emergency close returned success while the broker had refused"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_tells_a_refusal_a_doubt_and_an_order_that_rests() {
    let cluster = Cluster::start().await;
    enter(&cluster, "held").await;
    let body = json!({ "symbol": GOLD, "reason": "news" });
    let refuses =
        json!({ "kind": "broker_error", "status": 400, "message": "RMS: blocked", "placed": false });
    cluster.paper.fault(json!({ "fault": refuses, "verb": "placeorder" })).await;
    let (status, answer) = command(&cluster, 0, "/api/v1/positions/close", body.clone()).await;
    assert_eq!((status, answer["status"].as_str()), (202, Some("refused")), "{answer}");
    assert!(answer["positions"][0]["reason"].as_str().unwrap().contains("RMS: blocked"), "{answer}");

    // It goes on by itself; nothing is sent while an outcome is not known.
    cluster.paper.heal().await;
    let lost = json!({ "kind": "hidden", "ms": 1500 });
    let cut = json!({ "kind": "lost_ack_after" });
    cluster.paper.fault(json!({ "fault": lost, "verb": "placeorder", "count": 1 })).await;
    cluster.paper.fault(json!({ "fault": cut, "verb": "placeorder", "count": 1 })).await;
    wait::until("its outcome is in doubt", PATIENCE, async || {
        let (status, answer) = command(&cluster, 1, "/api/v1/positions/close", body.clone()).await;
        let doubted = "SELECT count(*) FROM order_intent WHERE class = 'operator' AND reason LIKE '%found in the broker%'";
        if cluster.count(doubted).await == 1 { Ok(()) } else { Err((status, answer)) }
    })
    .await;
    wait::until("it is flat", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await {
            0 => Ok(()),
            _ => Err(cluster.logs()),
        }
    })
    .await;

    enter(&cluster, "again").await;
    cluster.paper.post("fills", json!({ "hold": true })).await;
    let (status, answer) = command(&cluster, 2, "/api/v1/positions/close", body.clone()).await;
    assert_eq!((status, answer["status"].as_str()), (202, Some("submitted")), "{answer}");
    let (_, again) = command(&cluster, 1, "/api/v1/positions/close", body).await;
    assert_eq!(again["positions"][0]["was_under_way"], true, "{again}");
    assert_eq!(again["positions"][0]["intent"], answer["positions"][0]["intent"], "no second exit");
    cluster.paper.post("fills", json!({ "hold": false })).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flatten_closes_everything_by_the_command_line() {
    let names: Vec<String> = (0..5).map(|n| format!("FLAT{n}")).collect();
    let env = crate::support::cluster::independent();
    let cluster = Cluster::with(Options { instruments: names.clone(), env, ..Options::default() }).await;
    for name in &names {
        let entered = cluster.play(0, &base(name, name, 1000)).await;
        assert_eq!(entered["status"], "executed", "{entered}");
    }
    let follower = cluster.follower().await;
    let (code, said) = cluster.members[follower].cli(&["close", "FLAT0FUT", "--reason", "one", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = cluster.members[follower].cli(&["flatten", "--reason", "all of it", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = cluster.members[follower].cli(&["flatten", "--reason", "nothing left", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("flat"), "{said}");
    let why = "SELECT count(*) FROM order_intent WHERE class = 'operator' AND reason LIKE 'asha: %' AND cause = 'operator'";
    assert_eq!(cluster.count(why).await, 5);
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (10, 0));
}

// R: B8, S15: more is held than one order may have, and the leader dies with the first slice sold and not booked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flatten_above_the_freeze_quantity_is_sold_in_slices_over_a_kill() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    enter(&cluster, "held").await;
    assert_eq!(cluster.count("SELECT quantity FROM position").await, 2800);
    // It was bought before there was a limit.
    for _ in 0..2 {
        let old = cluster.leader().await;
        cluster.all_ready().await;
        cluster.members[old].process.kill().await;
        let freeze = ("BATON_INSTRUMENTS__GOLD_MINI__FREEZE_QUANTITY".to_owned(), "1250".to_owned());
        cluster.members[old].launch.env.extend([freeze]);
        cluster.leader_within(PATIENCE, |index| index != old).await;
        cluster.members[old].restart().await;
    }
    cluster.all_ready().await;
    let leader = cluster.leader().await;
    cluster.arm("before_fill_commit", "kill");
    let body = json!({ "reason": "all of it" });
    let answer = cluster.members[leader].command("/api/v1/positions/flatten", &body).await;
    assert!(answer.is_none(), "its answer is lost with the leader: {answer:?}");
    hit(&mut cluster, "before_fill_commit").await;
    wait::until("it is flat", PATIENCE, async || {
        if cluster.count(HELD).await == 0 { Ok(()) } else { Err(format!("{:?}", cluster.logs())) }
    })
    .await;
    let sales =
        "SELECT quantity FROM order_intent WHERE class <> 'entry' AND state = 'filled' ORDER BY journaled_at";
    let sales = cluster.sql.query(sales, &[]).await.unwrap();
    let sales: Vec<i64> = sales.iter().map(|row| row.get(0)).collect();
    assert_eq!(sales, [1200, 1200, 400]);
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (4, 0));
}

// R: S15, D4: the leader dies at each step of a flatten. What was stored is finished by the next one, from evidence; what
// was not, nobody was told is done. No position is sold twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_anywhere_in_a_flatten_leaves_nothing_doubled_and_nothing_held() {
    let env = crate::support::cluster::independent();
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    for place in ["close_taken"].into_iter().chain(PLACES) {
        enter(&cluster, &format!("gold-{place}")).await;
        let entered = cluster.play(0, &base(&format!("silver-{place}"), SILVER, 150_000)).await;
        assert_eq!(entered["status"], "executed", "{entered}");
        let before = cluster.count(SALES).await;
        cluster.arm(place, "kill");
        let leader = cluster.leader().await;
        let body = json!({ "reason": "all of it" });
        let answer = cluster.members[leader].command("/api/v1/positions/flatten", &body).await;
        assert!(answer.is_none(), "{place}: its answer is lost with the leader: {answer:?}");
        hit(&mut cluster, place).await;
        if place == "close_taken" {
            cluster.leader_within(PATIENCE, |index| index != leader).await;
            assert_eq!(cluster.count(SALES).await, before, "nobody was told that it is done");
            assert_eq!(cluster.count(HELD).await, 2, "and it is not");
            let (status, answer) =
                command(&cluster, (leader + 1) % 3, "/api/v1/positions/flatten", body).await;
            assert_eq!(status, 200, "asked again, it is: {answer}");
        }
        wait::until("it is flat", PATIENCE, async || {
            if cluster.count(HELD).await == 0 { Ok(()) } else { Err(format!("{:?}", cluster.logs())) }
        })
        .await;
        cluster.revive().await;
        cluster.check().await;
        assert_eq!(cluster.count(SALES).await, before + 2, "{place}: each of the two is sold once");
    }
    cluster.finish().await;
}

const HELD: &str = "SELECT count(*) FROM position WHERE status <> 'closed'";
/// Sales that reached the bridge.
const SALES: &str = "SELECT count(*) FROM order_intent WHERE class = 'operator' AND state = 'filled'";

// R: D4, S13: what an operator was told is pending is done, whoever leads by the time that it can be done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_waits_for_the_position_book_outlives_the_leader_that_took_it() {
    let mut cluster = Cluster::start().await;
    enter(&cluster, "held").await;
    let unreadable = json!({ "fault": { "kind": "broker_error", "status": 500 }, "verb": "positionbook" });
    cluster.paper.fault(unreadable).await;
    // Kept exits of signals are not enough: under a halt only an operator's exit goes out.
    let halt = json!({ "switch": "halted", "on": true, "reason": "news" });
    assert_eq!(command(&cluster, 0, "/api/v1/switches", halt).await.0, 200);
    let (status, answer) =
        command(&cluster, 0, "/api/v1/positions/flatten", json!({ "reason": "all of it" })).await;
    assert_eq!((status, answer["status"].as_str()), (202, Some("pending")), "{answer}");
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE class <> 'entry'").await, 0);
    let leader = cluster.leader().await;
    cluster.members[leader].process.kill().await;
    cluster.paper.heal().await;
    wait::until("the successor has sold it", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await {
            0 => Ok(()),
            _ => Err(cluster.logs()),
        }
    })
    .await;
    let asked = "SELECT count(*) FROM order_intent WHERE class = 'operator' AND reason = 'api: all of it'";
    assert_eq!(cluster.count(asked).await, 1);
    let audited = "SELECT count(*) FROM audit_log WHERE kind = 'close' AND actor = 'api'";
    assert_eq!(cluster.count(audited).await, 1);
    cluster.revive().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: D4: whoever asks is told what is known: a close that may be stored is not called undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_of_which_the_storing_is_not_known_is_not_called_undone() {
    let cluster = Cluster::start().await;
    enter(&cluster, "held").await;
    let mut other = crate::support::database::connect(&cluster.stores.database_url()).await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("SELECT 1 FROM position FOR UPDATE").await.unwrap();
    let body = json!({ "reason": "all of it" });
    let (status, answer) = command(&cluster, 0, "/api/v1/positions/flatten", body.clone()).await;
    assert_eq!((status, answer["code"].as_str()), (503, Some("CLOSE_UNKNOWN")), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("never makes a second exit"), "{answer}");
    lock.rollback().await.unwrap();
    wait::until("asking again is answered", PATIENCE, async || {
        match command(&cluster, 0, "/api/v1/positions/flatten", body.clone()).await {
            (200 | 202, _) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    wait::until("it is flat", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await {
            0 => Ok(()),
            _ => Err(cluster.logs()),
        }
    })
    .await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}
