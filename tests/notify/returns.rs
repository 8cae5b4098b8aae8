//! What comes back ends the waiting at once, not after the minutes between two looks.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cluster::{phase, quick, told};
use crate::double::Telegram;
use crate::support::cluster::{Cluster, Options, PATIENCE, client, launch};
use crate::support::member::Member;
use crate::support::paper::Paper;
use crate::support::proxy::{Link, Proxy};
use crate::support::stalls::Stalls;
use crate::support::{database, wait};

/// From a store that takes connections to a cluster that trades, all checks passing.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Whoever waits looks again after five minutes, as in production.
fn patient(telegram: &Telegram) -> Vec<(&'static str, String)> {
    let mut env = quick(telegram);
    env.push(("BATON_HEALTH__WAITING_MODE_CHECK_INTERVAL", "300".to_owned()));
    env
}

async fn waits(members: &[Member]) {
    for member in members {
        phase(member, "WAITING").await;
    }
}

async fn is_over(members: &[Member]) {
    for member in members {
        phase(member, "PASSING").await;
    }
    wait::until("somebody trades", PATIENCE, async || {
        for member in members {
            if member.trades().await {
                return Ok(());
            }
        }
        Err(members.iter().map(|member| member.process.tail()).collect::<Vec<_>>())
    })
    .await;
}

// R: N5: WAITING ends when what was away comes back, found by whoever meets it first; at the start, too; and says that it lasts
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_ends_the_waiting_at_once_however_long_the_interval() {
    let (telegram, stalls) = (Telegram::start().await, Stalls::watch());
    let mut env = patient(&telegram);
    env.push(("BATON_HEALTH__WAITING_MODE_STATUS_INTERVAL", "1".to_owned()));
    let mut bridges = Vec::new();
    let mut cluster = Cluster::wired(Options { members: 2, env, ..Options::default() }, async |launch| {
        bridges.push(Proxy::before(launch, "BATON_BROKER__URL").await);
    })
    .await;

    cluster.stores.redis().kill().await.unwrap();
    waits(&cluster.members).await;
    cluster.stores.redis().start().await.unwrap();
    let back = stalls.begin();
    is_over(&cluster.members).await;
    assert!(back.took() < AT_ONCE, "Redis: {:?}", back.took());

    bridges.iter().for_each(|bridge| bridge.set(Link::Refuse));
    waits(&cluster.members).await;
    told(&telegram, "STILL_WAITING", 1, || format!("{:?}", cluster.logs())).await;
    bridges.iter().for_each(|bridge| bridge.set(Link::Open));
    let back = stalls.begin();
    is_over(&cluster.members).await;
    assert!(back.took() < AT_ONCE * 2, "the bridge: {:?}", back.took());

    cluster.stores.postgres().kill().await.unwrap();
    cluster.members[0].process.kill().await;
    cluster.members[0].restart().await;
    waits(&cluster.members).await;
    cluster.stores.postgres().start().await.unwrap();
    let back = stalls.begin();
    is_over(&cluster.members).await;
    assert!(back.took() < AT_ONCE, "PostgreSQL: {:?}", back.took());
    cluster.reconnected().await.finish().await;
}

// R: N6: not logged in from the start: ERROR and one message, alive; logged in: trading, and one message
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_nobody_has_logged_in_to_is_told_once_and_traded_on_when_somebody_does() {
    let telegram = Telegram::start().await;
    let (folder, client) = (tempfile::tempdir().unwrap(), client());
    let stores = local::Stores::temporary().await.unwrap();
    let paper = Paper::start(folder.path(), "live", None, client.clone()).await;
    paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    let options = Options { env: patient(&telegram), ..Options::default() };
    let mut members = Vec::new();
    for name in ["b1", "b2"] {
        let launch = launch(name, &stores, &paper, &options, folder.path());
        members.push(Member::start(name, launch, client.clone()).await);
    }
    let logs = || members.iter().map(|member| member.process.tail()).collect::<Vec<_>>().join("\n");
    wait::until("the leader is in ERROR, the other one follows", PATIENCE, async || {
        let mut seen: Vec<Value> = Vec::new();
        for member in &members {
            let health = member.json("/healthz").await.unwrap_or_default();
            seen.push(json!([health["operational"]["state"], health["operational"]["code"]]));
        }
        let wanted = [json!(["ERROR", "SESSION_EXPIRED"]), json!(["WAITING", null])];
        if wanted.iter().all(|state| seen.contains(state)) { Ok(()) } else { Err((seen, logs())) }
    })
    .await;
    let texts = told(&telegram, "BROKER_SESSION", 1, logs).await;
    assert!(texts[0].contains("CRITICAL") && texts[0].contains("RUNBOOK.md#"), "{texts:?}");
    for member in &members {
        let checks = phase(member, "WAITING").await["report"]["checks"].as_array().unwrap().clone();
        let session = checks.iter().find(|check| check["check"] == "broker_session").unwrap();
        assert_eq!((&session["up"], &session["class"]), (&json!(false), &json!("OPERATOR")), "{session}");
        assert_eq!(member.get("/livez").await.unwrap().0, StatusCode::OK, "nobody exits");
    }

    paper.heal().await;
    is_over(&members).await;
    told(&telegram, "RECOVERED BROKER_SESSION", 1, logs).await;
    let sql = database::connect(&stores.database_url()).await;
    wait::until("the outbox is empty", PATIENCE, async || {
        let waiting = "SELECT (SELECT count(*) FROM notification_outbox WHERE state = 'queued')
            + (SELECT count(*) FROM notification_item)";
        let left: i64 = sql.query_one(waiting, &[]).await.unwrap().get(0);
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(telegram.delivered().len(), 2, "{:#?}", telegram.delivered());
}
