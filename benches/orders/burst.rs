//! Ten thousand signals at once: each is kept, decided once, and ordered at most once; and the memory that it takes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use indicatif::ProgressBar;

use crate::desk::{Desk, Lane};
use crate::rate::SENDERS;
use crate::support::seed::Seed;
use crate::support::wait;

/// Signals of an instrument: each wants to buy, and one may.
const RIVALS: usize = 10;
/// How long it may take until all are decided.
const PATIENCE: Duration = Duration::from_secs(180);

/// What became of them.
pub struct Burst {
    /// Signals, each with its own key.
    pub signals: usize,
    /// Orders: one an instrument.
    pub orders: usize,
    /// Until the last was accepted, and until the last was decided.
    pub accepted: Duration,
    pub decided: Duration,
    /// The most memory that a member used, in KiB: before, and in all.
    pub resident_kib: (u64, u64),
}

/// Delivers so many signals as fast as they are taken.
pub async fn burst(signals: usize, seed: &mut Seed, progress: &ProgressBar) -> Burst {
    let instruments = signals.div_ceil(RIVALS);
    let desk = Desk::start(instruments).await;
    let most = || desk.cluster.members.iter().map(|member| member.process.most_memory_kib()).max().unwrap();
    let before = most();
    let mut lanes: Vec<Lane> = (0..instruments).map(Lane::new).collect();
    let mut bodies: Vec<_> = (0..signals).map(|number| lanes[number % instruments].entry()).collect();
    seed.shuffle(&mut bodies);
    let begun = Instant::now();
    let sender = async |number: usize| {
        for body in bodies.iter().skip(number).step_by(SENDERS) {
            desk.cluster.post(number, body).await;
            progress.inc(1);
        }
    };
    join_all((0..SENDERS).map(sender)).await;
    let accepted = begun.elapsed();
    wait::until("every signal is decided", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let open = "SELECT count(*) FROM signal WHERE status IN ('pending', 'working')";
        match desk.cluster.count(open).await {
            0 => Ok(()),
            left => Err((left, desk.cluster.logs())),
        }
    })
    .await;
    let decided = begun.elapsed();
    let resident_kib = (before, most());
    let refused = desk.cluster.count("SELECT count(*) FROM signal WHERE status = 'refused'").await;
    let (relayed, check) = (desk.relay.count(), desk.cluster.finish().await);
    // Each is in the ledger once; each order is one intent's, and the bridge and the relay saw no other. An entry that was
    // withheld is decided anew.
    let intents = check.intents - check.states.get("not_sent").copied().unwrap_or_default();
    let each = (signals, instruments, instruments, instruments, instruments);
    assert_eq!((check.signals, intents, check.orders, check.arrivals, relayed), each, "{check:?}");
    assert_eq!(usize::try_from(refused).unwrap(), signals - instruments, "every other has its reasons");
    Burst { signals, orders: check.orders, accepted, decided, resident_kib }
}
