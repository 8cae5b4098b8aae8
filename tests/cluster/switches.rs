//! The operator's switches through the built binary: set on any instance, in force at once, kept over failovers.

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait;

fn code(view: &Value) -> &str {
    view["reasons"][0]["code"].as_str().unwrap_or("none")
}

/// What the cluster says of a switch.
async fn shown(cluster: &Cluster, member: usize, name: &str) -> Value {
    let all = cluster.members[member].json("/api/v1/switches").await.unwrap();
    all["switches"].as_array().unwrap().iter().find(|switch| switch["switch"] == name).unwrap().clone()
}

fn says(cluster: &Cluster, member: usize, arguments: &[&str]) -> String {
    let (code, said) = cluster.members[member].cli(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

// R: B4, S13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_are_set_anywhere_hold_at_once_and_survive_a_failover() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");

    // On a follower, by the command line: no leader is needed.
    let follower = cluster.follower().await;
    says(&cluster, follower, &["halt", "--reason", "exchange trouble", "--yes"]);
    let leader = cluster.leader().await;
    let halted = shown(&cluster, leader, "halted").await;
    assert_eq!(
        (&halted["on"], &halted["who"], &halted["why"]),
        (&json!(true), &json!("asha"), &json!("exchange trouble"))
    );
    wait::until("the metric says so", PATIENCE, async || {
        match cluster.members[leader].metric("baton_switch{switch=\"halted\"}").await {
            Some(1.0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let refused = cluster.play(0, &base("halted", "SILVER_MINI", 155_000)).await;
    assert_eq!(code(&refused), "HALTED", "{refused}");
    let waits = cluster.post(1, &exit("waits", GOLD, "ALL", 140_000)).await;

    let (old, ..) = cluster.kill_leader().await;
    cluster.members[old].restart().await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE class <> 'entry'").await, 0);
    let still = cluster.play(0, &base("still", "SILVER_MINI", 155_000)).await;
    assert_eq!(code(&still), "HALTED", "a new leader reads the same row: {still}");

    // The EXIT that came under the halt acts when it ends.
    says(&cluster, follower, &["unhalt", "--reason", "over", "--yes"]);
    assert_eq!(cluster.terminal(&waits.id).await["status"], "executed");

    // Reduce-only with an end; it ends by itself.
    says(&cluster, follower, &["reduce-only", "on", "--until", "2s", "--reason", "for a moment", "--yes"]);
    assert!(shown(&cluster, follower, "reduce_only").await["until"].is_string());
    let reduced = cluster.play(1, &base("reduced", GOLD, 140_000)).await;
    assert_eq!(code(&reduced), "REDUCE_ONLY", "{reduced}");
    wait::until("the switch ends by itself", PATIENCE, async || {
        let view = shown(&cluster, 0, "reduce_only").await;
        if view["on"] == false && view["who"] == "baton" { Ok(()) } else { Err(view) }
    })
    .await;
    let again = cluster.play(1, &base("again", GOLD, 140_000)).await;
    assert_eq!(again["status"], "executed", "{again}");

    // Nothing changes without a reason, a known name, or a time to come.
    for body in [
        json!({ "switch": "halted", "on": true }),
        json!({ "switch": "banana", "on": true, "reason": "x" }),
        json!({ "switch": "halted", "on": true, "reason": "x", "until": "yesterday" }),
    ] {
        let (status, answer) = cluster.members[0].command("/api/v1/switches", &body).await.unwrap();
        assert_eq!(status, 400, "{answer}");
    }
    let history = cluster.count("SELECT count(*) FROM switch_history").await;
    assert_eq!(history, 4, "halt, unhalt, reduce-only, its end");
    cluster.finish().await;
}

// R: B4, S13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_of_one_instrument_holds_there_alone_and_survives_a_failover() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let follower = cluster.follower().await;
    const SILVER: &str = "SILVER_MINI";
    says(&cluster, follower, &["halt", "--instrument", GOLD, "--reason", "odd prices", "--yes"]);
    says(&cluster, follower, &["reduce-only", "on", "--instrument", SILVER, "--reason", "thin", "--yes"]);
    wait::until("the metric says so", PATIENCE, async || {
        let series = "baton_instrument_switch{instrument=\"GOLD_MINI\",switch=\"halted\"}";
        match cluster.members[follower].metric(series).await {
            Some(1.0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    cluster.kill_leader().await;
    let refused = cluster.play(follower, &base("refused", SILVER, 155_000)).await;
    assert_eq!(code(&refused), "INSTRUMENT_REDUCE_ONLY", "{refused}");
    let waits = cluster.post(follower, &exit("waits", GOLD, "ALL", 140_000)).await;
    says(&cluster, follower, &["reduce-only", "off", "--instrument", SILVER, "--reason", "over", "--yes"]);
    let again = cluster.play(follower, &base("again", SILVER, 155_000)).await;
    assert_eq!(again["status"], "executed", "{again}");
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE class <> 'entry'").await, 0);
    says(&cluster, follower, &["unhalt", "--instrument", GOLD, "--reason", "over", "--yes"]);
    assert_eq!(cluster.terminal(&waits.id).await["status"], "executed");
    for (name, body, expected) in [
        ("GOLD", json!({ "switch": "halted", "on": true, "reason": "x" }), 404),
        (GOLD, json!({ "switch": "paused", "on": true, "reason": "x" }), 400),
    ] {
        let path = format!("/api/v1/switches/{name}");
        let (status, answer) = cluster.members[follower].command(&path, &body).await.unwrap();
        assert_eq!(status, expected, "{answer}");
    }
    cluster.revive().await;
    cluster.finish().await;
}

// R: S13: while entries flow, nothing is journaled after the halt's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_is_journaled_after_the_answer_to_a_halt() {
    let names: Vec<String> = (0..60).map(|n| format!("LOAD{n}")).collect();
    let env = crate::support::cluster::independent();
    let options = crate::support::cluster::Options { instruments: names.clone(), env, ..Default::default() };
    let mut cluster = Cluster::with(options).await;
    let intents = "SELECT count(*) FROM order_intent";
    let (mut posted, mut at_the_answer) = (Vec::new(), 0);
    for (n, name) in names.iter().enumerate() {
        posted.push(cluster.post(n % 3, &base(name, name, 1000)).await.id);
        if n == 30 {
            wait::until("entries flow", PATIENCE, async || match cluster.count(intents).await {
                0 => Err(cluster.logs()),
                _ => Ok(()),
            })
            .await;
            let set = json!({ "switch": "halted", "on": true, "reason": "under load" });
            let (status, answer) = cluster.members[0].command("/api/v1/switches", &set).await.unwrap();
            assert_eq!(status, 200, "{answer}");
            // What is journaled by now was allowed to: its row was locked before the switch's.
            at_the_answer = cluster.count(intents).await;
        }
        if n == 40 {
            cluster.kill_leader().await;
        }
    }
    for id in &posted {
        cluster.terminal(id).await;
    }
    assert_eq!(cluster.count(intents).await, at_the_answer);
    cluster.revive().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_keeps_followers_from_standing_and_resume_lets_them() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    says(&cluster, (leader + 1) % 3, &["pause", "--reason", "maintenance", "--yes"]);
    let before = cluster.epoch().await;
    cluster.members[leader].process.kill().await;
    // A follower would have stood within a fraction of this.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(cluster.epoch().await, before, "{:?}", cluster.history().await);
    says(&cluster, (leader + 1) % 3, &["resume", "--reason", "done", "--yes"]);
    cluster.leader_within(PATIENCE, |index| index != leader).await;
    cluster.revive().await;
    cluster.finish().await;
}
