//! What an instance takes from the machine while nothing happens but ticks: `make bench-feed`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::load::usual_times;
use crate::signals::base;
use crate::support::cluster::{Cluster, Options};
use crate::support::wait;

const SYMBOLS: usize = 1000;
/// Their price.
const PRICE: i64 = 1000;
/// How long all of them may take to be bought.
const BUYING: Duration = Duration::from_secs(300);
/// What a start and a purchase set off is over by then.
const REST: Duration = Duration::from_secs(10);
const RUN: Duration = Duration::from_secs(30);

/// What a process has taken so far.
#[derive(Clone, Copy)]
struct Taken {
    cpu: Duration,
    /// How often one of its threads that had nothing to do was woken.
    wakes: u64,
    ticks: f64,
}

impl Taken {
    async fn by(cluster: &Cluster, index: usize) -> Self {
        let member = &cluster.members[index];
        let process = Path::new("/proc").join(member.process.id().to_string());
        let stat = std::fs::read_to_string(process.join("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let hundredths: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let threads = std::fs::read_dir(process.join("task")).unwrap();
        // One may have ended since it was listed.
        let wakes = threads.filter_map(|thread| wakes(thread.unwrap().path())).sum();
        let ticks = member.metric("baton_feed_ticks_total").await.unwrap();
        // The kernel tells them in hundredths of a second, whatever its own tick is.
        Self { cpu: Duration::from_millis(hundredths * 10), wakes, ticks }
    }
}

fn wakes(thread: PathBuf) -> Option<u64> {
    let status = std::fs::read_to_string(thread.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// Lets the time of a measurement pass and prints what each instance took of it.
async fn measure(cluster: &Cluster, what: &str) {
    let leader = cluster.leader().await;
    tokio::time::sleep(REST).await;
    let mut before = Vec::new();
    for index in 0..cluster.members.len() {
        before.push((Taken::by(cluster, index).await, Instant::now()));
    }
    tokio::time::sleep(RUN).await;
    for (index, (before, begun)) in before.into_iter().enumerate() {
        let after = Taken::by(cluster, index).await;
        let span = begun.elapsed().as_secs_f64();
        let cpu = (after.cpu - before.cpu).as_secs_f64() / span * 100.0;
        let role = if index == leader { "leader" } else { "follower" };
        let mib = cluster.members[index].process.memory_kib() as f64 / 1024.0;
        println!(
            "idle {role}, {what}: {cpu:.2} % CPU (target 1), {mib:.1} MiB resident (target 50), {:.0} wakes/s, {:.0} ticks/s",
            (after.wakes - before.wakes) as f64 / span,
            (after.ticks - before.ticks) / span,
        );
        assert!(cpu < 10.0 && mib < 500.0, "ten times the target");
    }
    assert_eq!(cluster.leader().await, leader, "nothing has moved");
}

/// Buys every instrument; returns when the leader hears them all.
async fn buy(cluster: &Cluster, instruments: &[String]) {
    let leader = cluster.leader().await;
    for name in instruments {
        cluster.post(leader, &base(name, name, PRICE)).await;
    }
    wait::until("every instrument is held and heard", BUYING, async || {
        let held = cluster.count("SELECT count(*) FROM position WHERE status = 'open'").await;
        let connection = cluster.members[leader].json("/api/v1/monitoring/connection-health").await;
        let heard = connection.map(|connection| connection["websocket"]["subscribed_symbols"].clone());
        let all = usize::try_from(held).unwrap() == SYMBOLS && heard == Some(SYMBOLS.into());
        if all { Ok(()) } else { Err((held, heard)) }
    })
    .await;
}

// R: D8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a measurement"]
async fn an_idle_leader_and_an_idle_follower() {
    let instruments: Vec<String> = (0..SYMBOLS).map(|number| format!("IDLE{number:04}")).collect();
    let mut env = usual_times();
    for (key, value) in [
        // No limit keeps one of them from being bought.
        ("BATON_TRADING__GATES__BASE_RISK_PERCENT", "100"),
        ("BATON_TRADING__GATES__BASE_VOLATILITY_PERCENT", "100"),
        // As they are by default.
        ("BATON_BROKER__POLL_MS", "1000"),
        ("BATON_BROKER__READS_PER_SECOND", "10"),
    ] {
        env.push((key, value.to_owned()));
    }
    let options = Options { members: 2, instruments, env, ..Options::default() };
    let instruments = options.instruments.clone();
    let cluster = Cluster::with(options).await;
    measure(&cluster, &format!("{SYMBOLS} symbols configured, nothing held")).await;
    buy(&cluster, &instruments).await;
    measure(&cluster, &format!("{SYMBOLS} symbols held and heard")).await;
    cluster.finish().await;
}
