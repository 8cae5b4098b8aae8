//! Times with their percentiles, as a table for people and as JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

/// One row of the table.
pub struct Figure {
    pub case: String,
    /// What is hoped for, in words.
    pub target: &'static str,
    pub times: Vec<Duration>,
    pub note: String,
}

impl Figure {
    pub fn new(case: &str, target: &'static str, mut times: Vec<Duration>, note: impl Into<String>) -> Self {
        times.sort();
        Self { case: case.to_owned(), target, times, note: note.into() }
    }

    /// The smallest time that at least so many per thousand do not exceed.
    pub fn at(&self, per_mille: usize) -> Duration {
        let rank = (self.times.len() * per_mille).div_ceil(1000).clamp(1, self.times.len().max(1));
        self.times.get(rank - 1).copied().unwrap_or_default()
    }

    fn row(&self) -> String {
        let ms = |per_mille| {
            let time = self.at(per_mille).as_secs_f64() * 1e3;
            if time < 10.0 { format!("{time:.2}") } else { format!("{time:.0}") }
        };
        let (p50, p95, p99, max) = (ms(500), ms(950), ms(990), ms(1000));
        let times = if self.times.is_empty() {
            "| | | |".to_owned()
        } else {
            format!("{p50} | {p95} | {p99} | {max} |")
        };
        format!(
            "| {} | {} | {} {} {} |",
            self.case,
            self.target,
            self.times.len(),
            format_args!("| {times}"),
            self.note
        )
    }

    fn json(&self) -> Value {
        let ms: Vec<f64> = self.times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        json!({ "case": self.case, "target": self.target, "note": self.note, "times_ms": ms })
    }
}

/// The table, in Markdown.
pub fn table(figures: &[Figure]) -> String {
    let head =
        "| case | target | n | p50 ms | p95 ms | p99 ms | max ms | |\n|---|---|---|---|---|---|---|---|";
    let rows: Vec<String> = figures.iter().map(Figure::row).collect();
    format!("{head}\n{}", rows.join("\n"))
}

/// Everything that was measured.
pub fn json(figures: &[Figure], machine: &str, seed: &str) -> Value {
    let figures: Vec<Value> = figures.iter().map(Figure::json).collect();
    json!({ "machine": machine, "seed": seed, "figures": figures })
}

/// How a target is called in a note.
pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}
