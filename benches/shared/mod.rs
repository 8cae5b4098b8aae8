//! What the benches of real processes share: settings, progress, figures, and what they are compared with.
#![allow(dead_code, reason = "each bench uses its own part")]

pub mod commit;
pub mod figures;
pub mod processors;

use std::future::Future;

use figures::Figure;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs a bench, if that is wanted: `cargo test --benches` and the like only want to know that it builds.
pub fn run<F: Future<Output = ()>>(command: &str, measure: impl FnOnce() -> F) {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with `{command}`");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
}

/// A whole number of the environment.
pub fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
        Err(_) => default,
    }
}

/// True where `BATON_BENCH_ONLY` names the case, or nothing.
pub fn wanted(case: &str) -> bool {
    std::env::var("BATON_BENCH_ONLY").map_or(true, |only| only.split(',').any(|one| one == case))
}

/// A bar on stderr for so many rounds of a case.
pub fn progress(case: &str, rounds: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>12} {wide_bar} {pos}/{len} {elapsed} (still {eta})");
    let bar = ProgressBar::new(rounds.try_into().unwrap());
    bar.set_style(style.unwrap());
    bar.set_prefix(case.to_owned());
    eprintln!("{case}: {rounds} rounds");
    bar
}

/// Prints the table, and writes every single time to `target/<bench>.json` (`BATON_BENCH_OUT`).
pub fn publish(bench: &str, figures: &[Figure], seed: &str) {
    let machine = machine();
    println!("\n{machine}, {} build, {seed}\n\n{}", build(), figures::table(figures));
    let out = std::env::var("BATON_BENCH_OUT").unwrap_or_else(|_| format!("target/{bench}.json"));
    std::fs::write(&out, figures::json(figures, &machine, seed).to_string()).unwrap();
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
