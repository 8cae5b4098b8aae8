//! Drills about links that are cut, stores that are away, and engines that stand still.

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use super::{block, done, equipped, prints, status_is, told, typed, with_a_position};
use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::process::died_of;
use crate::support::proxy::{Link, Proxy};
use crate::support::wait;

/// What an instance lacks, as any of them lists it.
const LACKS: &str =
    "curl -s $A/api/v1/cluster | jq '.instances[] | {member, alive, reaches_redis, reaches_broker}'";

// R: H6, L4
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_stale_links() {
    if !equipped() {
        return;
    }
    let (mut redis, mut bridge) = (Vec::new(), Vec::new());
    let env = vec![("BATON_HEALTH__CHECK_INTERVAL", "2".to_owned())];
    let cluster = Cluster::wired(Options { members: 2, env, ..Options::default() }, async |launch| {
        redis.push(Proxy::before(launch, "BATON_REDIS__URL").await);
        bridge.push(Proxy::before(launch, "BATON_BROKER__URL").await);
    })
    .await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    let follower = cluster.follower().await;
    // From its machine: the way that it takes itself.
    let own = "export REDIS_URL=$BATON_REDIS__URL BRIDGE=$BATON_BROKER__URL BATON_ADDRESS=$A\n";
    let ping = told("redis_stale", "redis-cli -u \"$REDIS_URL\" ping");
    let cases = [
        (&redis, "redis_stale", "REDIS_STALE", "\"reaches_redis\": false", ping),
        (&bridge, "bridge_stale", "BRIDGE_STALE", "\"reaches_broker\": false", "curl -s $BRIDGE/api/v1/ping"),
    ];
    for (links, section, code, lacks, ask) in cases {
        let ready = told(section, "curl -s $A/readyz");
        let ask = format!("{own}{}", told(section, ask));
        links[follower].set(Link::Refuse);
        prints(&cluster, follower, ready, code).await;
        prints(&cluster, follower, told(section, LACKS), lacks).await;
        let asked = typed(&cluster, follower, &ask).await;
        assert!(!asked.status.success() || !asked.stdout.starts_with(b"PONG"), "{asked:?}");
        if section == "bridge_stale" {
            let doctor = format!("{own}{}", told(section, "baton doctor"));
            wait::until("baton doctor finds it", PATIENCE, async || {
                let output = typed(&cluster, follower, &doctor).await;
                if output.status.success() { Err(output) } else { Ok(()) }
            })
            .await;
        }
        assert!(cluster.members[leader].is_ready().await, "the other one has its own link");
        links[follower].set(Link::Open);
        prints(&cluster, follower, ready, "ready").await;
        done(&cluster, follower, &ask).await;
    }
    assert_eq!(cluster.epoch().await, epoch, "nothing moved");
    cluster.finish().await;
}

// R: H6, C5, rule 16
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_stores_away() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.stores.postgres().stop().await.unwrap();
    // suspended: the leader sends nothing, and keeps its epoch.
    prints(
        &cluster,
        leader,
        told("suspended", "curl -s $A/api/v1/cluster | jq .this"),
        "\"role\": \"suspended\"",
    )
    .await;
    cluster.members[leader].says("suspended under epoch").await;
    // initializing: an instance that is started meanwhile waits for what it names.
    cluster.members[follower].process.kill().await;
    cluster.members[follower].restart().await;
    prints(&cluster, follower, "curl -s $A/readyz", "INITIALIZING").await;
    let state = told("initializing", "curl -s $A/healthz | jq .operational");
    prints(&cluster, follower, state, "DB_UNAVAILABLE").await;

    // registry_unavailable: with Redis gone, too, nobody can list the instances.
    cluster.stores.redis().stop().await.unwrap();
    prints(&cluster, leader, "curl -s $A/api/v1/cluster", "REGISTRY_UNAVAILABLE").await;
    let state = told("registry_unavailable", "curl -s $A/healthz | jq .operational");
    prints(&cluster, leader, state, "\"reason\"").await;
    status_is(&cluster, leader, 2).await;

    // Mitigation of all three: the stores come back, PostgreSQL first.
    cluster.stores.postgres().start().await.unwrap();
    cluster.stores.redis().start().await.unwrap();
    let cluster = cluster.reconnected().await;
    cluster.all_ready().await;
    let leader = cluster.leader().await;
    prints(&cluster, follower, told("initializing", "curl -s $A/startupz"), "started").await;
    told("registry_unavailable", "baton status");
    status_is(&cluster, leader, 0).await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, L2
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_db_pool() {
    if !equipped() {
        return;
    }
    let mut links = Vec::new();
    let cluster = Cluster::wired(Options { members: 1, ..Options::default() }, async |launch| {
        links.push(Proxy::before(launch, "BATON_POSTGRES__URL").await);
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    // Something that has to be recorded while the pool gets no connection.
    cluster.paper.fault(json!({ "fault": { "kind": "hang_after", "ms": 700 }, "verb": "placeorder" })).await;
    let accepted = cluster.post(0, &base("in-flight", GOLD, 140_000)).await;
    wait::until("the order is at the bridge", PATIENCE, async || {
        if cluster.paper.orders().await.is_empty() { Err(cluster.logs()) } else { Ok(()) }
    })
    .await;
    links[0].set(Link::Full);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baton/b1'";
    cluster.sql.batch_execute(end).await.unwrap();
    let state = told("db_pool", "curl -s $A/healthz | jq .operational");
    prints(&cluster, 0, state, "DB_POOL").await;
    cluster.members[0].says("no connection from the ledger's pool").await;
    let count = told(
        "db_pool",
        "psql \"$DATABASE_URL\" -c \"SELECT count(*), current_setting('max_connections') FROM pg_stat_activity\"",
    );
    let printed = done(&cluster, 0, count).await;
    assert!(printed.contains("(1 row)"), "{printed}");

    // Mitigation: there are connections again.
    links[0].set(Link::Open);
    prints(&cluster, 0, state, "ACTIVE").await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, H2, L1
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_draining() {
    if !equipped() {
        return;
    }
    let env = vec![("BATON_BROKER__ORDER_TIMEOUT_MS", "8000".to_owned())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    // It waits for the answer to an order.
    let slow = json!({ "kind": "hang_before", "ms": 3000 });
    cluster.paper.fault(json!({ "fault": slow, "verb": "placeorder", "count": 1 })).await;
    let accepted = cluster.post(0, &base("in-flight", GOLD, 140_000)).await;
    wait::until("the order is out", PATIENCE, async || {
        if cluster.paper.arrivals().await.is_empty() { Err(cluster.logs()) } else { Ok(()) }
    })
    .await;
    cluster.members[leader].process.signal(Signal::TERM);
    prints(&cluster, leader, "curl -s $A/readyz", "DRAINING").await;
    prints(&cluster, leader, told("draining", "baton status"), "draining").await;
    let status = cluster.members[leader].process.exit(PATIENCE).await;
    assert!(status.success(), "{status} {:?}", cluster.logs());
    let log = cluster.members[leader].log();
    let (handed, ended) = (log.find("[SHUTDOWN] handed over"), log.find("[SHUTDOWN] done"));
    assert!(handed.is_some() && handed < ended, "{log}");
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "executed", "{view}");

    // Undo: it is started again.
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, L5
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_hung_engine() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let old = cluster.leader().await;
    cluster.arm("before_journal", "hang");
    let accepted = cluster.post((old + 1) % 3, &base("while-it-hangs", SILVER, 150_000)).await;
    let status = cluster.members[old].process.exit(PATIENCE).await;
    assert!(died_of(status, Signal::ABORT), "{status} {:?}", cluster.logs());
    let log = cluster.members[old].log();
    assert!(log.contains("aborts the process, so that nothing acts later"), "{log}");
    // First 60 seconds: another one leads, and decided what the hung one had begun.
    let new = cluster.leader_within(PATIENCE, |index| index != old).await;
    prints(&cluster, new, told("hung-engine", "baton status"), "ACTIVE").await;
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "executed", "{view}");

    // Mitigation: it is started again.
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    status_is(&cluster, new, 0).await;
    let printed = done(&cluster, new, &block("in-doubt-orders")).await;
    assert!(printed.contains("(0 rows)"), "{printed}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 2), "{check:?}");
}
