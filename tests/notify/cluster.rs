//! Three instances of the built binary, real stores, the paper bridge behind a proxy, and a Bot API double.

use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::double::Telegram;
use crate::support::cluster::{Cluster, Options, PATIENCE, client, launch};
use crate::support::member::Member;
use crate::support::paper::Paper;
use crate::support::proxy::{Link, Proxy};
use crate::support::wait;

/// Everything short: a round a second, a second of gathering.
pub fn quick(telegram: &Telegram) -> Vec<(&'static str, String)> {
    let mut env = telegram.env();
    env.extend(
        [
            ("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "1"),
            ("BATON_NOTIFY__NOTIFICATION_TIMEOUT", "1"),
            ("BATON_NOTIFY__NOTIFICATION_START_STOP", "false"),
            ("BATON_HEALTH__CHECK_INTERVAL", "1"),
            ("BATON_HEALTH__WAITING_MODE_CHECK_INTERVAL", "2"),
            ("BATON_HEALTH__STARTUP_RETRY_DELAY_BASE", "1"),
            ("BATON_HEALTH__MAX_STARTUP_RETRIES", "1"),
            ("BATON_HEALTH__CHECK_TIMEOUT", "2"),
            ("BATON_HEALTH__MIN_DISK_FREE_MB", "0"),
            ("BATON_BROKER__READ_TIMEOUT_MS", "1000"),
        ]
        .map(|(key, value)| (key, value.to_owned())),
    );
    env
}

pub async fn cluster(telegram: &Telegram) -> Cluster {
    Cluster::with(Options { env: quick(telegram), ..Options::default() }).await
}

/// The messages with this in them, once there are so many.
pub async fn told(telegram: &Telegram, part: &str, count: usize, logs: impl Fn() -> String) -> Vec<String> {
    wait::until(&format!("{count} messages with {part:?}"), PATIENCE, async || {
        let found = telegram.with(part);
        if found.len() >= count { Ok(found) } else { Err((telegram.delivered(), logs())) }
    })
    .await
}

/// Waits until a member's series has the value.
async fn metric(member: &Member, series: &str, wanted: f64) {
    wait::until(&format!("{} shows {series} {wanted}", member.name), PATIENCE, async || {
        let found = member.metric(series).await;
        if found == Some(wanted) { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Waits until nothing is under way, so that what did not come will not come.
pub async fn quiet(cluster: &Cluster) {
    wait::until("the outbox is empty", PATIENCE, async || {
        let waiting = "SELECT (SELECT count(*) FROM notification_outbox WHERE state = 'queued')
            + (SELECT count(*) FROM notification_item)";
        match cluster.count(waiting).await {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}

pub async fn phase(member: &Member, wanted: &str) -> Value {
    wait::until(&format!("{} is {wanted}", member.name), PATIENCE, async || {
        let checks = member.json("/api/v1/monitoring/checks").await.unwrap_or_default();
        if checks["report"]["phase"] == wanted { Ok(checks) } else { Err((checks, member.process.tail())) }
    })
    .await
}

// R: N7, N10: three instances see one fault: one message, and one when it is over
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_outage_is_told_once_by_three_instances_and_its_end_once() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    let logs = || format!("{:?}", cluster.logs());
    cluster.stores.redis().kill().await.unwrap();
    told(&telegram, "REDIS_DEGRADED", 1, logs).await;
    let reporters = "SELECT coalesce(max(cardinality(reported_by)), 0)::bigint FROM error_notifications_log
        WHERE error_type = 'REDIS_DEGRADED'";
    wait::until("every instance has seen it", PATIENCE, async || match cluster.count(reporters).await {
        3 => Ok(()),
        few => Err(few),
    })
    .await;
    metric(&cluster.members[0], "baton_unresolved_errors{type=\"REDIS_DEGRADED\"}", 1.0).await;
    cluster.stores.redis().start().await.unwrap();
    told(&telegram, "RECOVERED REDIS_DEGRADED", 1, logs).await;
    quiet(&cluster).await;
    metric(&cluster.members[0], "baton_unresolved_errors{type=\"REDIS_DEGRADED\"}", 0.0).await;
    let counted = async |result: &str| {
        let series = format!("baton_notifications_total{{result=\"{result}\",type=\"REDIS_DEGRADED\"}}");
        let mut sum = 0.0;
        for member in &cluster.members {
            sum += member.metric(&series).await.unwrap();
        }
        sum
    };
    wait::until("both messages are counted once, and who was not told of", PATIENCE, async || {
        let seen = (counted("sent").await, counted("throttled").await, counted("failed").await);
        if seen.0 == 2.0 && seen.1 >= 2.0 && seen.2 == 0.0 { Ok(()) } else { Err(seen) }
    })
    .await;
    assert_eq!(telegram.with("REDIS_DEGRADED").len(), 2, "{:#?}", telegram.delivered());
    let member = &cluster.members[0];
    let summary = member.json("/api/v1/errors/summary").await.unwrap();
    assert_eq!(summary["unresolved"], 0, "{summary}");
    let errors = member.json("/api/v1/errors?all=true").await.unwrap();
    let redis = errors["errors"].as_array().unwrap().iter().find(|e| e["error_type"] == "REDIS_DEGRADED");
    assert!(redis.unwrap()["occurrence_count"].as_i64().unwrap() >= 3, "{errors}");
    assert_eq!(member.metric("baton_health_check_up{check=\"redis\"}").await, Some(1.0));
    metric(member, "baton_notification_outbox_depth", 0.0).await;
    cluster.finish().await;
}

// R: N11: killed between claim and send, the leader being the sender, and between send and note: delivered by another, at
// most as a marked repeat
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_killed_on_the_way_leaves_a_message_that_another_delivers() {
    for (place, deliveries) in [("after_notification_claim", 1), ("after_notification_send", 2)] {
        let telegram = Telegram::start().await;
        let mut cluster = cluster(&telegram).await;
        // While the others stand still the leader sends.
        let leader = cluster.leader().await;
        let alone = place == "after_notification_claim";
        let others = (0..cluster.members.len()).filter(|index| alone && *index != leader);
        let others: Vec<usize> = others.collect();
        others.iter().for_each(|index| cluster.members[*index].process.signal(Signal::STOP));
        cluster.arm(place, "kill");
        cluster.stores.redis().kill().await.unwrap();
        wait::until("a sender dies on the way", PATIENCE, async || {
            if cluster.is_armed() { Err(telegram.delivered()) } else { Ok(()) }
        })
        .await;
        if alone {
            cluster.members[leader].process.exit(PATIENCE).await;
            assert_eq!(telegram.tried(), 0, "{:#?}", telegram.delivered());
        }
        others.iter().for_each(|index| cluster.members[*index].process.signal(Signal::CONT));
        let logs = || format!("{:?}", cluster.logs());
        let texts = told(&telegram, "REDIS_DEGRADED", deliveries, logs).await;
        assert_eq!(texts.len(), deliveries, "{place}: {texts:#?}");
        assert!(texts[deliveries - 1].starts_with("(possible repeat) "), "{place}: {texts:#?}");
        assert!(deliveries == 1 || !texts[0].contains("possible repeat"), "{place}: {texts:#?}");
        cluster.stores.redis().start().await.unwrap();
        cluster.revive().await;
        cluster.all_ready().await;
        cluster.finish().await;
    }
}

// R: N5, N7: the database away: one message by Redis's word while it is, one when it is back
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_outage_is_told_once_while_it_lasts_and_its_end_once() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    cluster.stores.postgres().kill().await.unwrap();
    let logs = || format!("{:?}", cluster.logs());
    told(&telegram, "DATABASE_ERROR", 1, logs).await;
    for member in &cluster.members {
        let checks = phase(member, "WAITING").await;
        let checks = checks["report"]["checks"].as_array().unwrap().clone();
        let of = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap().clone();
        assert_eq!((&of("postgres")["up"], &of("postgres")["class"]), (&json!(false), &json!("TRANSIENT")));
        assert_eq!((&of("clock")["up"], &of("bridge")["up"]), (&Value::Null, &json!(true)));
    }
    cluster.stores.postgres().start().await.unwrap();
    told(&telegram, "RECOVERED DATABASE_ERROR", 1, || format!("{:?}", cluster.logs())).await;
    let cluster = cluster.reconnected().await;
    cluster.leader().await;
    for member in &cluster.members {
        phase(member, "PASSING").await;
    }
    quiet(&cluster).await;
    assert_eq!(telegram.with("DATABASE_ERROR").len(), 2, "{:#?}", telegram.delivered());
    cluster.finish().await;
}

// R: N3, N5, K1: the bridge is down from the start: retries, WAITING, one message; it comes: trading, one message
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_is_down_from_the_start_is_waited_for_and_told_once() {
    let telegram = Telegram::start().await;
    let (folder, client) = (tempfile::tempdir().unwrap(), client());
    let stores = local::Stores::temporary().await.unwrap();
    let paper = Paper::start(folder.path(), "live", None, client.clone()).await;
    let proxy = Proxy::start(paper.http.strip_prefix("http://").unwrap().parse().unwrap()).await;
    proxy.set(Link::Refuse);
    let options = Options { env: quick(&telegram), ..Options::default() };
    let mut members = Vec::new();
    for name in ["b1", "b2", "b3"] {
        let mut launch = launch(name, &stores, &paper, &options, folder.path());
        launch.env.insert("BATON_BROKER__URL".to_owned(), format!("http://{}", proxy.address));
        members.push(Member::start(name, launch, client.clone()).await);
    }
    let logs = || members.iter().map(|member| member.process.tail()).collect::<Vec<_>>().join("\n");
    let texts = told(&telegram, "STARTUP_ERROR", 1, logs).await;
    assert!(texts[0].contains("bridge: cannot reach the bridge"), "{texts:?}");
    for member in &members {
        let checks = phase(member, "WAITING").await;
        assert_eq!(checks["report"]["started"], false, "{checks}");
        assert_eq!(member.get("/livez").await.unwrap().0, StatusCode::OK, "nobody exits");
    }
    proxy.set(Link::Open);
    wait::until("somebody trades", PATIENCE, async || {
        for member in &members {
            if member.trades().await {
                return Ok(());
            }
        }
        Err(logs())
    })
    .await;
    told(&telegram, "RECOVERED STARTUP_ERROR", 1, logs).await;
    assert_eq!(telegram.with("STARTUP_ERROR").len(), 2, "{:#?}", telegram.delivered());

    // The bridge goes while trading: the engine waits at once, the operator hears once, and hears of its return.
    proxy.set(Link::Refuse);
    told(&telegram, "BROKER_ERROR", 1, logs).await;
    let url = format!("{}/api/v1/monitoring/check", members[0].address);
    let asked: Value = client.post(url).send().await.unwrap().json().await.unwrap();
    assert_eq!((&asked["healthy"], &asked["fresh"]), (&json!(false), &json!(true)), "{asked}");
    proxy.set(Link::Open);
    told(&telegram, "RECOVERED BROKER_ERROR", 1, logs).await;
    assert_eq!(telegram.with("BROKER_ERROR").len(), 2, "{:#?}", telegram.delivered());

    // What operators grep for; the line of a message is written beside its delivery, which may come first.
    for line in [
        "[HEALTH-CHECK] bridge fails: cannot reach the bridge",
        "[HEALTH-CHECK] bridge passes again",
        "[STATE] STARTING -> WAITING: ",
        "[STATE] WAITING -> ACTIVE: leading under epoch ",
        "[NOTIFICATION] [test] ERROR STARTUP_ERROR",
        "[NOTIFICATION] [test] RECOVERED BROKER_ERROR",
    ] {
        wait::until(&format!("{line:?} is logged"), PATIENCE, async || {
            let all: String = members.iter().map(Member::log).collect();
            if all.contains(line) { Ok(()) } else { Err(all) }
        })
        .await;
    }
}

/// Waits until one member leads in this state.
pub async fn leader_is(cluster: &Cluster, state: &str) -> usize {
    wait::until(&format!("the leader is {state}"), PATIENCE, async || {
        let mut seen = Vec::new();
        for (index, member) in cluster.members.iter().enumerate() {
            let operational = member.json("/healthz").await.unwrap_or_default()["operational"].take();
            if operational["state"] == state {
                return Ok(index);
            }
            seen.push(operational);
        }
        Err((seen, cluster.logs()))
    })
    .await
}

// R: N6: the broker's session is gone: told once, apart from whether the bridge answers
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_told_once_and_so_is_the_next_login() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    cluster.paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    let logs = || format!("{:?}", cluster.logs());
    told(&telegram, "BROKER_SESSION", 1, logs).await;
    let checks = phase(&cluster.members[0], "WAITING").await;
    let checks = checks["report"]["checks"].as_array().unwrap().clone();
    let session = checks.iter().find(|check| check["check"] == "broker_session").unwrap();
    assert_eq!((&session["up"], &session["class"]), (&json!(false), &json!("OPERATOR")), "{session}");
    let leader = leader_is(&cluster, "ERROR").await;
    let health = cluster.members[leader].json("/healthz").await.unwrap_or_default();
    assert_eq!(health["operational"]["code"], "SESSION_EXPIRED", "{health}");
    cluster.paper.heal().await;
    leader_is(&cluster, "ACTIVE").await;
    told(&telegram, "RECOVERED BROKER_SESSION", 1, logs).await;
    cluster.leader().await;
    quiet(&cluster).await;
    assert_eq!(telegram.with("BROKER_SESSION").len(), 2, "{:#?}", telegram.delivered());
    cluster.finish().await;
}

// R: B18, issue 7's "session expired at 03:00": while the market rests a session that ends, and a login, are no news
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_while_the_market_rests_alarms_nobody() {
    let telegram = Telegram::start().await;
    let (folder, client) = (tempfile::tempdir().unwrap(), client());
    let stores = local::Stores::temporary().await.unwrap();
    let paper = Paper::at_rest(folder.path(), client.clone()).await;
    let options = Options { env: quick(&telegram), ..Options::default() };
    let mut members = Vec::new();
    for name in ["b1", "b2", "b3"] {
        let launch = launch(name, &stores, &paper, &options, folder.path());
        members.push(Member::start(name, launch, client.clone()).await);
    }
    for member in &members {
        phase(member, "PASSING").await;
    }
    paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    for member in &members {
        wait::until("the dead session is seen again and again", PATIENCE, async || {
            let checks = member.json("/api/v1/monitoring/checks").await.unwrap_or_default();
            let listed = checks["report"]["checks"].as_array().cloned().unwrap_or_default();
            let session = listed.iter().find(|check| check["check"] == "broker_session").cloned();
            match session {
                Some(session) if session["failures"].as_u64() >= Some(3) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    paper.heal().await;
    for member in &members {
        phase(member, "PASSING").await;
    }
    let errors = members[0].json("/api/v1/errors?all=true").await.unwrap();
    assert_eq!(errors["errors"], json!([]), "{errors}");
    assert!(telegram.delivered().is_empty(), "{:#?}", telegram.delivered());
}

// R: issue 7, item 3: more starts than allowed without a clean stop: ERROR, one message, no trading until acknowledged
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_storm_waits_for_an_operator() {
    let telegram = Telegram::start().await;
    let mut env = quick(&telegram);
    env.push(("BATON_HEALTH__MAX_RESTARTS", "2".to_owned()));
    let mut cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    // A clean stop does not count, however often.
    for _ in 0..3 {
        cluster.members[0].process.signal(Signal::TERM);
        cluster.members[0].process.exit(PATIENCE).await;
        cluster.members[0].restart().await;
        cluster.leader().await;
    }
    for _ in 0..3 {
        cluster.members[0].process.kill().await;
        cluster.members[0].restart().await;
        if telegram.with("RESTART_STORM").is_empty() {
            wait::until("it is up", PATIENCE, async || {
                let health = cluster.members[0].json("/healthz").await.unwrap_or_default();
                let state = health["operational"]["state"].as_str().unwrap_or_default().to_owned();
                if ["ACTIVE", "ERROR"].contains(&state.as_str()) { Ok(()) } else { Err(health) }
            })
            .await;
        }
    }
    let member = &cluster.members[0];
    let logs = || member.process.tail();
    let texts = told(&telegram, "RESTART_STORM", 1, logs).await;
    assert!(texts[0].contains("CRITICAL") && texts[0].contains("baton ack restart-storm"), "{texts:?}");
    let health = member.json("/healthz").await.unwrap();
    assert_eq!(health["operational"]["code"], "RESTART_STORM", "{health}");
    assert_eq!(member.get("/livez").await.unwrap().0, StatusCode::OK);
    assert!(!member.is_ready().await);
    let acknowledge = async |body: Value| {
        let answer = member.command("/api/v1/restart-storm/acknowledge", &body).await;
        answer.map(|(status, answer)| (status.as_u16(), answer)).expect("it answers")
    };
    for without in [json!({}), json!({ "reason": " " }), json!({ "member": "b1" })] {
        let (status, problem) = acknowledge(without).await;
        assert_eq!((status, &problem["code"]), (400, &json!("BAD_REQUEST")), "{problem}");
    }
    // Nobody else's word lets it go on.
    let (status, answer) = acknowledge(json!({ "reason": "its disk was full", "member": "b9" })).await;
    assert_eq!((status, &answer["acknowledged_starts"]), (200, &json!(0)), "{answer}");
    assert!(!member.is_ready().await);
    let (status, answer) = acknowledge(json!({ "reason": "out of memory" })).await;
    assert_eq!((status, answer["acknowledged_starts"].as_i64() >= Some(3)), (200, true), "{answer}");
    cluster.leader().await;
    told(&telegram, "RECOVERED OPERATIONAL_ERROR RESTART_STORM", 1, logs).await;
    assert_eq!(telegram.with("RESTART_STORM").len(), 2, "{:#?}", telegram.delivered());
    cluster.finish().await;
}

// A failover is news; whoever lives tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_told_by_those_who_live() {
    let telegram = Telegram::start().await;
    let mut cluster = cluster(&telegram).await;
    let (old, new, _) = cluster.kill_leader().await;
    let texts = told(&telegram, "FAILOVER", 1, || format!("{:?}", cluster.logs())).await;
    let name = &cluster.members[new].name;
    assert!(texts[0].contains(&format!("{name} took over")), "{texts:?}");
    let errors = cluster.members[new].json("/api/v1/errors").await.unwrap();
    let kinds: Vec<_> =
        errors["errors"].as_array().unwrap().iter().map(|e| e["error_type"].clone()).collect();
    assert!(!kinds.contains(&json!("FAILOVER")), "a moment is no unresolved error: {errors}");
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    tokio::time::timeout(Duration::from_secs(30), quiet(&cluster)).await.unwrap();
    assert_eq!(telegram.with("FAILOVER").len(), 1, "{:#?}", telegram.delivered());
    cluster.finish().await;
}
