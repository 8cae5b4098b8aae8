//! What the processes of a cluster take from the machine, sampled: memory that is resident, and open files.

use crate::support::member::Member;

/// The samples of each member, in the order in which they were taken.
#[derive(Default)]
pub struct Vitals(Vec<Series>);

#[derive(Default)]
struct Series {
    name: String,
    resident_kib: Vec<u64>,
    open_files: Vec<u64>,
}

/// What counts as a leak: the last quarter's median beyond the second quarter's by a fifth and this much. The first
/// quarter fills pools and caches.
const SLACK_KIB: u64 = 16 * 1024;
const SLACK_FILES: u64 = 16;

// === impl Vitals ===

impl Vitals {
    /// Takes a sample of each member.
    pub fn sample(&mut self, members: &[Member]) {
        self.0.resize_with(members.len(), Series::default);
        for (series, member) in self.0.iter_mut().zip(members) {
            series.name.clone_from(&member.name);
            series.resident_kib.push(member.process.memory_kib());
            let files = format!("/proc/{}/fd", member.process.id());
            let files = std::fs::read_dir(files).expect("a child's files can be listed");
            series.open_files.push(files.count().try_into().unwrap());
        }
    }

    /// Prints how each series went, and fails when one grew on and on.
    pub fn are_bounded(&self) {
        let mut leaks = Vec::new();
        for Series { name, resident_kib, open_files } in &self.0 {
            for (what, series, slack) in
                [("KiB resident", resident_kib, SLACK_KIB), ("files open", open_files, SLACK_FILES)]
            {
                let (early, late) = (median(quarter(series, 1)), median(quarter(series, 3)));
                let most = series.iter().max().unwrap();
                let line = format!(
                    "{name}: {what}: {early} early, {late} late, {most} at most ({} samples)",
                    series.len()
                );
                println!("{line}");
                if late > early + early / 5 + slack {
                    leaks.push(line);
                }
            }
        }
        assert!(leaks.is_empty(), "{leaks:?}");
    }
}

fn quarter(series: &[u64], number: usize) -> &[u64] {
    assert!(series.len() >= 4, "{} samples are too few to tell a leak", series.len());
    let length = series.len() / 4;
    &series[number * length..(number + 1) * length]
}

fn median(series: &[u64]) -> u64 {
    let mut sorted = series.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
