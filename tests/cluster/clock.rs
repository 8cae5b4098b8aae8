//! The wall clock decides nothing about leadership.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::process::Signal;

use crate::signals::{GOLD, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// libfaketime, where Debian puts it; `ops/setup --dev` installs it.
fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BATON_FAKETIME_LIBRARY") {
        return Some(named.into());
    }
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = folders.flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found.find(|path| path.exists())
}

// R: S10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_steps_of_the_wall_clock_by_an_hour_move_nothing() {
    let Some(library) = library() else {
        println!(
            "SKIPPED: libfaketime is not installed, so the wall clock cannot be stepped: run ops/setup --dev"
        );
        return;
    };
    let clock = |folder: &std::path::Path, member: &str| folder.join(format!("{member}.clock"));
    let mut cluster = Cluster::wired(Options::default(), async |launch| {
        let file = clock(&launch.folder, &launch.env["BATON_CLUSTER__MEMBER"]);
        std::fs::write(&file, "+0\n").unwrap();
        let set = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Only the wall clock is a lie.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        launch.env.extend(set.map(|(key, value)| (key.to_owned(), value)));
    })
    .await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    let beats = "SELECT counter FROM leader_heartbeat";
    // The leader alone, the others alone, one of each, and back.
    let other = (leader + 1) % 3;
    for (member, step) in
        [(leader, "+3600"), (other, "-3600"), (leader, "-3600"), (other, "+3600"), (leader, "+0")]
    {
        std::fs::write(clock(cluster.folder(), &cluster.members[member].name), format!("{step}\n")).unwrap();
        let begun = cluster.count(beats).await;
        // Twelve heartbeats are two T.
        wait::until("the leader's heart beats on", PATIENCE, async || {
            match cluster.count(beats).await - begun {
                12.. => Ok(()),
                few => Err(few),
            }
        })
        .await;
        let history = cluster.history().await;
        assert_eq!(cluster.epoch().await, epoch, "after a step of {step} s on b{}: {history:?}", member + 1);
        cluster.all_ready().await;
    }
    // It was a lie that it believed.
    let answer =
        cluster.client.get(format!("{}/livez", cluster.members[other].address)).send().await.unwrap();
    let date = DateTime::parse_from_rfc2822(answer.headers()["date"].to_str().unwrap()).unwrap();
    let ahead = (date.to_utc() - Utc::now()).num_seconds();
    assert!((3_500..3_700).contains(&ahead), "the wall clock of b{} is {ahead} s ahead", other + 1);
    // A failover under clocks that disagree by an hour is one like any other.
    cluster.members[leader].process.signal(Signal::KILL);
    let new = cluster.leader_within(PATIENCE, |index| index != leader).await;
    assert!(cluster.epoch().await > epoch);
    cluster.members[leader].process.kill().await;
    for member in &cluster.members {
        std::fs::write(clock(cluster.folder(), &member.name), "+0\n").unwrap();
    }
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let view = cluster.play(new, &base("after", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}
