//! What an instance takes from the machine while nothing happens but ticks: `make bench-feed`.

use std::collections::BTreeMap;
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
struct Taken {
    at: Instant,
    cpu: Duration,
    /// How often its threads that had nothing to do were woken, by the threads' name.
    wakes: BTreeMap<String, u64>,
    ticks: f64,
}

impl Taken {
    async fn by(cluster: &Cluster, index: usize) -> Self {
        let member = &cluster.members[index];
        let ticks = member.metric("baton_feed_ticks_total").await.unwrap();
        let process = process(cluster, index);
        let stat = std::fs::read_to_string(process.join("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let hundredths: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let mut wakes = BTreeMap::new();
        for thread in std::fs::read_dir(process.join("task")).unwrap() {
            // One may have ended since it was listed.
            if let Some((name, times)) = woken(thread.unwrap().path()) {
                *wakes.entry(name).or_default() += times;
            }
        }
        // The kernel tells them in hundredths of a second, whatever its own tick is.
        Self { at: Instant::now(), cpu: Duration::from_millis(hundredths * 10), wakes, ticks }
    }
}

fn process(cluster: &Cluster, index: usize) -> PathBuf {
    Path::new("/proc").join(cluster.members[index].process.id().to_string())
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// A thread's name, and how often it was woken.
fn woken(thread: PathBuf) -> Option<(String, u64)> {
    let name = std::fs::read_to_string(thread.join("comm")).ok()?;
    let status = std::fs::read_to_string(thread.join("status")).ok()?;
    Some((name.trim().to_owned(), field(&status, "voluntary_ctxt_switches")?))
}

/// What the stores have done so far for all instances together: transactions, and commands of Redis.
async fn served(cluster: &Cluster) -> (u64, u64) {
    let sql = "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database";
    let transactions = cluster.count(sql).await;
    let client = redis::Client::open(cluster.stores.redis_url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut redis).await.unwrap();
    (u64::try_from(transactions).unwrap(), field(&stats, "total_commands_processed").unwrap())
}

/// Lets the time of a measurement pass and prints what each instance took of it.
async fn measure(cluster: &Cluster, what: &str) {
    let leader = cluster.leader().await;
    tokio::time::sleep(REST).await;
    let (begun, stores) = (Instant::now(), served(cluster).await);
    let mut before = Vec::new();
    for index in 0..cluster.members.len() {
        before.push(Taken::by(cluster, index).await);
    }
    tokio::time::sleep(RUN).await;
    for (index, before) in before.into_iter().enumerate() {
        let after = Taken::by(cluster, index).await;
        let span = (after.at - before.at).as_secs_f64();
        let cpu = (after.cpu - before.cpu).as_secs_f64() / span * 100.0;
        let role = if index == leader { "leader" } else { "follower" };
        let status = std::fs::read_to_string(process(cluster, index).join("status")).unwrap();
        let mib = |name| field(&status, name).unwrap() as f64 / 1024.0;
        let per_second =
            |name: &str, times: u64| (times - before.wakes.get(name).copied().unwrap_or(0)) as f64 / span;
        let wakes: Vec<String> = after
            .wakes
            .iter()
            .map(|(name, times)| format!("{name} {:.0}", per_second(name, *times)))
            .collect();
        println!(
            "idle {role}, {what}: {cpu:.2} % CPU (target 1), {:.1} MiB resident (target 50; {:.1} of it allocated), \
             {:.0} ticks/s, wakes/s: {}",
            mib("VmRSS"),
            mib("RssAnon"),
            (after.ticks - before.ticks) / span,
            wakes.join(", "),
        );
        assert!(cpu < 10.0 && mib("VmRSS") < 500.0, "ten times the target");
    }
    let (span, after) = (begun.elapsed().as_secs_f64(), served(cluster).await);
    println!(
        "idle, {what}, all instances together: {:.0} transactions/s, {:.0} commands/s of Redis",
        (after.0 - stores.0) as f64 / span,
        (after.1 - stores.1) as f64 / span
    );
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
