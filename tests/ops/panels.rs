//! Every panel of every dashboard shows something of a cluster that lived a little.

use std::collections::BTreeSet;

use rust_decimal::dec;
use serde_json::Value;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit, pyramid};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait;
use crate::watch::{self, Prometheus, root};

/// One query of a panel.
#[derive(Debug)]
struct Query {
    panel: String,
    expression: String,
}

/// Every query, with Grafana's variables filled in.
fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("ops/grafana/dashboards")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let board: Value = serde_json::from_str(&text).unwrap();
        for panel in board["panels"].as_array().expect("a dashboard has panels") {
            for target in panel["targets"].as_array().expect("a panel has queries") {
                let expression = target["expr"].as_str().expect("a query is text");
                let expression = expression.replace("$__rate_interval", "1m").replace("$job", "baton");
                let panel = format!("{}: {}", board["title"], panel["title"]);
                found.push(Query { panel, expression });
            }
        }
    }
    found
}

/// Series that the program does not export yet.
fn awaited() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("ops/prometheus/metrics.yml")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("  ")?.split(':').next());
    names.map(str::to_owned).collect()
}

// R: H4
#[ignore = "slow: a cluster lives a little under a real Prometheus"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_panel_is_empty_after_a_life_with_a_failover() {
    let Some((prometheus, _)) = watch::programs() else { return };
    let mut cluster = Cluster::start().await;
    let prometheus = Prometheus::start(&prometheus, &cluster, None).await;
    live(&mut cluster).await;

    let awaited = awaited();
    let all = queries();
    assert!(all.len() > 40, "there are {} queries", all.len());
    let mut waiting = BTreeSet::new();
    let mut shown = 0;
    for Query { panel, expression } in &all {
        let needs: Vec<_> = awaited.iter().filter(|name| expression.contains(name.as_str())).collect();
        if !needs.is_empty() && prometheus.query(expression).await.is_none_or(|found| found.is_empty()) {
            waiting.insert(format!("{panel} (waits for {needs:?})"));
            continue;
        }
        wait::until(&format!("{panel} shows something: {expression}"), PATIENCE, async || {
            let found = prometheus.query(expression).await;
            if found.as_ref().is_some_and(|found| found.iter().any(|value| !value.is_nan())) {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
        shown += 1;
    }
    println!("{shown} of {} queries show something", all.len());
    for panel in waiting {
        println!("empty: {panel}");
    }
}

/// Positions come and go, the leader dies, and comes back.
async fn live(cluster: &mut Cluster) {
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let follower = cluster.follower().await;
    cluster.play(follower, &base("in", GOLD, 140_000)).await;
    let (old, new, _) = cluster.kill_leader().await;
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(142000)).await;
    cluster.play(new, &pyramid("more", GOLD, "Long_2", 142_000)).await;
    cluster.play(new, &exit("out", GOLD, "ALL", 142_000)).await;
}
