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

/// A series, a label, and a value of it that an expression asks for by name.
type Asked = (String, String, String);

/// What an expression, or a file of them, asks for by name; what Prometheus adds itself is left out, and so are patterns.
fn asked(text: &str) -> Vec<Asked> {
    let mut found = Vec::new();
    for piece in text.split("baton_").skip(1) {
        let Some((name, rest)) = piece.split_once('{') else { continue };
        if !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            continue;
        }
        for matcher in rest.split('}').next().unwrap_or_default().split(',') {
            let Some((label, values)) = matcher.split_once('=') else { continue };
            let label = label.trim_end_matches('!').trim();
            let values = values.trim_start_matches('~').trim_matches('"').split('|');
            let is_a_name = |value: &&str| !value.is_empty() && !value.contains(['.', '*', '+', '$', '[']);
            if !["job", "namespace", "instance"].contains(&label) {
                let named = values.filter(is_a_name).map(str::to_owned);
                found.extend(named.map(|value| (format!("baton_{name}"), label.to_owned(), value)));
            }
        }
    }
    found
}

#[test]
fn what_is_asked_for_by_name_is_read_out_of_queries() {
    let of = |text: &str| asked(text).into_iter().map(|(_, label, value)| (label, value)).collect::<Vec<_>>();
    let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let text = r#"sum(rate(baton_x_total{job="a",outcome=~"b|c",code=~"5..",of!="d"}[1m])) / baton_y"#;
    assert_eq!(of(text), [pair("outcome", "b"), pair("outcome", "c"), pair("of", "d")]);
    assert_eq!(of("baton_x > 0 or {a=\"b\"}"), []);
}

/// Each value that a panel or an alert asks for is one that the series has: a wrong word is never found, and never misses.
fn knows_its_labels(scrape: &str) {
    let rules = std::fs::read_to_string(root().join("ops/prometheus/rules.yml")).unwrap();
    let expressions = queries().into_iter().map(|query| query.expression).chain([rules]);
    let asked: BTreeSet<Asked> = expressions.flat_map(|text| asked(&text)).collect();
    assert!(asked.len() > 30, "there are {} names", asked.len());
    let unknown = asked.iter().filter(|(name, label, value)| {
        let wanted = format!("{label}=\"{value}\"");
        let samples = scrape.lines().filter_map(|line| line.strip_prefix(name.as_str())?.strip_prefix('{'));
        !samples
            .flat_map(|rest| rest.split('}').next())
            .any(|labels| labels.split(',').any(|one| one == wanted))
    });
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&Asked>::new(), "no sample has it");
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
    let (_, scrape) = cluster.members[0].get("/metrics").await.expect("a member answers");
    watch::lint(&scrape).await;
    knows_its_labels(&scrape);

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
