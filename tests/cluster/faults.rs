//! What an operator meets on a bad day: each fault is a sentence that says what to do, and goes away by itself.

use local::{Binaries, Stores};
use reqwest::StatusCode;
use rust_decimal::dec;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE, client, launch};
use crate::support::database::{connect, folder_for_stores};
use crate::support::member::Member;
use crate::support::paper::Paper;
use crate::support::process::Launch;
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;

/// T of the members here.
const T: std::time::Duration = std::time::Duration::from_secs(1);

/// Stores and a bridge, and no member yet.
struct Ground {
    stores: Stores,
    paper: Paper,
    folder: TempDir,
    client: reqwest::Client,
}

impl Ground {
    async fn new() -> Self {
        Self::on(Stores::temporary().await.unwrap()).await
    }

    async fn on(stores: Stores) -> Self {
        let (folder, client) = (tempfile::tempdir().unwrap(), client());
        let paper = Paper::start(folder.path(), "live", None, client.clone()).await;
        Self { stores, paper, folder, client }
    }

    fn launch(&self, name: &str, env: &[(&'static str, &str)]) -> Launch {
        let env = env.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let options = Options { env, ..Options::default() };
        launch(name, &self.stores, &self.paper, &options, self.folder.path())
    }

    async fn member(&self, env: &[(&'static str, &str)]) -> Member {
        Member::start("b1", self.launch("b1", env), self.client.clone()).await
    }
}

/// Waits until the instance says this of itself, and gives the sentence.
async fn says(member: &Member, state: &str, words: &[&str]) -> String {
    wait::until(&format!("{} says {state}: {words:?}", member.name), PATIENCE, async || {
        let health = member.json("/healthz").await.unwrap_or_default();
        let operational = &health["operational"];
        let sentence = operational["reason"].as_str().unwrap_or_default().to_owned();
        let all = format!("{} {sentence}", operational["code"].as_str().unwrap_or_default());
        let fits = operational["state"] == state && words.iter().all(|word| all.contains(word));
        if fits { Ok(sentence) } else { Err((health, member.process.tail())) }
    })
    .await
}

/// It serves and lives, is not ready, and says why.
async fn is_up_but_not_ready(member: &Member) {
    assert_eq!(member.get("/livez").await.unwrap().0, StatusCode::OK);
    let (status, text) = member.get("/readyz").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
    let (status, answer) = member.deliver(&base("early", GOLD, 140_000)).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
}

/// Everything that can be read without naming one thing.
const READS: [&str; 32] = [
    "/",
    "/healthz",
    "/livez",
    "/startupz",
    "/readyz",
    "/leader",
    "/metrics",
    "/runbook",
    "/api/v1/signals",
    "/api/v1/signals/list",
    "/api/v1/orders",
    "/api/v1/trades",
    "/api/v1/equity",
    "/api/status",
    "/api/balance",
    "/api/positions",
    "/api/history",
    "/api/v1/positions",
    "/api/v1/positions/diff",
    "/api/v1/cash",
    "/api/v1/switches",
    "/api/v1/cluster",
    "/api/v1/cluster/history",
    "/api/v1/monitoring/health",
    "/api/v1/monitoring/status",
    "/api/v1/monitoring/connection-health",
    "/api/v1/monitoring/checks",
    "/api/v1/monitoring/states",
    "/api/v1/errors",
    "/api/v1/events",
    "/api/v1/errors/summary",
    "/api/v1/openapi.json",
];

/// While it starts every route answers: with what is known, or that it is not known yet.
async fn every_route_answers(member: &Member) {
    for route in READS {
        let (status, text) = member.get(route).await.unwrap_or_else(|| panic!("{route} does not answer"));
        if status == StatusCode::OK {
            assert!(!text.is_empty() && text != "null", "{route}: {text}");
            continue;
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{route}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["code"], "INITIALIZING", "{route}: {text}");
        assert!(problem["detail"].as_str().unwrap().contains("status: initializing"), "{route}: {text}");
    }
}

async fn trades(member: &Member) {
    wait::until(&format!("{} trades", member.name), PATIENCE, async || {
        if member.trades().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
}

/// Starts a member that must end by itself; gives what it said.
pub async fn fails(launch: Launch) -> String {
    let (mut process, _stdout) = launch.start();
    let status = process.exit(PATIENCE).await;
    let said = std::fs::read_to_string(&process.log).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_setting() {
    let ground = Ground::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = fails(ground.launch("b1", &[("BATON_HTTP__LISTEN", &address)])).await;
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    assert!(said.contains("BATON_HTTP__LISTEN"), "{said}");
}

// R: C5, K1; LESSONS "database down at start"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_an_instance_stays_up_and_goes_on_when_it_comes() {
    let ground = Ground::new().await;
    ground.stores.postgres().stop().await.unwrap();
    let member = ground.member(&[]).await;
    says(&member, "WAITING", &["DB_UNAVAILABLE", "check that PostgreSQL runs", "postgres.url"]).await;
    is_up_but_not_ready(&member).await;
    every_route_answers(&member).await;

    ground.stores.postgres().start().await.unwrap();
    trades(&member).await;
    assert!(member.is_ready().await);
}

/// A round of checks now: that of Redis fails, and its sentence has these words.
async fn redis_fails(member: &Member, words: &[&str]) {
    wait::until(&format!("the check of Redis says {words:?}"), PATIENCE, async || {
        let answer = member.command("/api/v1/monitoring/check", &json!({})).await;
        let checks = answer.as_ref().and_then(|(_, round)| round["report"]["checks"].as_array());
        let redis = checks.and_then(|checks| checks.iter().find(|outcome| outcome["check"] == "redis"));
        let fits = redis.is_some_and(|outcome| {
            let detail = outcome["detail"].as_str().unwrap_or_default();
            outcome["up"] == false && words.iter().all(|word| detail.contains(word))
        });
        if fits { Ok(()) } else { Err(answer) }
    })
    .await;
}

// R: H1, S8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_first_instance_leads_all_the_same_and_says_so() {
    let ground = Ground::new().await;
    ground.stores.redis().stop().await.unwrap();
    let member = ground.member(&[("BATON_HEALTH__CHECK_TIMEOUT", "1")]).await;
    trades(&member).await;
    member.says("check the address and that Redis is up").await;
    redis_fails(&member, &["check that Redis runs", "redis.url"]).await;
    let degraded = |wanted: f64| {
        let member = &member;
        async move {
            wait::until(&format!("ha_degraded is {wanted}"), PATIENCE, async || {
                let found = member.metric("baton_ha_degraded").await;
                if found == Some(wanted) { Ok(()) } else { Err((found, member.process.tail())) }
            })
            .await;
        }
    };
    degraded(1.0).await;
    ground.stores.redis().start().await.unwrap();
    degraded(0.0).await;
    assert_eq!(member.metric("baton_leader_epoch").await, Some(1.0), "Redis moved nothing");

    // One that is there and does not answer.
    ground.stores.redis().pause();
    redis_fails(&member, &["no answer within 1 s", "see whether Redis hangs"]).await;
    ground.stores.redis().resume();
    degraded(0.0).await;
    assert_eq!(member.metric("baton_leader_epoch").await, Some(1.0), "nor did this");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_the_password_is_not() {
    let kept = folder_for_stores();
    let dir = kept.path().join("stores");
    let stores =
        Stores::start(local::Options { dir, durable: false, binaries: Binaries::from_env() }).await.unwrap();
    let right = stores.database_url();
    let ground = Ground::on(stores).await;
    let password = right.split([':', '@']).nth(2).unwrap();
    let wrong = right.replace(password, "wrong-s3cret");
    assert_ne!(wrong, right);
    let member = ground.member(&[("BATON_POSTGRES__URL", &wrong)]).await;
    says(&member, "ERROR", &["DB_AUTH", "check the user and password", "postgres.url"]).await;
    is_up_but_not_ready(&member).await;
    let log = member.log();
    assert!(!log.contains("wrong-s3cret"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_not_touched() {
    let ground = Ground::new().await;
    let ledger = baton::ledger::Ledger::new(&ground.stores.database_url(), 1, "test").unwrap();
    ledger.migrate().await.unwrap();
    let sql = connect(&ground.stores.database_url()).await;
    let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (999, 'x', '', '0')";
    sql.execute(later, &[]).await.unwrap();
    // It took something away.
    sql.execute("UPDATE schema_floor SET version = 999", &[]).await.unwrap();
    let member = ground.member(&[]).await;
    says(&member, "ERROR", &["SCHEMA_TOO_NEW", "999", "run the newer baton"]).await;
    is_up_but_not_ready(&member).await;

    // The newer version's rows gone, as after a restored backup: it goes on by itself.
    sql.execute("DELETE FROM refinery_schema_history WHERE version = 999", &[]).await.unwrap();
    trades(&member).await;
}

// R: HA.md rule 22
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_cluster_on_the_account_is_refused() {
    let ground = Ground::new().await;
    let ledger = baton::ledger::Ledger::new(&ground.stores.database_url(), 1, "test").unwrap();
    ledger.migrate().await.unwrap();
    ledger.guard_account("PAPER1", "the-other").await.unwrap();
    let member = ground.member(&[]).await;
    says(&member, "ERROR", &["ACCOUNT_TAKEN", "PAPER1", "the-other", "Stop that cluster"]).await;
    is_up_but_not_ready(&member).await;
}

// R: S12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_a_second_process_of_a_member_refuses_to_start_and_a_restart_after_kill_does_not() {
    let ground = Ground::new().await;
    let mut member = ground.member(&[]).await;
    trades(&member).await;
    let said = fails(Launch { log: ground.folder.path().join("twin.log"), ..ground.launch("b1", &[]) }).await;
    assert!(said.contains("b1") && said.contains("another"), "{said}");
    assert!(member.trades().await, "the first is not disturbed");

    member.process.kill().await;
    let begun = std::time::Instant::now();
    member.restart().await;
    trades(&member).await;
    println!("a restart after kill -9 trades after {:?}", begun.elapsed());
}

// R: S12: rule 22: the host of the first process is gone, its sessions half-open. Nobody but the counter is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_a_newcomer_beside_a_lost_host_gets_in_after_t() {
    let ground = Ground::new().await;
    let mut launch = ground.launch("b1", &[]);
    let link = Proxy::before(&mut launch, "BATON_POSTGRES__URL").await;
    let mut first = Member::start("b1", launch, ground.client.clone()).await;
    trades(&first).await;
    link.set(Link::Stall(Way::Both));
    first.process.kill().await;
    let sql = connect(&ground.stores.database_url()).await;
    let held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'baton/b1/identity'";
    let held: i64 = sql.query_one(held, &[]).await.unwrap().get(0);
    assert_eq!(held, 1, "PostgreSQL has not noticed");
    let begun = std::time::Instant::now();
    let log = ground.folder.path().join("newcomer.log");
    let second =
        Member::start("b1", Launch { log: log.clone(), ..ground.launch("b1", &[]) }, ground.client.clone())
            .await;
    trades(&second).await;
    let took = begun.elapsed();
    println!("beside a lost host it trades after {took:?}; T = {T:?}");
    assert!(took >= T, "not before the counter was still for T: {took:?}");
    assert!(took < T * 10, "{took:?}");
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("ends the session that held the place of member b1"), "{said}");
}

// R: S8, H1: an outage of Redis moves nothing and loses no signal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_redis_outage_moves_nothing() {
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    cluster.stores.redis().kill().await.unwrap();
    let view = cluster.play((leader + 1) % 3, &base("without-redis", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    // Longer than the lease would have lived: twelve renewals are two T.
    let beats = "SELECT counter FROM leader_heartbeat";
    let begun = cluster.count(beats).await;
    wait::until("the leader's heart beats on", PATIENCE, async || match cluster.count(beats).await - begun {
        12.. => Ok(()),
        few => Err(few),
    })
    .await;
    cluster.stores.redis().start().await.unwrap();
    cluster.all_ready().await;
    assert_eq!((cluster.leader().await, cluster.epoch().await), (leader, epoch));
    cluster.finish().await;
}

// R: C5, rule 16: the database goes and comes back; what was held is held, and trading goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_outage_stops_trading_and_ends_with_it() {
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(0, &base("before", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.stores.postgres().kill().await.unwrap();
    for member in &cluster.members {
        wait::until("nobody is ready without the database", PATIENCE, async || {
            if member.is_ready().await { Err(()) } else { Ok(()) }
        })
        .await;
        assert_eq!(member.get("/livez").await.unwrap().0, StatusCode::OK);
    }
    let begun = std::time::Instant::now();
    cluster.stores.postgres().start().await.unwrap();
    let accepts = begun.elapsed();
    cluster.leader().await;
    println!("trading {:?} after the database accepts (up after {accepts:?})", begun.elapsed() - accepts);
    let cluster = cluster.reconnected().await;
    let out = cluster.play(1, &crate::signals::exit("after", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: K1: `baton run | head`, a full disk, a service manager that closed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_whose_stdout_nobody_reads_takes_part() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    let mut launch = cluster.members[0].launch.clone();
    launch.env.insert("BATON_CLUSTER__MEMBER".to_owned(), "unheard".to_owned());
    launch.log = cluster.folder().join("unheard.log");
    let (mut process, stdout) = launch.start();
    drop(stdout);
    wait::until("it is active", PATIENCE, async || {
        let shown = cluster.members[0].json("/api/v1/cluster").await.unwrap_or_default();
        let active = |one: &serde_json::Value| one["member"] == "unheard" && one["status"] == "active";
        let is_there = shown["instances"].as_array().is_some_and(|listed| listed.iter().any(active));
        if is_there { Ok(()) } else { Err((shown, process.tail())) }
    })
    .await;
    assert!(process.tail().contains("listens on http://127.0.0.1:"), "{}", process.tail());
    process.signal(rustix::process::Signal::TERM);
    assert!(process.exit(PATIENCE).await.success());
    cluster.finish().await;
}
