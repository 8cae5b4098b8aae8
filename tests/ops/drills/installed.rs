//! The drill of a first installation: from an empty database to a signal, a failover and an alert.

use rust_decimal::dec;

use super::{Pager, done, equipped, prints, status_is, told, typed};
use crate::receiver::Receiver;
use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{database, wait};
use crate::watch::{self, Prometheus};

/// An empty database and the role that owns it and nothing more; gives the role's URL.
async fn owned(superuser: &str) -> String {
    let sql = database::connect(superuser).await;
    sql.batch_execute("CREATE ROLE desk LOGIN PASSWORD 'desk'").await.unwrap();
    sql.batch_execute("CREATE DATABASE first OWNER desk").await.unwrap();
    let mut url = reqwest::Url::parse(superuser).unwrap();
    url.set_username("desk").unwrap();
    url.set_password(Some("desk")).unwrap();
    url.set_path("first");
    url.to_string()
}

/// What the installation loads: the rules and the routes, before a receiver of ours.
async fn watched(cluster: &Cluster) -> Option<(Pager, Receiver, crate::support::process::Process)> {
    let (prometheus, alertmanager) = watch::programs()?;
    let receiver = Receiver::start().await;
    let (manager, address) = watch::alertmanager(&alertmanager, cluster, &receiver.url).await;
    let pager = Pager(Some(Prometheus::start(&prometheus, cluster, Some(&address)).await));
    Some((pager, receiver, manager))
}

// R: H6, K3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_first_installation() {
    if !equipped() {
        return;
    }
    // Mitigation: a role that owns its database, and three members on it, each of its own name.
    let (mut own, mut superuser) = (None, String::new());
    let options = Options { shape: "analyze", ..Options::default() };
    let mut cluster = Cluster::wired(options, async |launch| {
        if own.is_none() {
            superuser = launch.env["BATON_POSTGRES__URL"].clone();
            own = Some(owned(&superuser).await);
        }
        launch.env.extend(own.clone().map(|url| ("BATON_POSTGRES__URL".to_owned(), url)));
    })
    .await;
    cluster.sql = database::connect(&own.unwrap()).await;
    let may = "SELECT count(*) FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreatedb OR rolcreaterole)";
    assert_eq!(cluster.count(may).await, 0, "it owns its database and nothing more");

    // Diagnosis: each fault of the settings at once.
    done(&cluster, 0, told("first-installation", "baton config check")).await;
    let faults =
        "BATON_BROKER__MODE=live BATON_BROKER__ACCOUNT= BATON_TRADING__CAPITAL=-1 baton config check";
    let output = typed(&cluster, 0, faults).await;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("capital") && said.contains("account"), "{said}");

    // Verify: healthy, the Watchdog arrives, and another leads when the leader is killed.
    let watching = watched(&cluster).await;
    status_is(&cluster, 0, 0).await;
    done(&cluster, 0, told("first-installation", "baton status")).await;
    if let Some((_, receiver, _)) = &watching {
        wait::until("the Watchdog arrives", PATIENCE * 2, async || {
            if receiver.heard("watchdog", "Watchdog").is_empty() { Err(()) } else { Ok(()) }
        })
        .await;
    }
    let (old, new, _) = cluster.kill_leader().await;
    assert_ne!(old, new);
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    status_is(&cluster, new, 0).await;
    // What it was all for: a paper signal.
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(old, &base("first", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    prints(&cluster, new, "curl -s $A/healthz | jq .mode", "paper").await;
    let check = cluster.check().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");

    // Undo: the instances are stopped, the database dropped.
    for index in [old, new, 3 - old - new] {
        cluster.members[index].process.kill().await;
    }
    cluster.sql = database::connect(&superuser).await;
    cluster.sql.batch_execute("DROP DATABASE first WITH (FORCE)").await.unwrap();
}
