//! A store goes away under a load and comes back: leadership stays where it is, and no order is missed or made twice.

use std::time::{Duration, Instant};

use crate::load::{self, Load};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::seed::Seed;
use crate::support::wait;
use crate::support::wait::spread;

/// How Redis goes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Away {
    /// The server ends: connections are refused.
    Stopped,
    /// It hangs (SIGSTOP): connections stay open, and nothing is answered.
    Hung,
}

/// How long Redis is away in the quick tests: more than two T.
const BRIEF: Duration = Duration::from_secs(8);
/// The same in the slow ones.
const LONG: Duration = Duration::from_secs(60);

// R: S8, H1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_under_load_moves_nothing_and_misses_no_order() {
    without_redis(Away::Stopped, BRIEF).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_hung_under_load_moves_nothing_and_misses_no_order() {
    without_redis(Away::Hung, BRIEF).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: Redis stays away for a minute"]
async fn redis_stopped_for_a_minute_under_load_moves_nothing_and_misses_no_order() {
    without_redis(Away::Stopped, LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: Redis stays away for a minute"]
async fn redis_hung_for_a_minute_under_load_moves_nothing_and_misses_no_order() {
    without_redis(Away::Hung, LONG).await;
}

async fn without_redis(how: Away, span: Duration) {
    let cluster = Cluster::with(load::options()).await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    let load = Load::start(&cluster);
    executed(&cluster, 5).await;

    let begun = Instant::now();
    match how {
        Away::Stopped => cluster.stores.redis().stop().await.unwrap(),
        Away::Hung => cluster.stores.redis().pause(),
    }
    degraded(&cluster, leader, 1.0).await;
    tokio::time::sleep(span.saturating_sub(begun.elapsed())).await;
    // Whatever was accepted meanwhile is executed without Redis, not after its return.
    executed(&cluster, load.delivered()).await;
    let away = begun.elapsed();

    match how {
        Away::Stopped => cluster.stores.redis().start().await.unwrap(),
        Away::Hung => cluster.stores.redis().resume(),
    }
    degraded(&cluster, leader, 0.0).await;
    cluster.all_ready().await;
    executed(&cluster, load.delivered() + 5).await;
    let sent = load.stop().await;
    assert_eq!(
        (cluster.leader().await, cluster.epoch().await),
        (leader, epoch),
        "{:?}",
        cluster.history().await
    );
    println!("Redis {how:?} for {away:?}: 0 transitions");
    sent.was_executed(cluster).await;
}

/// Waits until so many signals were executed.
async fn executed(cluster: &Cluster, wanted: usize) {
    wait::until(&format!("{wanted} signals are executed"), PATIENCE, async || {
        let found = cluster.count("SELECT count(*) FROM signal WHERE status = 'executed'").await;
        if usize::try_from(found).unwrap() >= wanted { Ok(()) } else { Err((found, cluster.logs())) }
    })
    .await;
}

/// Waits until the leader shows that it does, or does not, lead without Redis.
async fn degraded(cluster: &Cluster, leader: usize, wanted: f64) {
    wait::until(&format!("ha_degraded is {wanted}"), PATIENCE, async || {
        let found = cluster.members[leader].metric("baton_ha_degraded").await;
        if found == Some(wanted) { Ok(()) } else { Err((found, cluster.logs())) }
    })
    .await;
}

/// How long PostgreSQL is away: less than T.
const OUTAGE: Duration = Duration::from_secs(2);
/// Outages in the quick test.
const FEW: usize = 2;
/// The same in the slow one.
const MANY: usize = 30;
/// How soon an order has to go out after PostgreSQL accepts connections: ten times the target, which is for machines
/// that do nothing else.
const FIRST_ORDER: Duration = Duration::from_secs(10);

// R: C5, S1, rule 16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_restarted_under_load_moves_nothing_and_misses_no_order() {
    without_postgresql(FEW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: thirty restarts of PostgreSQL for the figures' tails"]
async fn thirty_restarts_of_postgresql_under_load_move_nothing_and_miss_no_order() {
    without_postgresql(MANY).await;
}

async fn without_postgresql(rounds: usize) {
    let mut seed = Seed::drawn("postgresql away");
    let mut cluster = Cluster::with(load::options()).await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    let load = Load::start(&cluster);
    let (mut firsts, mut aways) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        executed(&cluster, load.delivered() + 5).await;
        tokio::time::sleep(seed.duration(Duration::from_millis(500))).await;
        let begun = Instant::now();
        // A fast shutdown: sessions are ended at once, what was committed is kept.
        cluster.stores.postgres().stop().await.unwrap();
        tokio::time::sleep(OUTAGE.saturating_sub(begun.elapsed())).await;
        let logged = std::fs::metadata(&cluster.paper.log).unwrap().len();
        cluster.stores.postgres().start().await.unwrap();
        let accepts = Instant::now();
        aways.push(accepts - begun);
        wait::until("an order goes out", FIRST_ORDER, async || {
            if load::ordered(&cluster.paper.log, logged).is_empty() { Err(cluster.logs()) } else { Ok(()) }
        })
        .await;
        firsts.push(accepts.elapsed());
        cluster = cluster.reconnected().await;
        cluster.all_ready().await;
        assert_eq!(
            (cluster.leader().await, cluster.epoch().await),
            (leader, epoch),
            "{:?}",
            cluster.history().await
        );
    }
    let sent = load.stop().await;
    assert!(sent.turned_away > 0, "without its database no instance accepts a signal");
    let ((_, _, longest), (median, p95, last)) = (spread(&mut aways), spread(&mut firsts));
    println!(
        "PostgreSQL away {rounds} times for up to {longest:?}: 0 transitions; from accepting connections to an order: \
         median {median:?}, p95 {p95:?}, longest {last:?}"
    );
    sent.was_executed(cluster).await;
}
