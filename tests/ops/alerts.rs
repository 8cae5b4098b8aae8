//! From a fault to the pager: agents, Prometheus, Alertmanager and a receiver, with the shipped rules and routes.

use std::time::{Duration, Instant};

use rust_decimal::dec;

use crate::receiver::Receiver;
use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait;
use crate::watch::{self, Prometheus};

/// What the alert must reach its receiver in: a minute is promised; a busy machine may take longer to fail over.
const PROMISED: Duration = Duration::from_secs(60);

// R: C3, H4
#[ignore = "slow: a corrupt ledger pages somebody, through a real Prometheus and Alertmanager"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_ledger_reaches_the_pager_with_its_runbook_within_a_minute() {
    let Some((prometheus, alertmanager)) = watch::programs() else { return };
    let mut cluster = Cluster::start().await;
    let receiver = Receiver::start().await;
    let (_alertmanager, address) = watch::alertmanager(&alertmanager, &cluster, &receiver.url).await;
    let prometheus = Prometheus::start(&prometheus, &cluster, Some(&address)).await;

    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let follower = cluster.follower().await;
    cluster.play(follower, &base("in", GOLD, 140_000)).await;
    wait::until("the Watchdog reaches whoever listens for its silence", PATIENCE, async || {
        if receiver.heard("watchdog", "Watchdog").is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    let firing = "ALERTS{alertstate=\"firing\",alertname!=\"Watchdog\"}";
    assert_eq!(prometheus.query(firing).await, Some(vec![]), "a sound cluster alerts nobody");

    let corrupt = "UPDATE portfolio_state SET risk_amount = 999999.99";
    assert_eq!(cluster.sql.execute(corrupt, &[]).await.unwrap(), 1);
    let begun = Instant::now();
    // The next leader reads its state back, and must not believe it.
    let leader = cluster.leader().await;
    cluster.members[leader].process.kill().await;
    let heard = wait::until("the pager hears of ValidationFailed", PROMISED * 3, async || {
        receiver.heard("pager", "ValidationFailed").pop().ok_or_else(|| cluster.logs())
    })
    .await;
    let took = begun.elapsed();
    println!("from the corruption to the pager: {:.1} s", took.as_secs_f64());
    assert!(took < PROMISED, "{took:?}");
    assert_eq!(heard["status"], "firing", "{heard}");
    assert_eq!(heard["labels"]["severity"], "page", "{heard}");

    let url = heard["annotations"]["runbook_url"].as_str().expect("it names its section of the runbook");
    let path = url.strip_prefix("http://127.0.0.1:8080").expect("it leads to an instance");
    let (status, text) = cluster.members[(leader + 1) % 3].get(path).await.expect("an instance answers");
    assert!(status.is_success() && text.starts_with("### validation_failed"), "{status} {text}");
    assert!(receiver.heard("tickets", "ValidationFailed").is_empty(), "a page is no ticket");
}
