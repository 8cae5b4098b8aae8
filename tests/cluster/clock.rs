//! The wall clock decides nothing about leadership.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::process::Signal;

use crate::signals::{GOLD, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{faketime, wait};

// R: S10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_the_wall_clock_by_an_hour_move_nothing() {
    let Some(library) = faketime::library() else {
        println!(
            "SKIPPED: libfaketime is not installed, so the wall clock cannot be stepped: run ops/setup --dev"
        );
        return;
    };
    let mut cluster =
        Cluster::wired(Options::default(), async |launch| faketime::preload(launch, &library)).await;
    let (leader, epoch) = (cluster.leader().await, cluster.epoch().await);
    let beats = "SELECT counter FROM leader_heartbeat";
    // The leader alone, the others alone, one of each, and back.
    let other = (leader + 1) % 3;
    for (member, step) in [(leader, 3600), (other, -3600), (leader, -3600), (other, 3600), (leader, 0)] {
        faketime::step(cluster.folder(), &cluster.members[member].name, step);
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
        faketime::step(cluster.folder(), &member.name, 0);
    }
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let view = cluster.play(new, &base("after", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}
