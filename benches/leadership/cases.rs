//! One function a case: a real cluster, real signals, the time until somebody leads and until an order is sent.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::Value;

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::seed::Seed;
use crate::support::wait;

/// T of the measured clusters, the default of the program.
pub const T: Duration = Duration::from_secs(3);

/// A cluster with the program's own timing and no fail points, that enters and leaves one position in turn.
pub struct Bench {
    pub cluster: Cluster,
    proxies: Vec<Proxy>,
    round: usize,
}

impl Bench {
    pub async fn start() -> Self {
        Self::wired(false).await
    }

    /// With a proxy on each member's way to PostgreSQL.
    pub async fn with_proxies() -> Self {
        Self::wired(true).await
    }

    async fn wired(proxied: bool) -> Self {
        let options = Options { env: independent(), ..Options::default() };
        let mut proxies = Vec::new();
        let cluster = Cluster::wired(options, async |launch| {
            launch.env.insert("BATON_TIMING__LEASE_TTL_MS".to_owned(), T.as_millis().to_string());
            launch.env.remove("BATON_FAIL_POINT_FILE");
            launch.env.insert("RUST_LOG".to_owned(), "info".to_owned());
            if proxied {
                proxies.push(Proxy::before(launch, "BATON_POSTGRES__URL").await);
            }
        })
        .await;
        cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
        Self { cluster, proxies, round: 0 }
    }

    /// The next signal: in, out, in, out.
    fn signal(&mut self) -> Value {
        self.round += 1;
        let id = format!("s{}", self.round);
        if self.round % 2 == 1 { base(&id, GOLD, 140_000) } else { exit(&id, GOLD, "ALL", 140_000) }
    }

    async fn settle(&self, seed: &mut Seed) -> (usize, i64) {
        self.cluster.all_ready().await;
        let leader = self.cluster.leader().await;
        // The term is proved, and the phase is any.
        tokio::time::sleep(T / 3 + seed.duration(T / 3)).await;
        (leader, self.cluster.epoch().await)
    }

    async fn led_after(&self, begun: Instant, epoch: i64) -> Duration {
        while self.cluster.epoch().await <= epoch {
            assert!(begun.elapsed() < PATIENCE, "nobody led");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    }

    /// Posts a signal and waits until its order was answered.
    async fn ordered_after(&self, begun: Instant, first: usize, body: &Value) -> Duration {
        let accepted = self.cluster.post(first, body).await;
        let sent = "SELECT count(*) FROM order_intent WHERE signal_id::text = $1 AND state <> 'journaled'";
        loop {
            let count: i64 =
                self.cluster.sql.query_one(sent, &[&accepted.id]).await.expect("the ledger answers").get(0);
            if count > 0 {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "no order for {body}: {:?}", self.cluster.logs());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// kill -9 of the leader: until the row names another, and until the first order after it.
pub async fn crash(rounds: usize, seed: &mut Seed, progress: &ProgressBar) -> (Vec<Duration>, Vec<Duration>) {
    let mut bench = Bench::start().await;
    let (mut led, mut ordered) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let body = bench.signal();
        let (old, epoch) = bench.settle(seed).await;
        bench.cluster.members[old].process.signal(Signal::KILL);
        let begun = Instant::now();
        let other = (old + 1) % bench.cluster.members.len();
        let (leading, ordering) =
            tokio::join!(bench.led_after(begun, epoch), bench.ordered_after(begun, other, &body));
        led.push(leading);
        ordered.push(ordering);
        let member = &mut bench.cluster.members[old];
        member.process.kill().await;
        member.restart().await;
        progress.inc(1);
    }
    bench.cluster.finish().await;
    (led, ordered)
}

/// SIGTERM of the leader: from the release of the pin until the higher epoch, as the old leader reports it, and from
/// the signal until another trades.
pub async fn handover(
    rounds: usize,
    seed: &mut Seed,
    progress: &ProgressBar,
) -> (Vec<Duration>, Vec<Duration>) {
    let mut bench = Bench::start().await;
    let (mut gaps, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (old, epoch) = bench.settle(seed).await;
        bench.cluster.members[old].process.signal(Signal::TERM);
        let begun = Instant::now();
        bench.led_after(begun, epoch).await;
        bench.cluster.leader_within(PATIENCE, |index| index != old).await;
        waits.push(begun.elapsed());
        let member = &mut bench.cluster.members[old];
        member.process.exit(PATIENCE).await;
        gaps.push(gap(&std::fs::read_to_string(&member.process.log).expect("it has a log")));
        member.restart().await;
        progress.inc(1);
    }
    bench.cluster.finish().await;
    (gaps, waits)
}

/// The last `handed over to …, in 12 ms` of a log.
fn gap(log: &str) -> Duration {
    let told = |line: &str| {
        let (_, rest) = line.split_once("handed over to ")?.1.split_once(", in ")?;
        rest.split_once(" ms")?.0.parse().ok()
    };
    Duration::from_millis(log.lines().rev().find_map(told).expect("the handover is told with its gap"))
}

/// SIGSTOP of the leader, until the row names another.
pub async fn hang(rounds: usize, seed: &mut Seed, progress: &ProgressBar) -> Vec<Duration> {
    let mut bench = Bench::start().await;
    let mut led = Vec::new();
    for _ in 0..rounds {
        let (old, epoch) = bench.settle(seed).await;
        bench.cluster.members[old].process.signal(Signal::STOP);
        led.push(bench.led_after(Instant::now(), epoch).await);
        let member = &mut bench.cluster.members[old];
        member.process.signal(Signal::CONT);
        member.process.kill().await;
        member.restart().await;
        progress.inc(1);
    }
    bench.cluster.finish().await;
    led
}

/// The leader is cut from PostgreSQL, silently, until the row names another.
pub async fn partition(rounds: usize, seed: &mut Seed, progress: &ProgressBar) -> Vec<Duration> {
    let bench = Bench::with_proxies().await;
    let mut led = Vec::new();
    for _ in 0..rounds {
        let (old, epoch) = bench.settle(seed).await;
        bench.proxies[old].set(Link::Stall(Way::Both));
        led.push(bench.led_after(Instant::now(), epoch).await);
        bench.proxies[old].set(Link::Open);
        wait::until("the old leader is back", PATIENCE, async || {
            if bench.cluster.members[old].is_ready().await { Ok(()) } else { Err(()) }
        })
        .await;
        progress.inc(1);
    }
    bench.cluster.finish().await;
    led
}

/// Redis is killed for a while, signals flow: how many leaderships began, how many signals were not executed, and how
/// long each signal took.
pub async fn without_redis(outage: Duration, progress: &ProgressBar) -> (i64, usize, Vec<Duration>) {
    let mut bench = Bench::start().await;
    let epoch = bench.cluster.epoch().await;
    bench.cluster.stores.redis().kill().await.expect("it can be killed");
    let (begun, mut missed, mut times) = (Instant::now(), 0, Vec::new());
    while begun.elapsed() < outage {
        let body = bench.signal();
        let posted = Instant::now();
        let view = bench.cluster.play(bench.round % 3, &body).await;
        times.push(posted.elapsed());
        missed += usize::from(view["status"] != "executed");
        progress.inc(1);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bench.cluster.stores.redis().start().await.expect("it starts again");
    let moved = bench.cluster.epoch().await - epoch;
    bench.cluster.finish().await;
    (moved, missed, times)
}

/// PostgreSQL is stopped and started: how many leaderships began, and from accepting connections until an order.
pub async fn postgres_outage(
    rounds: usize,
    seed: &mut Seed,
    progress: &ProgressBar,
) -> (i64, Vec<Duration>, Duration) {
    let mut bench = Bench::start().await;
    let first = bench.cluster.epoch().await;
    let (mut times, mut longest) = (Vec::new(), Duration::ZERO);
    for _ in 0..rounds {
        let body = bench.signal();
        bench.settle(seed).await;
        let away = Instant::now();
        bench.cluster.stores.postgres().kill().await.expect("it can be killed");
        tokio::time::sleep(seed.duration(T / 6)).await;
        bench.cluster.stores.postgres().start().await.expect("it starts again");
        let accepts = Instant::now();
        longest = longest.max(accepts - away);
        bench.cluster = bench.cluster.reconnected().await;
        times.push(bench.ordered_after(accepts, 0, &body).await);
        progress.inc(1);
    }
    let moved = bench.cluster.epoch().await - first;
    bench.cluster.finish().await;
    (moved, times, longest)
}
