//! The figures of orders, measured with real processes and synced commits: `make bench-orders`.
//!
//! Progress goes to stderr, a Markdown table to stdout, and every single time to `target/bench-orders.json`
//! (`BATON_BENCH_OUT`). `BATON_BENCH_ORDERS` (400) sets how many signals are timed, `BATON_BENCH_SECONDS` (10) how long the
//! rates are taken, `BATON_BENCH_BURST` (10000) how many signals come at once, `BATON_BENCH_ONLY=latency,rate,burst` which
//! cases, `BATON_SEED` the draws.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on fails")]

mod burst;
mod desk;
mod latency;
mod rate;
mod relay;
#[path = "../../tests/ledger/rows.rs"]
#[allow(dead_code, reason = "the ledger's tests use the rest")]
mod rows;
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../../tests/cluster/signals.rs"]
mod signals;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use shared::figures::{Figure, verdict};
use shared::{progress, setting, wanted};
use support::seed::Seed;

/// The longest that an order may take in 99 of 100 cases.
const P99: Duration = Duration::from_millis(10);
/// The most memory that a burst may take.
const RESIDENT_KIB: u64 = 256 * 1024;

fn main() {
    shared::run("make bench-orders", measure);
}

async fn measure() {
    let mut seed = Seed::drawn("bench-orders");
    let drawn = format!("{seed:?}");
    let mut figures = Vec::new();
    if wanted("latency") {
        let rounds = setting("BATON_BENCH_ORDERS", 400);
        let bar = progress("latency", rounds);
        figures.extend(latencies(latency::times(rounds, &mut seed, &bar).await));
    }
    if wanted("rate") {
        let span = Duration::from_secs(setting("BATON_BENCH_SECONDS", 10).try_into().unwrap());
        eprintln!("rate: twice {span:?}");
        let commits = rate::commits(span).await;
        let rate::Rate { intents, sent, spent } = rate::intents(span).await;
        let senders = rate::SENDERS;
        let note = format!(
            "{intents:.0}/s ({sent} orders), pgbench {commits:.0}/s: {:.2} ×, {}",
            intents / commits,
            verdict(intents >= 0.8 * commits)
        );
        let case = format!("{senders} senders: durable intents");
        figures.push(Figure::new(&case, "≥ 0.8 × pgbench's rate of the same insert", Vec::new(), note));
        figures.push(Figure::new("the processors' time for one of them", "", Vec::new(), spent));
    }
    if wanted("burst") {
        let signals = setting("BATON_BENCH_BURST", 10_000);
        let bar = progress("burst", signals);
        figures.push(bursts(&burst::burst(signals, &mut seed, &bar).await));
    }
    shared::publish("bench-orders", &figures, &drawn);
}

/// The rows of the times, judged by the commits beside them.
fn latencies(times: latency::Times) -> Vec<Figure> {
    let commit = Figure::new("bare commit of an intent's row", "", times.commits, "fsync on");
    let [own, others] = times.entries;
    let [own_exits, others_exits] = times.exits;
    let judged = [
        ("entry, delivered to the leader", own),
        ("entry, delivered to a follower", others),
        ("exit, delivered to the leader", own_exits),
        ("exit, delivered to a follower", others_exits),
    ];
    let judged = judged.map(|(case, times)| {
        let mut figure = Figure::new(case, "p50 ≤ 2 × the bare commit, p99 ≤ 10", times, "");
        let ratio = figure.at(500).as_secs_f64() / commit.at(500).as_secs_f64();
        let (p50, p99) = (verdict(ratio <= 2.0), verdict(figure.at(990) <= P99));
        figure.note = format!("p50 {ratio:.1} ×: {p50}; p99 {p99}");
        figure
    });
    std::iter::once(commit).chain(judged).collect()
}

fn bursts(burst: &burst::Burst) -> Figure {
    let (before, most) = burst.resident_kib;
    let note = format!(
        "{} signals, {} orders; accepted within {:.1} s, decided within {:.1} s; {} MiB at most, {} before: {}",
        burst.signals,
        burst.orders,
        burst.accepted.as_secs_f64(),
        burst.decided.as_secs_f64(),
        most / 1024,
        before / 1024,
        verdict(most <= RESIDENT_KIB)
    );
    Figure::new("burst: each kept, none doubled", "0 lost, 0 doubled, ≤ 256 MiB", Vec::new(), note)
}
