//! PostgreSQL fails over to a streaming replica that lost the last commits (HA.md rule 17, S7).

use std::time::{Duration, Instant};

use local::{Binaries, Options as StoresOptions, Postgres, Stores};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::signals::{base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::paper::KEY;
use crate::support::{database, wait};

/// What is entered before the failover.
const HELD: &str = "HELD";

/// A primary and its replica; a URL names both, and the members find the one that is the primary.
struct Pair {
    stores: Stores,
    standby: Postgres,
    /// The replica as a client of its own sees it.
    replica: Client,
    url: String,
    _folder: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The servers run under an account of their own, which has to get through.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let dir = folder.path().join("stores");
        let options = StoresOptions { dir: dir.clone(), durable: true, binaries: Binaries::from_env() };
        let stores = Stores::start(options).await.unwrap();
        // Kept stores can be streamed from, and sync to disk; this test kills servers, not the machine.
        let sql = database::connect(&stores.database_url()).await;
        for set in ["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"] {
            sql.batch_execute(set).await.unwrap();
        }
        let standby =
            stores.postgres().standby(&dir.join("standby"), &dir.join("standby.log")).await.unwrap();
        let own = stores.database_url();
        let (first, second) =
            (format!("127.0.0.1:{}", stores.postgres().port()), format!("127.0.0.1:{}", standby.port()));
        let url = own.replace(&first, &format!("{first},{second}"));
        let replica = database::connect(&own.replace(&first, &second)).await;
        Self { stores, standby, replica, url, _folder: folder }
    }

    async fn cluster(&self) -> Cluster {
        let instruments = vec![HELD.to_owned(), "ALPHA".to_owned()];
        let options = Options { env: independent(), instruments, ..Options::default() };
        let mut cluster = Cluster::wired(options, async |launch| {
            launch.env.insert("BATON_POSTGRES__URL".to_owned(), self.url.clone());
        })
        .await;
        cluster.sql = database::connect(&self.stores.database_url()).await;
        cluster
    }

    /// Waits until the replica has what the primary has, and cuts it off.
    async fn cut(&self, cluster: &Cluster) {
        let epoch = cluster.epoch().await;
        let orders = cluster.count("SELECT count(*) FROM order_intent WHERE state = 'filled'").await;
        wait::until("the replica has caught up", PATIENCE, async || {
            let sql = "SELECT (SELECT epoch FROM leadership), (SELECT count(*) FROM order_intent WHERE state = 'filled')";
            let row = self.replica.query_one(sql, &[]).await.map_err(|error| error.to_string())?;
            let found: (i64, i64) = (row.get(0), row.get(1));
            if found == (epoch, orders) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        self.replica.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
        self.replica.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        wait::until("the replica is cut off", PATIENCE, async || {
            let sql = "SELECT count(*) FROM pg_stat_wal_receiver";
            let row = self.replica.query_one(sql, &[]).await.map_err(|error| error.to_string())?;
            if row.get::<_, i64>(0) == 0 { Ok(()) } else { Err("it still receives".to_owned()) }
        })
        .await;
    }

    /// The primary is gone for good, the replica takes its place.
    async fn fail_over(&self, cluster: &mut Cluster) {
        self.stores.postgres().kill().await.unwrap();
        let promoted: bool = self.replica.query_one("SELECT pg_promote()", &[]).await.unwrap().get(0);
        assert!(promoted);
        let port = (self.stores.postgres().port(), self.standby.port());
        let url = self.stores.database_url().replace(&port.0.to_string(), &port.1.to_string());
        cluster.sql = database::connect(&url).await;
    }
}

async fn reduce_only(cluster: &Cluster) -> bool {
    cluster.sql.query_one("SELECT reduce_only FROM leadership", &[]).await.unwrap().get(0)
}

/// What an entry comes to now.
async fn refusal(cluster: &Cluster, id: &str) -> serde_json::Value {
    let view = cluster.play(0, &base(id, "ALPHA", 1000)).await;
    json!([view["status"], view["reasons"][0]["code"]])
}

// R: B1, S7, rule 17
#[ignore = "slow: PostgreSQL fails over to a replica"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_lost_no_order_ends_in_trading_by_itself() {
    let pair = Pair::start().await;
    let mut cluster = pair.cluster().await;
    let entered = cluster.play(0, &base("held", HELD, 1000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    pair.cut(&cluster).await;

    // Two leaderships that the replica never hears of: their epochs must not come again.
    for _ in 0..2 {
        let old = cluster.leader().await;
        cluster.members[old].process.kill().await;
        cluster.leader_within(PATIENCE, |index| index != old).await;
        cluster.members[old].restart().await;
        cluster.all_ready().await;
    }
    let before = cluster.epoch().await;
    let begun = Instant::now();
    pair.fail_over(&mut cluster).await;
    let lost: i64 = cluster.epoch().await;
    assert!(lost < before, "the tail is lost: {lost} of {before}");
    wait::until("a higher epoch is in force", PATIENCE, async || {
        let epoch = cluster.epoch().await;
        if epoch > before { Ok(()) } else { Err((epoch, cluster.logs())) }
    })
    .await;
    cluster.leader().await;
    println!("PostgreSQL failed over: trading again, reduce-only, after {:?}", begun.elapsed());
    assert!(reduce_only(&cluster).await);
    assert_eq!(refusal(&cluster, "too-early").await, json!(["refused", "REDUCE_ONLY"]));

    // Once every order of the day is proven to be known, entries are allowed again.
    wait::until("reduce-only is lifted", PATIENCE, async || {
        if reduce_only(&cluster).await { Err(cluster.logs()) } else { Ok(()) }
    })
    .await;
    println!("and without reduce-only after {:?}", begun.elapsed());
    let out = cluster.play(1, &exit("out", HELD, "ALL", 1000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    let again = cluster.play(0, &base("again", HELD, 1000)).await;
    assert_eq!(again["status"], "executed", "{again}");
    let check = cluster.check().await;
    assert_eq!((check.orders, check.open_positions), (3, 1));
}

// R: B1, S7, rule 17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_intent_was_lost_is_reported_and_keeps_reduce_only() {
    let pair = Pair::start().await;
    let mut cluster = pair.cluster().await;
    pair.cut(&cluster).await;
    let entered = cluster.play(0, &base("lost", HELD, 1000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let order = entered["orders"][0]["broker_order_id"].as_str().unwrap().to_owned();
    let before = cluster.epoch().await;
    pair.fail_over(&mut cluster).await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent").await, 0, "its intent is lost");

    wait::until("the order is reported", PATIENCE, async || {
        let sql = "SELECT count(*) FROM broker_order_seen WHERE order_id = $1";
        let row = cluster.sql.query_one(sql, &[&order]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) == 1 { Ok(()) } else { Err(format!("{:?}", cluster.logs())) }
    })
    .await;
    cluster.leader().await;
    assert!(cluster.epoch().await > before);
    // Longer than a proof of the opposite would take: send window, U and B of these clusters make 3.3 s.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(reduce_only(&cluster).await);
    assert_eq!(refusal(&cluster, "refused").await, json!(["refused", "REDUCE_ONLY"]));
    // By whoever led when it was found, which may be another one by now.
    let logs = cluster.members.iter().map(|member| member.log());
    let said = logs
        .filter(|log| log.contains("orders that no intent explains, after PostgreSQL failed over"))
        .count();
    assert!(said > 0, "{:?}", cluster.logs());

    // The operator has looked at the order and says so.
    let word = "UPDATE leadership SET reduce_only = false";
    cluster.sql.batch_execute(word).await.unwrap();
    let view = cluster.play(0, &base("allowed", HELD, 1000)).await;
    assert_eq!(view["status"], "executed", "{view}");
}

/// The orders to sell that the bridge has, open or filled.
async fn sold(cluster: &Cluster) -> Vec<String> {
    let orders = cluster.paper.orders().await.into_iter();
    orders.filter(|o| o.side == "SELL" && o.order_status != "cancelled").map(|o| o.orderid).collect()
}

// R: B1, S1, S15, rule 17
#[ignore = "slow: PostgreSQL fails over to a replica"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_whose_intent_was_lost_is_not_sent_again_while_its_order_is_open() {
    let pair = Pair::start().await;
    let mut cluster = pair.cluster().await;
    let entered = cluster.play(0, &base("held", HELD, 1000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    pair.cut(&cluster).await;
    cluster
        .paper
        .fault(json!({ "fault": { "kind": "slow_fills", "ms": 600_000 }, "verb": "placeorder" }))
        .await;
    cluster.post(0, &exit("lost", HELD, "ALL", 1000)).await;
    let acknowledged = "SELECT count(*) FROM order_intent WHERE state = 'acknowledged'";
    wait::until("the exit stands open", PATIENCE, async || match cluster.count(acknowledged).await {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    let [lost] = sold(&cluster).await.try_into().unwrap();
    cluster.paper.heal().await;
    pair.fail_over(&mut cluster).await;
    assert_eq!(cluster.count("SELECT count(*) FROM signal").await, 1, "the exit is lost");
    cluster.leader().await;
    assert!(reduce_only(&cluster).await);

    let again = cluster.post(0, &exit("again", HELD, "ALL", 1000)).await;
    wait::until("the operator is told", PATIENCE, async || {
        let logs = cluster.members.iter().map(|m| m.log());
        let told = "no exit is sent while an order to sell stands open";
        let told = logs.filter(|log| log.contains(told)).count();
        if told > 0 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    // Unhindered it takes some milliseconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(sold(&cluster).await, std::slice::from_ref(&lost), "the position must not be sold twice");

    // The operator takes it away at the broker: the exit is sent, once.
    let body = json!({ "apikey": KEY, "strategy": "by hand", "orderid": lost });
    let url = format!("{}/api/v1/cancelorder", cluster.paper.http);
    let answer = cluster.client.post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let out = cluster.terminal(&again.id).await;
    assert_eq!(out["status"], "executed", "{out}");
    assert_eq!(sold(&cluster).await, [out["orders"][0]["broker_order_id"].as_str().unwrap()]);
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await, 0);
}
