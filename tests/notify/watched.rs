//! What operators ask for themselves: the verbs about errors and checks, and the dead man's heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::member::Member;
use crate::support::wait;

fn parsed(text: &str) -> Value {
    // A refusal is a sentence.
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn quick() -> Vec<(&'static str, String)> {
    [
        ("BATON_HEALTH__CHECK_INTERVAL", "1"),
        ("BATON_HEALTH__WAITING_MODE_CHECK_INTERVAL", "1"),
        ("BATON_HEALTH__CHECK_TIMEOUT", "2"),
        ("BATON_HEALTH__MIN_DISK_FREE_MB", "0"),
        ("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "1"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec()
}

/// R: N4: every change of state, of all members or of one; since when, and when it was last looked at. An error where leadership
/// moved meanwhile, or is still being taken: whoever leads by then is asked.
async fn states_are_shown(cluster: &Cluster, leader: &Member) -> Result<(), Value> {
    let begun = leader.json("/leader").await.unwrap_or_default();
    let (code, said) = leader.cli(&["states", "--member", &leader.name]);
    let seen = leader.json("/api/v1/cluster").await.unwrap_or_default();
    let active = leader.metric("baton_operational_transitions_total{state=\"ACTIVE\"}").await;
    let status = cluster.baton(&["status", "--address", &leader.address]).await;
    let ended = leader.json("/leader").await.unwrap_or_default();
    let (state, told) = (&seen["this"]["operational"], &seen["instances"][0]["operational"]);
    let changes = parsed(&said)["changes"].as_array().cloned().unwrap_or_default();
    let states: Vec<_> =
        changes.iter().rev().map(|change| change["to"].as_str().unwrap_or_default()).collect();
    let table = String::from_utf8_lossy(&status.stdout).into_owned();
    let found = json!({ "begun": begun, "ended": ended, "states": said, "seen": seen, "active": active, "table": table });
    let led = begun["role"] == "leader" && begun["leader"] == ended["leader"];
    if !led || state["state"] != "ACTIVE" {
        return Err(found);
    }
    let entered = states.iter().filter(|state| **state == "ACTIVE").count();
    let holds = code == Some(0)
        && (states.first(), states.last()) == (Some(&"STARTING"), Some(&"ACTIVE"))
        && changes.iter().all(|change| change["member"] == leader.name && change["reason"].is_string())
        && (state["entered_at"].is_string() && told["checked_at"].is_string())
        && active == Some(entered as f64)
        && ["SINCE", "ACTIVE", "IST"].iter().all(|shown| table.contains(shown));
    if holds { Ok(()) } else { Err(found) }
}

// R: N1, N10: `baton doctor`, `baton errors` with its verbs, `baton ack`, against a cluster with a fault and without
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verbs_show_what_is_wrong_and_take_the_operators_word() {
    let cluster = Cluster::with(Options { members: 2, env: quick(), ..Options::default() }).await;
    let member = &cluster.members[0];
    let said = wait::until("nothing is wrong", PATIENCE, async || {
        let (code, said) = member.cli(&["doctor"]);
        if code == Some(0) { Ok(said) } else { Err(said) }
    })
    .await;
    let checks = parsed(&said)["report"]["checks"].as_array().unwrap().clone();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    let every = [
        "postgres",
        "redis",
        "bridge",
        "bridge_auth",
        "broker_session",
        "analyzer_mode",
        "websocket",
        "clock",
        "disk",
    ];
    assert_eq!(names, every);
    for check in &checks {
        let at: chrono::DateTime<chrono::Utc> = check["checked_at"].as_str().unwrap().parse().unwrap();
        assert!((chrono::Utc::now() - at).num_seconds().abs() < 60, "{check}");
        assert!(check["latency_ms"].is_number() && check["detail"].is_string(), "{check}");
    }
    let people = cluster.baton(&["doctor", "--address", &member.address]).await;
    let table = String::from_utf8_lossy(&people.stdout);
    assert!(table.contains("LOOKED AT") && table.contains("websocket") && table.contains("IST"), "{table}");

    wait::until("no error is left", PATIENCE, async || {
        let (code, said) = member.cli(&["errors"]);
        if (code, &parsed(&said)["errors"]) == (Some(0), &json!([])) { Ok(()) } else { Err(said) }
    })
    .await;

    wait::until("a leader shows how it came to be one", PATIENCE, async || {
        let leader = &cluster.members[cluster.leader().await];
        states_are_shown(&cluster, leader).await
    })
    .await;

    cluster.stores.redis().kill().await.unwrap();
    let id = wait::until("the error is listed", PATIENCE, async || {
        let (_, said) = member.cli(&["errors"]);
        let errors = parsed(&said)["errors"].as_array().cloned().unwrap_or_default();
        let redis = errors.iter().find(|error| error["error_type"] == "REDIS_DEGRADED");
        redis.and_then(|error| error["id"].as_i64()).ok_or(said)
    })
    .await
    .to_string();
    let (code, said) = member.cli(&["doctor"]);
    assert_eq!(code, Some(1), "{said}");
    let redis = parsed(&said)["report"]["checks"].as_array().unwrap()[1].clone();
    assert_eq!(
        (&redis["check"], &redis["up"], &redis["class"]),
        (&json!("redis"), &json!(false), &json!("TRANSIENT"))
    );
    // Where leadership moves, the error may end and come back: then it takes another word.
    wait::until("the error is acknowledged", PATIENCE, async || {
        let (code, said) = member.cli(&["errors", "acknowledge", &id, "--reason", "known", "--yes"]);
        if (code, &parsed(&said)["acknowledged_by"]) != (Some(0), &json!("asha")) {
            return Err(said);
        }
        let (code, said) = member.cli(&["errors", "summary"]);
        let types = parsed(&said)["types"].as_array().cloned().unwrap_or_default();
        let row = types.iter().find(|row| row["error_type"] == "REDIS_DEGRADED").cloned().unwrap_or_default();
        let counted = (code, &row["unresolved"], &row["unacknowledged"]) == (Some(0), &json!(1), &json!(0));
        if counted { Ok(()) } else { Err(said) }
    })
    .await;
    let (code, said) = member.cli(&["errors", "acknowledge", "999999", "--reason", "known", "--yes"]);
    assert!(code == Some(1) && said.contains("999999"), "{code:?} {said}");

    cluster.stores.redis().start().await.unwrap();
    wait::until("it is over by itself", PATIENCE, async || {
        let (_, said) = member.cli(&["errors", "--all"]);
        let errors = parsed(&said)["errors"].as_array().cloned().unwrap_or_default();
        let redis = errors.iter().find(|error| error["error_type"] == "REDIS_DEGRADED").cloned();
        if redis.is_some_and(|error| error["resolved"] == true) { Ok(()) } else { Err(said) }
    })
    .await;
    let (code, said) = member.cli(&["errors", "resolve", &id, "--reason", "mended", "--yes"]);
    assert!(code == Some(1) && said.contains("no unresolved error"), "{code:?} {said}");
    let (code, said) = member.cli(&["ack", "restart-storm", "--reason", "looked at", "--yes"]);
    assert_eq!((code, parsed(&said)["acknowledged_starts"].is_number()), (Some(0), true), "{said}");
    cluster.finish().await;
}

// The leader beats, and nobody else; when it dies, its successor goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_alone_beats_and_its_successor_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    let beaten = Arc::clone(&counts);
    let beat = move |axum::extract::Path(member): axum::extract::Path<usize>| {
        beaten[member].fetch_add(1, Ordering::Relaxed);
        async { "ok" }
    };
    let router = Router::new().route("/{member}", get(beat));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut number = 0;
    let mut cluster = Cluster::wired(Options { env: quick(), ..Options::default() }, async |launch| {
        launch.env.insert("BATON_NOTIFY__HEARTBEAT_URL".to_owned(), format!("{url}/{number}"));
        launch.env.insert("BATON_NOTIFY__HEARTBEAT_INTERVAL".to_owned(), "1".to_owned());
        number += 1;
    })
    .await;
    let seen = || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let leader = cluster.leader().await;
    wait::until(
        "the leader beats",
        PATIENCE,
        async || if seen()[leader] >= 2 { Ok(()) } else { Err(seen()) },
    )
    .await;
    let others: usize = seen().iter().sum::<usize>() - seen()[leader];
    assert_eq!(others, 0, "{:?}", seen());
    let (old, new, _) = cluster.kill_leader().await;
    let last = seen()[old];
    wait::until(
        "the successor beats",
        PATIENCE,
        async || if seen()[new] >= 2 { Ok(()) } else { Err(seen()) },
    )
    .await;
    assert_eq!(seen()[old], last, "a dead leader is silent: whoever watches hears it");
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.finish().await;
}
