//! What an instance takes from the machine while nothing happens but ticks: `make bench-feed`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Options};

const SYMBOLS: usize = 1000;
const RUN: Duration = Duration::from_secs(30);

/// CPU time that a process has used so far.
fn used(process: &Path) -> Duration {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel tells them in hundredths of a second, whatever its own tick is.
    Duration::from_millis(ticks * 10)
}

// R: D8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: a measurement"]
async fn an_idle_leader_and_an_idle_follower() {
    let instruments: Vec<String> = (0..SYMBOLS).map(|number| format!("IDLE{number:04}")).collect();
    // The lease as it is by default: tests have one of a third.
    let env = vec![("BATON_TIMING__LEASE_TTL_MS", "3000".to_owned())];
    let cluster = Cluster::with(Options { members: 2, instruments, env, ..Options::default() }).await;
    cluster.all_ready().await;
    let leader = cluster.leader().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let processes: Vec<_> = cluster
        .members
        .iter()
        .map(|member| Path::new("/proc").join(member.process.id().to_string()))
        .collect();
    let (before, begun): (Vec<_>, _) =
        (processes.iter().map(|process| used(process)).collect(), Instant::now());
    tokio::time::sleep(RUN).await;
    for (index, process) in processes.iter().enumerate() {
        let cpu = (used(process) - before[index]).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        let role = if index == leader { "leader" } else { "follower" };
        let mib = cluster.members[index].process.memory_kib() as f64 / 1024.0;
        println!(
            "idle {role}, {SYMBOLS} symbols configured: {cpu:.2} % CPU (target 1), {mib:.1} MiB resident (target 50)"
        );
        assert!(cpu < 10.0 && mib < 500.0, "ten times the target");
    }
    cluster.finish().await;
}
