//! Exits that were journaled and never written, while it is not known how soon the bridge closes an idle connection:
//! their absence from the books alone proves nothing.

use std::time::Duration;

use rust_decimal::dec;
use rustix::process::Signal;

use crate::doubt::hit;
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Accepted, Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;

const DOUBTED: &str = "SELECT count(*) FROM order_intent WHERE class = 'exit' AND state = 'in_doubt'";

/// A cluster that holds one position and does not know the bridge's idle time.
async fn holding(
    options: Options,
    mut wire: impl AsyncFnMut(&mut crate::support::process::Launch),
) -> Cluster {
    let cluster = Cluster::wired(options, async |launch| {
        launch.env.remove("BATON_BROKER__IDLE_CLOSE_MS");
        wire(launch).await;
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let held = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(held["status"], "executed", "{held}");
    cluster
}

async fn sold_once(cluster: Cluster, out: &Accepted) -> Cluster {
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    let check = cluster.check().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "{check:?}");
    cluster
}

// R: rule 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_of_a_killed_leader_is_made_anew_once_nobody_can_write_it() {
    let mut cluster = holding(Options { members: 2, ..Options::default() }, async |_| {}).await;
    cluster.arm("after_journal", "kill");
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    hit(&mut cluster, "after_journal").await;
    let cluster = sold_once(cluster, &out).await;
    let abandoned = "SELECT count(*) FROM order_intent WHERE class = 'exit' AND state = 'abandoned'";
    assert_eq!(cluster.count(abandoned).await, 1);
}

// R: rule 10, S16: it may write as soon as it wakes, and on an idle connection the bridge would take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_of_a_stopped_leader_stays_in_doubt_until_that_process_is_gone() {
    let mut cluster = holding(Options { members: 2, ..Options::default() }, async |_| {}).await;
    let old = cluster.leader().await;
    cluster.arm("after_check", "stop");
    let out = cluster.post(old + 1, &exit("out", GOLD, "ALL", 140_000)).await;
    wait::until("the leader stops before its write", PATIENCE, async || {
        let stopped = !cluster.is_armed() && cluster.members[old].process.is_stopped();
        if stopped { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let new = cluster.leader_within(PATIENCE, |index| index != old).await;
    // U + B are 2.3 s here. What must not happen is looked for during thrice that time.
    let until = std::time::Instant::now() + Duration::from_secs(7);
    while std::time::Instant::now() < until {
        assert_eq!(cluster.count(DOUBTED).await, 1, "{:?}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(cluster.members[new].trades().await);
    cluster.members[old].process.kill().await;
    sold_once(cluster, &out).await;
}

// R: rule 16: journaled and not sent, known to the very process that leads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_whose_journaling_was_committed_unheard_is_not_sent_and_made_anew() {
    let env = vec![
        ("BATON_TIMING__LEASE_TTL_MS", "3000".to_owned()),
        // No absence is proven in this test's time.
        ("BATON_BROKER__SETTLE_MS", "600000".to_owned()),
    ];
    let mut proxies = Vec::new();
    let options = Options { members: 1, env, ..Options::default() };
    let mut cluster = holding(options, async |launch| {
        proxies.push(Proxy::before(launch, "BATON_POSTGRES__URL").await);
    })
    .await;
    cluster.arm("before_journal", "stop");
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    wait::until("the leader stops before it journals", PATIENCE, async || {
        let stopped = !cluster.is_armed() && cluster.members[0].process.is_stopped();
        if stopped { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    proxies[0].set(Link::Discard(Way::ToClient));
    cluster.members[0].process.signal(Signal::CONT);
    wait::until("the exit is committed", PATIENCE, async || {
        let journaled = cluster.count("SELECT count(*) FROM order_intent WHERE class = 'exit'").await;
        if journaled == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    proxies[0].set(Link::Open);
    let cluster = sold_once(cluster, &out).await;
    let unsent = "SELECT count(*) FROM order_intent WHERE class = 'exit' AND state = 'not_sent'
        AND reason LIKE 'never given out to be sent%'";
    assert_eq!(cluster.count(unsent).await, 1);
}
