//! A bridge that answers and will not do: it refuses the key, or is in the other mode.

use serde_json::{Value, json};

use crate::cluster::{cluster, leader_is, phase, quiet, told};
use crate::double::Telegram;
use crate::support::member::Member;
use crate::support::paper::KEY;

/// What a member's rounds found of one thing, once they wait.
async fn found(member: &Member, check: &str) -> Value {
    let checks = phase(member, "WAITING").await["report"]["checks"].as_array().unwrap().clone();
    checks.into_iter().find(|found| found["check"] == check).unwrap()
}

// R: N6: the bridge has revoked the session, and refuses the key: it is told once, as the session, and nothing else is
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_session_is_told_once_and_so_is_the_next_login() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    cluster.paper.fault(json!({ "fault": { "kind": "session_revoked" } })).await;
    let logs = || format!("{:?}", cluster.logs());
    let texts = told(&telegram, "BROKER_SESSION", 1, logs).await;
    assert!(texts[0].contains("Invalid openalgo apikey"), "{texts:?}");
    for member in &cluster.members {
        let key = found(member, "bridge_auth").await;
        assert_eq!((&key["up"], &key["class"]), (&json!(false), &json!("PERMANENT")), "{key}");
    }
    cluster.paper.heal().await;
    leader_is(&cluster, "ACTIVE").await;
    told(&telegram, "RECOVERED BROKER_SESSION", 1, logs).await;
    cluster.leader().await;
    quiet(&cluster).await;
    assert_eq!(telegram.delivered().len(), 2, "{:#?}", telegram.delivered());
    cluster.finish().await;
}

// R: N1, B15: the mode is a check of its own, told once by whoever meets it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_in_the_other_mode_is_told_once_and_so_is_the_way_back() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    let toggled = async |analyze: bool| {
        let body = json!({ "apikey": KEY, "mode": analyze });
        let url = format!("{}/api/v1/analyzer/toggle", cluster.paper.http);
        assert!(cluster.client.post(url).json(&body).send().await.unwrap().status().is_success());
    };
    toggled(true).await;
    let logs = || format!("{:?}", cluster.logs());
    let texts = told(&telegram, "WRONG_MODE", 1, logs).await;
    for member in &cluster.members {
        let mode = found(member, "analyzer_mode").await;
        assert_eq!((&mode["up"], &mode["class"]), (&json!(false), &json!("OPERATOR")), "{mode}");
        let health = member.json("/api/v1/monitoring/health").await.unwrap();
        let mode = &health["checks"]["analyzer_mode"];
        assert!(mode["ok"] == false && mode["latency_ms"].is_number(), "{health}");
        assert_ne!(health["status"], "healthy", "{health}");
    }
    toggled(false).await;
    leader_is(&cluster, "ACTIVE").await;
    told(&telegram, "RECOVERED", 1, logs).await;
    quiet(&cluster).await;
    assert_eq!(telegram.delivered().len(), 2, "{texts:?} {:#?}", telegram.delivered());
    cluster.finish().await;
}
