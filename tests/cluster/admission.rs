//! Who may send signals, and how many: behind a proxy, one instance.

use reqwest::StatusCode;
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::member::TOKEN;
use crate::support::wait;

/// One a second, and so many at once.
const QUOTA: usize = 60;

/// A delivery that the proxy on this machine passes on from `source`: status, seconds to wait, body.
async fn from(cluster: &Cluster, source: &str, body: &Value) -> (StatusCode, Option<u64>, Value) {
    let url = format!("{}/webhook", cluster.members[0].address);
    let request = cluster.client.post(url).bearer_auth(TOKEN).header("x-forwarded-for", source).json(body);
    let answer = request.send().await.unwrap();
    let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse().unwrap());
    (answer.status(), wait, answer.json().await.unwrap())
}

// R: B7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_beyond_its_quota_is_turned_away_with_everything_but_exits_and_the_operator_hears_of_it() {
    let env = vec![
        ("BATON_SIGNALS__ALLOW_FROM", "198.51.100.0/24".to_owned()),
        ("BATON_SIGNALS__TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ("BATON_SIGNALS__QUOTA_PER_MINUTE", QUOTA.to_string()),
    ];
    let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let kept = "SELECT count(*) FROM signal_rejection";

    let (status, _, problem) = from(&cluster, "203.0.113.7", &base("stranger", GOLD, 140_000)).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::FORBIDDEN, &json!("SENDER_NOT_ALLOWED")),
        "{problem}"
    );

    // A broken alert in a loop: each body is kept until there are too many of them.
    let broken = json!({ "type": "BASE_ENTRY" });
    let mut taken = 0;
    let wait = loop {
        let (status, wait, problem) = from(&cluster, "198.51.100.1", &broken).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(problem["code"], "QUOTA_EXCEEDED", "{problem}");
            break wait;
        }
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        taken += 1;
        assert!(taken < 10 * QUOTA, "nobody stops it");
    };
    assert!(taken >= QUOTA, "{taken} are within the quota");
    assert_eq!(wait, Some(1), "one a second");
    assert_eq!(cluster.count(kept).await, i64::try_from(taken).unwrap(), "what is turned away is not stored");

    // What takes risk off is taken at once, and others are not concerned.
    let (status, _, accepted) = from(&cluster, "198.51.100.2", &base("in", GOLD, 140_000)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{accepted}");
    assert_eq!(cluster.terminal(accepted["id"].as_str().unwrap()).await["status"], "executed");
    let (status, ..) = from(&cluster, "198.51.100.1", &broken).await;
    let (exit_status, _, accepted) = from(&cluster, "198.51.100.1", &exit("out", GOLD, "ALL", 140_000)).await;
    // Busy machines let a second pass between two requests; then the broken one was taken.
    assert!(matches!(status.as_u16(), 422 | 429), "{status}");
    assert_eq!(exit_status, StatusCode::ACCEPTED, "{accepted}");
    assert_eq!(cluster.terminal(accepted["id"].as_str().unwrap()).await["status"], "executed");

    wait::until("there is room again", PATIENCE, async || {
        let (status, _, answer) = from(&cluster, "198.51.100.1", &base("later", GOLD, 140_000)).await;
        if status == StatusCode::ACCEPTED { Ok(()) } else { Err((status, answer)) }
    })
    .await;
    let told = "SELECT count(*) FROM error_notifications_log
        WHERE error_type = 'SIGNALS_OVER_QUOTA' AND scope = '198.51.100.1'";
    wait::until("the operator is told once", PATIENCE, async || {
        let told = cluster.count(told).await;
        if told == 1 { Ok(()) } else { Err(told) }
    })
    .await;
    let turned_away = "baton_signals_total{outcome=\"over_quota\",type=\"OTHER\"}";
    assert!(cluster.members[0].metric(turned_away).await > Some(0.0));
    cluster.finish().await;
}
