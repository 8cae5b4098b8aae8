//! The figures of leadership, measured with real processes: `make bench-ha`.
//!
//! Progress goes to stderr, a Markdown table to stdout, and every single time to `target/bench-ha.json`
//! (`BATON_BENCH_OUT`). `BATON_BENCH_KILLS` (200) sets how many crashes and handovers, `BATON_BENCH_HANGS` (30) how
//! many of the rest, `BATON_BENCH_OUTAGE_S` (60) how long Redis is away, `BATON_BENCH_ONLY=crash,lock` which cases,
//! `BATON_SEED` the phases.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on fails")]

mod cases;
mod figures;
mod journal;
mod lock;
#[path = "../../tests/ledger/rows.rs"]
#[allow(dead_code, reason = "the ledger's tests use the rest")]
mod rows;
#[path = "../../tests/cluster/signals.rs"]
mod signals;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use figures::Figure;
use indicatif::{ProgressBar, ProgressStyle};
use support::seed::Seed;

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
        Err(_) => default,
    }
}

fn wanted(case: &str) -> bool {
    std::env::var("BATON_BENCH_ONLY").map_or(true, |only| only.split(',').any(|one| one == case))
}

fn progress(case: &str, rounds: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>12} {wide_bar} {pos}/{len} {elapsed} (still {eta})");
    let bar = ProgressBar::new(rounds.try_into().unwrap());
    bar.set_style(style.unwrap());
    bar.set_prefix(case.to_owned());
    eprintln!("{case}: {rounds} rounds");
    bar
}

fn main() {
    // `cargo test --benches` and the like only want to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with `make bench-ha`");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
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
    let machine = machine();
    println!("\n{machine}, {} build, {drawn}\n\n{}", build(), figures::table(&figures));
    let out = std::env::var("BATON_BENCH_OUT").unwrap_or_else(|_| "target/bench-ha.json".to_owned());
    std::fs::write(&out, figures::json(&figures, &machine, &drawn).to_string()).unwrap();
    println!("\nevery time: {out}");
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

/// What it ran on, with how busy that was.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = load.split(' ').next().unwrap_or("?");
    format!("{cores} cores of {}, load {load}", model.unwrap_or("an unknown processor").trim())
}
