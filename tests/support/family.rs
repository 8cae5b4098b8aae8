//! Processes and their descendants, as `/proc` has them.

use std::collections::BTreeSet;

/// The processes that descend from `ancestor`.
pub fn family(ancestor: u32) -> BTreeSet<u32> {
    let entries: Vec<_> = std::fs::read_dir("/proc").unwrap().flatten().collect();
    let pids: Vec<u32> =
        entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<(u32, u32)> = pids.iter().filter_map(|pid| Some((*pid, parent_of(*pid)?))).collect();
    let mut family = BTreeSet::from([ancestor]);
    loop {
        let before = family.len();
        family.extend(
            parents
                .iter()
                .filter(|(_, parent)| family.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            family.remove(&ancestor);
            return family;
        }
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Gone, or a zombie whose new parent has yet to collect it.
pub fn over(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}
