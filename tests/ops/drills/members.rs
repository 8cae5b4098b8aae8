//! Drills about who leads and who is there.

use rustix::process::Signal;

use super::{Pager, block, done, done_at, equipped, status_is, told};
use crate::support::cluster::{Cluster, Options, PATIENCE, launch};
use crate::support::member::Member;
use crate::support::wait;

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_no_leader() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    done(&cluster, leader, "baton pause --reason drill --yes").await;
    cluster.members[leader].process.kill().await;

    // First 60 seconds: nobody leads, and nobody will.
    status_is(&cluster, other, 2).await;
    pager.hears("NoLeader").await;
    let printed = done(&cluster, other, &block("no-leader")).await;
    assert!(printed.contains("| t "), "it shows that failover is paused:\n{printed}");

    // Mitigation, and the check that it helped.
    done(&cluster, other, "baton resume --reason drill --yes").await;
    cluster.leader_within(PATIENCE, |index| index != leader).await;
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    status_is(&cluster, other, 0).await;
    pager.rests("NoLeader").await;
    cluster.finish().await;
}

/// A member of another cluster, on stores of its own, that somebody has put into the same scrape job.
async fn stranger(cluster: &Cluster) -> Member {
    let mut launch = launch("c1", &cluster.stores, &cluster.paper, &Options::default(), cluster.folder());
    let url = cluster.stores.create_database("stranger").await.unwrap();
    for (key, value) in [
        ("BATON_CLUSTER__NAME", "another".to_owned()),
        ("BATON_BROKER__ACCOUNT", "PAPER2".to_owned()),
        ("BATON_POSTGRES__URL", url),
    ] {
        launch.env.insert(key.to_owned(), value);
    }
    let member = Member::start("c1", launch, cluster.client.clone()).await;
    wait::until("the other cluster's member leads", PATIENCE, async || {
        if member.trades().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
    member
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_two_leaders() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let pager = Pager::beside(&cluster).await;
    let mut stranger = stranger(&cluster).await;
    let ours = cluster.members.iter().map(|member| member.address.as_str());
    pager.follow(ours.chain([stranger.address.as_str()]));
    pager.hears("TwoLeaders").await;

    // Each says that it leads, and the row knows one of them: these are two clusters.
    let leader = cluster.leader().await;
    let printed = done(&cluster, leader, &block("two-leaders")).await;
    assert!(
        printed.contains("baton_leader 1") && printed.contains(&cluster.members[leader].name),
        "{printed}"
    );
    let printed = done_at(&cluster, leader, &stranger.address, &block("two-leaders")).await;
    assert!(printed.contains("baton_leader 1") && !printed.contains("c1"), "{printed}");

    // Mitigation: a scrape job of its own for each.
    pager.follow_members(&cluster);
    pager.rests("TwoLeaders").await;
    stranger.process.signal(Signal::TERM);
    stranger.process.exit(PATIENCE).await;
    cluster.finish().await;
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_agent_down() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let pager = Pager::beside(&cluster).await;
    for member in &mut cluster.members {
        member.process.kill().await;
    }
    pager.hears("AgentDown").await;
    // First 60 seconds: it does not answer, so it is not Prometheus alone that is cut off.
    status_is(&cluster, 0, 2).await;

    // Mitigation: start them.
    for member in &mut cluster.members {
        member.restart().await;
    }
    pager.follow_members(&cluster);
    cluster.leader().await;
    cluster.all_ready().await;
    status_is(&cluster, 0, 0).await;
    status_is(&cluster, 0, 0).await;
    done(&cluster, 0, told("agent-down", "baton status")).await;
    pager.rests("AgentDown").await;
    cluster.finish().await;
}
