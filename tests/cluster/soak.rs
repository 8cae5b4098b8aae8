//! Leadership does not flap (HA.md L3): a network that is late now and then and a leader that pauses move nothing, and
//! nothing grows.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::{self, Load};
use crate::support::cluster::Cluster;
use crate::support::proxy::{Link, Proxy};
use crate::support::seed::Seed;
use crate::vitals::Vitals;

/// How long it takes when `BATON_SOAK_MINUTES` does not say: `make soak MINUTES=30`.
const BRIEFLY: Duration = Duration::from_secs(75);
/// What is late, and by how much.
const LATE_PERCENT: u8 = 1;
const LEAST_LATE: Duration = Duration::from_millis(200);
const MOST_LATE: Duration = Duration::from_millis(1200);
/// How long the leader pauses, and the longest time before it does.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(15);
/// From one signal to the next, and on how many instruments: a commit's round trips through such links take ten times
/// as long as through others, so what a leader gets done is less.
const EVERY: Duration = Duration::from_secs(1);
const INSTRUMENTS: usize = 20;
/// From one sample of memory and files to the next.
const SAMPLE: Duration = Duration::from_secs(1);

fn span() -> Duration {
    std::env::var("BATON_SOAK_MINUTES").map_or(BRIEFLY, |text| {
        let minutes: u64 = text.parse().expect("BATON_SOAK_MINUTES is a whole number");
        Duration::from_secs(60 * minutes)
    })
}

// R: L3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: disturbs a cluster for a minute and more; `make soak` sets for how long"]
async fn l3_late_chunks_and_pauses_of_a_second_move_nothing() {
    let span = span();
    let mut seed = Seed::drawn("soak");
    let mut links = Vec::new();
    let mut cluster = Cluster::wired(load::options(), async |launch| {
        for server in ["BATON_POSTGRES__URL", "BATON_REDIS__URL", "BATON_BROKER__URL"] {
            links.push(Proxy::before(launch, server).await);
        }
    })
    .await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    for link in &links {
        link.set(Link::Late { percent: LATE_PERCENT, least: LEAST_LATE, most: MOST_LATE, seed: seed.next() });
    }
    let load = Load::paced(&cluster, EVERY, INSTRUMENTS);
    let (begun, mut pauses, mut vitals) = (Instant::now(), 0, Vitals::default());
    let mut due = seed.duration(LONGEST_REST);
    while begun.elapsed() < span {
        tokio::time::sleep(SAMPLE).await;
        vitals.sample(&cluster.members);
        if begun.elapsed() < due {
            continue;
        }
        // Only the leader pauses; were it another by now, the soak has failed already.
        assert_eq!(cluster.epoch().await, epoch, "{:?}\n{:?}", cluster.history().await, cluster.logs());
        cluster.members[leader].process.signal(Signal::STOP);
        tokio::time::sleep(PAUSE).await;
        cluster.members[leader].process.signal(Signal::CONT);
        pauses += 1;
        due = begun.elapsed() + seed.duration(LONGEST_REST);
    }
    let sent = load.stop().await;
    for link in &links {
        link.set(Link::Open);
    }
    let log = cluster.members[leader].log();
    let suspensions = log.matches("suspended under epoch").count();
    println!("{:?}, {pauses} pauses: {suspensions} suspensions of the leader", begun.elapsed());
    assert_eq!(
        (cluster.leader().await, cluster.epoch().await),
        (leader, epoch),
        "{:?}",
        cluster.history().await
    );
    assert!(
        cluster.members.iter_mut().all(|member| member.process.exited().is_none()),
        "{:?}",
        cluster.logs()
    );
    vitals.are_bounded();
    sent.was_not_doubled(cluster).await;
}
