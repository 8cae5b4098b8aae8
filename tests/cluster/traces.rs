//! One trace from the webhook to the fill, over the instances that had a part in it; and a collector that hangs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::collector::{Collector, Span};
use crate::support::member::TOKEN;
use crate::support::wait;

fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Waits until a trace has spans of all these names; gives it.
async fn traced(cluster: &Cluster, collector: &Collector, trace: &str, wanted: &[&str]) -> Vec<Span> {
    wait::until(&format!("trace {trace} has {wanted:?}"), PATIENCE, async || {
        let spans = collector.trace(trace);
        let found = names(&spans);
        if wanted.iter().all(|name| found.contains(name)) { Ok(spans) } else { Err((spans, cluster.logs())) }
    })
    .await
}

// R: B14, H4: a follower takes the signal, the leader sends and is killed in doubt, another one finds the fill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_webhook_to_the_fill_across_a_kill_of_the_leader() {
    let collector = Collector::start().await;
    let env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    for fault in [json!({ "kind": "hidden", "ms": 1200 }), json!({ "kind": "lost_ack_after" })] {
        cluster.paper.fault(json!({ "fault": fault, "verb": "placeorder", "count": 1 })).await;
    }
    let leader = cluster.leader().await;
    let receiver = (leader + 1) % 3;
    let body = base("traced", GOLD, 140_000);
    let sent = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let answer = cluster
        .client
        .post(format!("{}/webhook", cluster.members[receiver].address))
        .bearer_auth(TOKEN)
        .header("traceparent", format!("00-{}-{}-01", sent.0, sent.1))
        .json(&body)
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
    let signal = answer["id"].as_str().unwrap().to_owned();
    let trace = signal.replace('-', "");
    let begun =
        traced(&cluster, &collector, &trace, &["webhook", "decide", "journal", "send", "in_doubt"]).await;

    let (old, new, _) = cluster.kill_leader().await;
    assert_eq!(old, leader);
    let view = cluster.terminal(&signal).await;
    assert_eq!(view["status"], "executed", "{view}");
    // A repeat belongs to the same trace, wherever it arrives.
    assert_eq!(cluster.post(new, &body).await.id, signal);
    let whole = traced(&cluster, &collector, &trace, &["filled", "executed", "webhook repeated"]).await;

    let member = |name: &str| whole.iter().find(|span| span.name == name).map(|span| span.member.clone());
    let called = |index: usize| Some(cluster.members[index].name.clone());
    assert_eq!(member("webhook"), called(receiver));
    for name in ["decide", "journal", "send", "in_doubt"] {
        assert_eq!(member(name), called(old), "{name}");
    }
    for name in ["filled", "executed", "webhook repeated"] {
        assert_eq!(member(name), called(new), "{name}");
    }
    // No span hangs in the air, and only the webhook's hangs from nothing.
    let ids: BTreeSet<&str> = whole.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), whole.len(), "ids are unique: {whole:?}");
    for span in &whole {
        let expected =
            if span.name == "webhook" { span.parent.is_empty() } else { ids.contains(&*span.parent) };
        assert!(expected, "{span:?} of {whole:?}");
    }
    // The sender's trace shows the delivery, and each leads to the other.
    let root = begun.iter().find(|span| span.name == "webhook").unwrap();
    let [delivery] = &collector.trace(sent.0)[..] else { panic!("{:?}", collector.trace(sent.0)) };
    assert_eq!(
        (delivery.parent.as_str(), &delivery.links),
        (sent.1, &vec![(trace.clone(), root.id.clone())])
    );
    assert_eq!(root.links, [(sent.0.to_owned(), delivery.id.clone())]);
    let log = cluster.members[new].log();
    let told = log.lines().filter(|line| line.contains(&format!("trace_id={trace}"))).count();
    assert!(told >= 3, "order, position and signal are told with their trace: {log}");

    // An order whose outcome its sender never learnt of is put in doubt by the next one, in the same trace.
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.arm("after_reply", "kill");
    let out = cluster.post(old, &exit("out", GOLD, "ALL", 140_000)).await;
    hit(&mut cluster, "after_reply").await;
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let trace = out.id.replace('-', "");
    let wanted = ["webhook", "in_doubt", "filled", "executed"];
    let spans = traced(&cluster, &collector, &trace, &wanted).await;
    let doubting = spans.iter().find(|span| span.name == "in_doubt").unwrap();
    assert_ne!(doubting.member, cluster.members[new].name, "its sender is dead");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: B14: a collector costs spans, never an order and never the stop's budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_holds_neither_orders_nor_a_stop_up() {
    // The kernel takes connections, and nobody ever answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let env = vec![
        ("BATON_TRACES__ENDPOINT", url),
        ("BATON_SHUTDOWN__EXIT_POLICY", "hold".to_owned()),
        ("BATON_SHUTDOWN__BUDGET_MS", "3000".to_owned()),
    ];
    let mut cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    wait::until("the first request is given up and counted", PATIENCE, async || {
        match cluster.members[0].metric("baton_traces_dropped_total{reason=\"failed\"}").await {
            Some(dropped) if dropped > 0.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    // Something waits for the collector when the stop begins.
    cluster.play(0, &base("again", GOLD, 140_000)).await;
    let begun = Instant::now();
    cluster.members[0].process.signal(Signal::TERM);
    let status = cluster.members[0].process.exit(PATIENCE).await;
    let took = begun.elapsed();
    println!("stopped after {took:?}");
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(4), "{took:?}\n{}", cluster.members[0].process.tail());
    let text = cluster.members[0].log();
    assert!(text.contains("[FALLBACK] traces are dropped"), "{text}");
    cluster.finish().await;
}
