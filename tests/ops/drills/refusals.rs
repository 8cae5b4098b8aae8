//! Drills about what an instance refuses: a sender's bodies, and an operator's calls.

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{done, equipped, told, typed, with_a_position};
use crate::signals::{GOLD, SILVER, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::member::TOKEN;
use crate::support::wait;

/// A body as somebody's chart sends it; gives the status and the problem's code.
async fn sent(cluster: &Cluster, token: &str, content: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let url = format!("{}/webhook", cluster.members[0].address);
    let request = cluster.client.post(url).bearer_auth(token).header(CONTENT_TYPE, content).body(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    (status, problem["code"].clone())
}

// R: H6, K7
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_refused_signals() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::with(Options::default()).await;
    cluster.paper.set_price(crate::signals::GOLD_SYMBOL, "MCX", rust_decimal::dec!(140000)).await;
    let json = "application/json";
    let good = base("good", GOLD, 140_000);
    // unauthorized: which sender, and who set the token.
    let refused = sent(&cluster, "wrong", json, good.to_string()).await;
    assert_eq!(refused, (401, json!("UNAUTHORIZED")));
    let look = told("unauthorized", "curl -s $A/metrics | grep 'baton_signals_total.*refused'");
    let printed = done(&cluster, 0, look).await;
    assert!(printed.lines().any(|line| line.contains("OTHER") && line.ends_with(" 1")), "{printed}");
    let look = told("unauthorized", "baton config show | grep -A3 '\\[signals\\]'");
    let printed = done(&cluster, 0, look).await;
    assert!(printed.contains("token") && !printed.contains(TOKEN), "{printed}");

    // invalid_signal: the faults, and the body as it came.
    let wrong = json!({ "id": "odd", "type": "BASE_ENTRY", "instrument": "PLATINUM" });
    assert_eq!(sent(&cluster, TOKEN, json, wrong.to_string()).await, (422, json!("INVALID_SIGNAL")));
    let kept = told(
        "invalid_signal",
        "psql \"$DATABASE_URL\" -c \"SELECT received_at, http_status, faults, convert_from(raw_body, 'UTF8') FROM \
         (SELECT * FROM signal_rejection ORDER BY received_at DESC LIMIT 5) newest\"",
    );
    let printed = done(&cluster, 0, kept).await;
    assert!(printed.contains("422") && printed.contains("PLATINUM"), "{printed}");
    // content_type, body_too_large: otherwise as there.
    assert_eq!(sent(&cluster, TOKEN, "text/plain", good.to_string()).await, (415, json!("CONTENT_TYPE")));
    let long = json!({ "id": "x".repeat(200_000) }).to_string();
    assert_eq!(sent(&cluster, TOKEN, json, long).await, (413, json!("BODY_TOO_LARGE")));
    let printed = done(&cluster, 0, kept).await;
    assert!(printed.contains("415") && printed.contains("413"), "{printed}");
    // malformed: with the other function, a body that is no text can be read, too.
    assert_eq!(sent(&cluster, TOKEN, json, vec![0x7b, 0xff, 0x00]).await, (400, json!("MALFORMED")));
    let (text, bytes) = ("convert_from(raw_body, 'UTF8')", told("malformed", "encode(raw_body, 'escape')"));
    let printed = done(&cluster, 0, &kept.replace(text, bytes)).await;
    assert!(printed.contains("400") && printed.contains("\\377"), "{printed}");
    // Once it is no longer among the newest, it does not stand in the way of the others.
    for _ in 0..5 {
        assert_eq!(sent(&cluster, TOKEN, json, wrong.to_string()).await.0, 422);
    }
    let printed = done(&cluster, 0, kept).await;
    assert!(printed.contains("PLATINUM"), "{printed}");

    // old-signals: what became of it, and when.
    let mut late = base("late", SILVER, 150_000);
    late["timestamp"] = json!((chrono::Utc::now() - chrono::TimeDelta::hours(1)).to_rfc3339());
    let view = cluster.play(0, &late).await;
    let id = view["id"].as_str().unwrap();
    let look = told(
        "old-signals",
        "curl -s $A/api/v1/signals/ID | jq '{status, reasons, received_at, finished_at}'",
    );
    let printed = done(&cluster, 0, &look.replace("ID", id)).await;
    assert!(printed.contains("SIGNAL_TOO_OLD") && printed.contains("\"refused\""), "{printed}");

    // Verify of them all: the corrected one is taken. None of the others was kept as a signal.
    let view = cluster.play(0, &good).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(cluster.count("SELECT count(*) FROM signal").await, 2);
    cluster.finish().await;
}

// R: H6, K2
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_refused_calls() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    let leader = cluster.leader().await;
    let member = &cluster.members[leader];
    // bad_request: `detail` says what, and the command line asks for what is missing.
    let (status, problem) =
        member.command("/api/v1/positions/close", &json!({ "instrument": "GOLD_MINI" })).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("BAD_REQUEST")), "{problem}");
    assert!(problem["detail"].to_string().contains("reason"), "{problem}");
    let output = typed(&cluster, leader, "baton close GOLD_MINI --yes").await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("--reason"), "{output:?}");
    // bad_query: `faults` says which.
    let (status, text) = member.get("/api/v1/orders?state=lost").await.unwrap();
    assert!(status == 400 && text.contains("BAD_QUERY") && text.contains("faults"), "{status} {text}");
    assert_eq!(member.get("/api/v1/orders?state=filled").await.unwrap().0, 200);
    // not_found: the signals that there are.
    let (status, text) = member.get("/api/v1/signals/0199a1b2-0000-7000-8000-000000000002").await.unwrap();
    assert!(status == 404 && text.contains("NOT_FOUND"), "{status} {text}");
    let look = told(
        "not_found",
        "psql \"$DATABASE_URL\" -c \"SELECT id, key, type, status, received_at FROM signal ORDER BY seq DESC LIMIT 20\"",
    );
    let printed = done(&cluster, leader, look).await;
    assert!(printed.contains("BASE_ENTRY") && printed.contains("executed"), "{printed}");

    // no_successor: every other member is fenced; the leader leads on.
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    for index in &others {
        let name = &cluster.members[*index].name;
        done(&cluster, leader, &format!("baton fence {name} --reason drill --yes")).await;
    }
    let output = typed(&cluster, leader, "baton handover --reason drill --yes").await;
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("NO_SUCCESSOR"), "{output:?}");
    let printed = done(&cluster, leader, told("no_successor", "baton instances")).await;
    assert!(printed.contains("fenced"), "it shows what they lack:\n{printed}");
    assert_eq!(cluster.leader().await, leader);

    // no_leader: nobody is left to lead, and what only a leader can do is refused.
    cluster.members[leader].process.kill().await;
    let other = others[0];
    wait::until("no leader is known", PATIENCE, async || {
        let body = json!({ "instrument": "GOLD_MINI", "reason": "drill" });
        let answer = cluster.members[other].command("/api/v1/positions/close", &body).await;
        match &answer {
            Some((status, problem)) if *status == 503 && problem["code"] == "NO_LEADER" => Ok(()),
            _ => Err(answer),
        }
    })
    .await;
    // Mitigation: the members may lead again, and one of them does what was refused.
    for index in &others {
        let command = format!("baton unfence {} --reason drilled --yes", cluster.members[*index].name);
        // The first of them may lead by now: then the command is repeated, as leadership_moved says.
        wait::until("it may lead again", PATIENCE, async || {
            let output = typed(&cluster, other, &command).await;
            let moved = String::from_utf8_lossy(&output.stderr).contains("LEADERSHIP_MOVED");
            assert!(output.status.success() || moved, "{output:?}");
            if moved { Err(output) } else { Ok(()) }
        })
        .await;
    }
    let new = cluster.leader_within(PATIENCE, |index| index != leader).await;
    done(&cluster, new, "baton close GOLD_MINI --reason drill --yes").await;
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "{check:?}");
}
