//! How many durable intents a second sixteen senders get, each of which waits for its order before its next signal, beside
//! sixteen clients of pgbench that insert the same row.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use local::Binaries;

use crate::desk::{Desk, Lane};
use crate::shared::commit::{Commits, script};

/// Senders, and clients of pgbench.
pub const SENDERS: usize = 16;
/// Instruments that a sender takes in turn: by the time one comes again its order has filled.
const LANES: usize = 20;

/// What the senders got.
pub struct Rate {
    /// Intents a second, each of which was committed before its order's first byte came by.
    pub intents: f64,
    /// How many there were.
    pub sent: usize,
    /// The time of the processors that one took, by whose work they did.
    pub spent: String,
}

/// Sends for so long.
pub async fn intents(span: Duration) -> Rate {
    let desk = Desk::start(SENDERS * LANES).await;
    let leader = desk.cluster.leader().await;
    let (before, begun) = (desk.spent(leader), Instant::now());
    let sender = async |number: usize| {
        let mut lanes: Vec<Lane> = (0..LANES).map(|lane| Lane::new(number * LANES + lane)).collect();
        let mut sent = 0;
        while begun.elapsed() < span {
            let lane = &mut lanes[sent % LANES];
            let body = lane.signal();
            desk.cluster.post(leader + number, &body).await;
            desk.ordered(lane).await;
            sent += 1;
        }
        sent
    };
    let sent: usize = join_all((0..SENDERS).map(sender)).await.into_iter().sum();
    let intents = sent as f64 / begun.elapsed().as_secs_f64();
    let spent = desk.spent(leader).each_of(sent, &before);
    let check = desk.cluster.finish().await;
    assert_eq!((check.signals, check.orders, check.arrivals), (sent, sent, sent), "{check:?}");
    Rate { intents, sent, spent }
}

/// Bare commits of the same row a second.
pub async fn commits(span: Duration) -> f64 {
    let commits = Commits::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("intent.sql");
    std::fs::write(&file, script()).unwrap();
    let pgbench = Binaries::from_env().client("pgbench").expect("pgbench comes with the server");
    let mut command = Command::new(pgbench);
    command
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .args([format!("--client={SENDERS}"), format!("--time={}", span.as_secs())])
        .arg(format!("--file={}", file.display()))
        .arg(commits.database.stores.database_url());
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("pgbench starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("pgbench told no rate: {said}{}", String::from_utf8_lossy(&output.stderr)))
}
