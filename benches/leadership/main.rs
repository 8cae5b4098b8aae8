//! The figures of leadership, measured with real processes: `make bench-ha`.
//!
//! Progress goes to stderr, a Markdown table to stdout, and every single time to `target/bench-ha.json`
//! (`BATON_BENCH_OUT`). `BATON_BENCH_KILLS` (200) sets how many crashes and handovers, `BATON_BENCH_HANGS` (30) how
//! many of the rest, `BATON_BENCH_OUTAGE_S` (60) how long Redis is away, `BATON_BENCH_ONLY=crash,lock` which cases,
//! `BATON_SEED` the phases.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on fails")]

mod cases;
mod journal;
mod lock;
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

use shared::figures::Figure;
use shared::{progress, setting, wanted};
use support::seed::Seed;

fn main() {
    shared::run("make bench-ha", measure);
}

async fn measure() {
    let mut seed = Seed::drawn("bench-ha");
    let drawn = format!("{seed:?}");
    let (kills, hangs) = (setting("BATON_BENCH_KILLS", 200), setting("BATON_BENCH_HANGS", 30));
    let mut figures = Vec::new();
    if wanted("journal") {
        let rounds = kills * 10;
        let (bare, fenced) = journal::times(rounds, &progress("journal", rounds + 20)).await;
        let bare = Figure::new("bare commit of an intent's row", "", bare, "");
        let mut fenced = Figure::new("journal + fence", "p50 ≤ 1.5 ×, p99 ≤ 3 × the bare commit", fenced, "");
        let ratio = |per_mille| fenced.at(per_mille).as_secs_f64() / bare.at(per_mille).as_secs_f64();
        fenced.note = format!("p50 {:.2} ×, p99 {:.2} ×", ratio(500), ratio(990));
        figures.extend([bare, fenced]);
    }
    if wanted("crash") {
        let (led, ordered) = cases::crash(kills, &mut seed, &progress("crash", kills)).await;
        figures.push(Figure::new("kill -9: another leads", "p50 ≤ 100, p99 ≤ 250", led, ""));
        figures.push(Figure::new("kill -9: first order answered", "≤ 750", ordered, ""));
    }
    if wanted("handover") {
        let (gaps, waits) = cases::handover(kills, &mut seed, &progress("handover", kills)).await;
        figures.push(Figure::new("handover: without a leader", "p50 ≤ 20, p99 ≤ 100", gaps, "whole ms"));
        figures.push(Figure::new("SIGTERM: another trades", "", waits, ""));
    }
    if wanted("hang") {
        let led = cases::hang(hangs, &mut seed, &progress("hang", hangs)).await;
        figures.push(Figure::new("SIGSTOP: another leads", "p50 ≤ 3000, p99 ≤ 3600", led, "T = 3 s"));
    }
    if wanted("partition") {
        let led = cases::partition(hangs, &mut seed, &progress("partition", hangs)).await;
        figures.push(Figure::new(
            "cut from PostgreSQL: another leads",
            "p50 ≤ 3000, p99 ≤ 3600",
            led,
            "T = 3 s",
        ));
    }
    if wanted("redis") {
        let seconds = setting("BATON_BENCH_OUTAGE_S", 60);
        let outage = Duration::from_secs(seconds.try_into().unwrap());
        let (moved, missed, times) = cases::without_redis(outage, &progress("redis", seconds * 3)).await;
        let note = format!("{moved} transitions, {missed} missed orders in {seconds} s");
        figures.push(Figure::new("Redis away: signal to executed", "0 transitions, 0 missed", times, note));
    }
    if wanted("postgres") {
        let bar = progress("postgres", hangs);
        let (moved, times, longest) = cases::postgres_outage(hangs, &mut seed, &bar).await;
        let note = format!("{moved} transitions, away for up to {} ms", longest.as_millis());
        figures.push(Figure::new(
            "PostgreSQL accepts again: order answered",
            "≤ 1000, 0 transitions",
            times,
            note,
        ));
    }
    if wanted("lock") {
        let bar = progress("lock", kills);
        let stores = local::Stores::temporary().await.unwrap();
        let waits = lock::waits(&stores.redis_url(), kills, &mut seed).await;
        bar.finish();
        figures.push(Figure::new("baseline: Redis lock, 10 s TTL, 5 s renewal", "", waits, "killed holder"));
    }
    shared::publish("bench-ha", &figures, &drawn);
}
