//! Whose work the processors do: their time by kind of process, of this one and of all that it has started.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// So many a second the kernel counts (`USER_HZ`).
const TICKS: u64 = 100;

/// Time of the processors, by what a process is called.
pub struct Spent(BTreeMap<String, Duration>);

/// One line of `/proc/<pid>/stat`.
struct Stat {
    pid: u32,
    parent: u32,
    name: String,
    /// With that of its children that have ended.
    spent: Duration,
}

impl Spent {
    /// So far; `called` gives a process's name by its id and its program's name.
    pub fn so_far(called: impl Fn(u32, &str) -> String) -> Self {
        let own = std::process::id();
        let stats: HashMap<u32, Stat> = stats().map(|stat| (stat.pid, stat)).collect();
        let is_ours = |stat: &Stat| {
            let mut at = Some(stat);
            std::iter::from_fn(|| {
                let this = at?;
                at = stats.get(&this.parent);
                Some(this.pid)
            })
            .any(|pid| pid == own)
        };
        let mut spent: BTreeMap<String, Duration> = BTreeMap::new();
        for stat in stats.values().filter(|stat| is_ours(stat)) {
            *spent.entry(called(stat.pid, &stat.name)).or_default() += stat.spent;
        }
        Self(spent)
    }

    /// What each has spent since `before` on one of `rounds`, in words, the most first.
    pub fn each_of(&self, rounds: usize, before: &Self) -> String {
        let since = |(name, spent): (&String, &Duration)| {
            let spent = spent.saturating_sub(before.0.get(name).copied().unwrap_or_default());
            (spent.as_secs_f64() * 1e3 / rounds.max(1) as f64, name.clone())
        };
        let mut each: Vec<(f64, String)> = self.0.iter().map(since).collect();
        each.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all: f64 = each.iter().map(|(ms, _)| ms).sum();
        let each: Vec<String> = each.iter().map(|(ms, name)| format!("{name} {ms:.2}")).collect();
        format!("{all:.2} ms: {}", each.join(", "))
    }
}

fn stats() -> impl Iterator<Item = Stat> {
    let processes = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        // It may have ended meanwhile.
        let line = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let (name, rest) = line.split_once('(')?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        let spent = Duration::from_millis(ticks * 1000 / TICKS);
        Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, name: name.to_owned(), spent })
    })
}
