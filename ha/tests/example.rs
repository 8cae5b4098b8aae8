//! The example `elect` does what it says: three processes, one leader, another one after kill -9.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use support::process::example;
use support::{PATIENCE, World};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

/// The example's processes, ended with the test however it ends.
struct Family(Pid);

impl Drop for Family {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Reads `b2 (pid 123) leads under epoch 4`.
async fn leader(lines: &mut Lines<BufReader<ChildStdout>>) -> (String, Pid, i64) {
    let line =
        tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a process leads").unwrap().unwrap();
    let words: Vec<&str> = line.split([' ', ')']).collect();
    let pid =
        words.iter().position(|word| *word == "(pid").map(|at| words[at + 1]).expect("it names its pid");
    let epoch = words.last().unwrap().parse().expect("it names its epoch");
    (words[0].to_owned(), Pid::from_raw(pid.parse().unwrap()).unwrap(), epoch)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_elect_a_leader_and_another_one_after_kill_9() {
    let world = World::without_schema().await;
    let mut parent = Command::new(example("elect"))
        .args([world.stores.database_url(), world.stores.redis_url()])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let _family = Family(Pid::from_raw(i32::try_from(parent.id().unwrap()).unwrap()).unwrap());
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let mut dead = Vec::new();
    let mut last = 0;
    for _ in 0..2 {
        let (name, pid, epoch) = leader(&mut lines).await;
        assert!(epoch > last, "epoch {epoch} after {last}");
        assert!(!dead.contains(&name), "{name} leads after its death");
        last = epoch;
        kill_process(pid, Signal::KILL).unwrap();
        dead.push(name);
    }
    let killed = Instant::now();
    let (name, _, epoch) = leader(&mut lines).await;
    println!("{name} leads under epoch {epoch}, {:?} after the second kill", killed.elapsed());
    assert!(epoch > last && !dead.contains(&name));
    // Three seconds are what a follower waits for a leader that is silent. One that is dead is not waited for.
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
}
