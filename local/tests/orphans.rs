//! A parent that is killed leaves no server behind, and its directory is swept by the next start.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use local::{Binaries, Options, Stores};

/// Longest wait for servers to end after their parent.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that runs stores, and their pids.
struct Parent {
    child: Child,
    servers: [u32; 2],
    dir: PathBuf,
}

impl Parent {
    fn start(dir: Option<&Path>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_baton-stores"))
            .args(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> =
            output.lines().map_while(Result::ok).take_while(|line| line != "ready").collect();
        let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).unwrap();
        let servers = ["postgres_pid=", "redis_pid="].map(|key| value(key).parse().unwrap());
        let dir = Path::new(value("postgres_log=")).parent().unwrap().to_owned();
        Self { child, servers, dir }
    }
}

/// The pids of every process whose parent or self is one of `servers`: PostgreSQL's own children too.
fn family(servers: [u32; 2]) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        servers.contains(pid) || parent_of(*pid).is_some_and(|parent| servers.contains(&parent))
    })
    .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Gone, or a zombie whose new parent has yet to collect it.
fn over(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while !condition() {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        look.tick().await;
    }
}

#[tokio::test]
async fn killing_the_parent_of_temporary_stores_leaves_no_orphan() {
    let mut parent = Parent::start(None);
    let family = family(parent.servers);
    assert!(family.len() > 4, "PostgreSQL has children of its own: {family:?}");
    parent.child.kill().unwrap();
    parent.child.wait().unwrap();
    until("every server process has ended", || family.iter().all(|pid| over(*pid))).await;
    // The next start sweeps what nobody was left to remove, unless another test's start is doing so.
    let _next = Stores::temporary().await.unwrap();
    until("the killed process's directory is gone", || !parent.dir.exists()).await;
}

#[tokio::test]
async fn kept_stores_restart_after_their_parent_was_killed() {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let dir = place.path().join("stores");
    let mut parent = Parent::start(Some(&dir));
    let family = family(parent.servers);
    parent.child.kill().unwrap();
    parent.child.wait().unwrap();
    // At once: the old servers may still be writing their last checkpoint.
    let options = Options { dir, durable: true, binaries: Binaries::from_env() };
    let stores = Stores::start(options).await.unwrap();
    assert!(stores.postgres().pid().is_some_and(|pid| !family.contains(&pid)));
    until("every old server process has ended", || family.iter().all(|pid| over(*pid))).await;
}

#[tokio::test]
async fn ending_the_parents_input_stops_the_servers_in_order() {
    let mut parent = Parent::start(None);
    drop(parent.child.stdin.take());
    assert!(parent.child.wait().unwrap().success());
    assert!(parent.servers.iter().all(|pid| over(*pid)));
}
