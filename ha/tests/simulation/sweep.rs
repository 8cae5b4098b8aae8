//! Many schedules on all cores, and the report of the one that fails.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::checker::Tally;
use crate::schedule::{Report, Theme, run};

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

/// What many schedules did.
#[derive(Default)]
pub struct Swept {
    from: u64,
    count: u64,
    took: Duration,
    steps: u64,
    tally: Tally,
    longest_heal: BTreeMap<&'static str, Duration>,
}

/// Runs the schedules of these seeds; panics with the trace of the first one that fails.
pub fn sweep(from: u64, count: u64) -> Swept {
    println!("seeds {from} to {}; BATON_SEED=N replays one", from + count - 1);
    let begun = Instant::now();
    let next = AtomicU64::new(from);
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut swept = std::thread::scope(|scope| {
        let work = || {
            let mut part = Swept::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + count || failed.load(Ordering::Relaxed) != u64::MAX {
                    return part;
                }
                let report = run(seed, Theme::of(seed), None, false);
                if report.violation.is_some() {
                    failed.fetch_min(seed, Ordering::Relaxed);
                }
                part.take(&report);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut whole = Swept::default();
        for worker in workers {
            whole.join(worker.join().expect("a worker ends"));
        }
        whole
    });
    let failed = failed.load(Ordering::Relaxed);
    if failed != u64::MAX {
        replay(failed);
        panic!("seed {failed} failed and did not fail again: the simulation is not deterministic");
    }
    (swept.from, swept.count, swept.took) = (from, count, begun.elapsed());
    swept
}

/// Plays one schedule and shows it; panics if it fails.
pub fn replay(seed: u64) {
    let report = run(seed, Theme::of(seed), None, true);
    for line in &report.trace {
        println!("{line}");
    }
    if let Some(what) = report.violation {
        panic!(
            "{what}\nBATON_SEED={seed} cargo nextest run -p ha --test simulation every_schedule --no-capture replays it"
        );
    }
}

impl Swept {
    fn take(&mut self, report: &Report) {
        self.steps += report.steps;
        self.tally.add(&report.tally);
        if let Some(after) = report.healed_after {
            let name = match report.theme {
                Theme::Crash => "a crash",
                Theme::Hang => "a hang",
                Theme::FailOver => "a failover of PostgreSQL",
                Theme::Stopping => "all were told to stop (until all had left)",
                _ => "anything",
            };
            let longest = self.longest_heal.entry(name).or_default();
            *longest = after.max(*longest);
        }
    }

    fn join(&mut self, other: Self) {
        self.steps += other.steps;
        self.tally.add(&other.tally);
        for (name, span) in other.longest_heal {
            let longest = self.longest_heal.entry(name).or_default();
            *longest = span.max(*longest);
        }
    }

    /// Schedules that never come to a state prove nothing about it.
    pub fn touched_everything(&self) {
        let t = &self.tally;
        for reason in ["first_start", "crash", "stale", "handover", "vacant"] {
            assert!(t.promotions.get(reason).is_some_and(|n| *n > 0), "no promotion by {reason}");
        }
        for (what, count) in [
            ("suspension", t.suspensions),
            ("resumption", t.resumptions),
            ("demotion", t.demotions),
            ("fenced leader", t.fenced),
            ("send held back", t.held_back),
            ("abort of a hung process", t.aborts),
            ("handover", t.handed_over),
            ("place taken from a lost host", t.evicted_members),
            ("refused second process", t.duplicates),
            ("failover of PostgreSQL", t.failovers),
            ("last instance that acted by its exit policy", t.wound_down),
        ] {
            assert!(count > 0, "no {what} in {} schedules", self.count);
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (reason, count) in &other.promotions {
            *self.promotions.entry(reason).or_default() += count;
        }
        self.suspensions += other.suspensions;
        self.resumptions += other.resumptions;
        self.fenced += other.fenced;
        self.demotions += other.demotions;
        self.refused_entries += other.refused_entries;
        self.journaled += other.journaled;
        self.sent += other.sent;
        self.held_back += other.held_back;
        self.aborts += other.aborts;
        self.handed_over += other.handed_over;
        self.evicted_members += other.evicted_members;
        self.duplicates += other.duplicates;
        self.failovers += other.failovers;
        self.wound_down += other.wound_down;
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.count as f64 / self.took.as_secs_f64();
        writeln!(f, "{} schedules, {} events in {:.1?} ({rate:.0}/s)", self.count, self.steps, self.took)?;
        writeln!(f, "{:#?}", self.tally)?;
        write!(f, "longest without a leader after {:?}", self.longest_heal)
    }
}
