//! Drills about who leads and who is there.

use local::Stores;
use rustix::process::Signal;
use serde_json::Value;

use super::{Pager, block, done, done_at, equipped, prints, shown, status_is, told, typed, with_a_position};
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
    shown("no-leader", &printed);

    // Mitigation, and the check that it helped.
    done(&cluster, other, "baton resume --reason drill --yes").await;
    let new = cluster.leader_within(PATIENCE, |index| index != leader).await;
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    status_is(&cluster, other, 0).await;
    let leads = done(&cluster, other, told("no-leader", "curl -s $A/leader")).await;
    assert!(leads.contains(&cluster.members[new].name), "{leads}");
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

/// A member of this cluster on servers of its own, which hold what ours held: those of before a failover, started again.
async fn left_behind(cluster: &Cluster) -> (Member, Stores) {
    let stores = Stores::temporary().await.unwrap();
    let copy = format!("pg_dump \"$DATABASE_URL\" | psql -q -v ON_ERROR_STOP=1 '{}'", stores.database_url());
    done(cluster, 0, &copy).await;
    let launch = launch("b4", &stores, &cluster.paper, &Options::default(), cluster.folder());
    let member = Member::start("b4", launch, cluster.client.clone()).await;
    wait::until("the member that was left behind leads", PATIENCE, async || {
        if member.trades().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
    (member, stores)
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_two_leaders() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options::default()).await;
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    let ours = || cluster.members.iter().map(|member| member.address.as_str());

    // Two clusters in one job.
    let mut stranger = stranger(&cluster).await;
    pager.follow(ours().chain([stranger.address.as_str()]));
    pager.hears("TwoLeaders").await;
    let look = told("two-leaders", "curl -s $A/api/v1/cluster | jq '{cluster, leader}'");
    let of = async |address: &str| {
        let seen: Value = serde_json::from_str(&done_at(&cluster, leader, address, look).await).unwrap();
        assert!(seen["leader"]["epoch"].is_number(), "{seen}");
        seen["cluster"].clone()
    };
    assert_ne!(of(&stranger.address).await, of(&cluster.members[leader].address).await);
    // Mitigation: a scrape job of its own for each.
    pager.follow_members(&cluster);
    pager.rests("TwoLeaders").await;
    stranger.process.signal(Signal::TERM);
    stranger.process.exit(PATIENCE).await;

    // One cluster, and a member of it whose servers are not the ones in office.
    let (mut odd, stores) = left_behind(&cluster).await;
    pager.follow(ours().chain([odd.address.as_str()]));
    pager.hears("TwoLeaders").await;
    assert!(odd.process.exited().is_none(), "{}", odd.process.tail());
    assert_eq!(of(&odd.address).await, of(&cluster.members[leader].address).await);
    let name = &cluster.members[leader].name;
    for address in [&cluster.members[leader].address, &odd.address] {
        let printed = done_at(&cluster, leader, address, &block("two-leaders")).await;
        shown("two-leaders", &printed);
        assert!(printed.contains(&format!(" {name} ")) && !printed.contains("b4"), "the row: {printed}");
    }
    // Mitigation: the one that the row does not name is killed, and sells nothing that it believes to hold.
    let pid = odd.process.id();
    done(&cluster, leader, &told("two-leaders", "kill -9 PID").replace("PID", &pid.to_string())).await;
    odd.process.exit(PATIENCE).await;
    // Verify: one leads, and what is held is what was.
    pager.follow_members(&cluster);
    pager.rests("TwoLeaders").await;
    done(&cluster, leader, told("two-leaders", "baton positions diff")).await;

    // Undo: the member is started again, on the servers in office.
    stores.stop().await.unwrap();
    odd.launch = launch("b4", &cluster.stores, &cluster.paper, &Options::default(), cluster.folder());
    odd.restart().await;
    prints(&cluster, leader, "baton instances", "b4/").await;
    status_is(&cluster, leader, 0).await;
    assert_eq!(cluster.leader().await, leader, "nothing moved");
    odd.process.kill().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
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
    // Others than this cluster's may run on this machine: which of its members do is what is looked at.
    let running = async |cluster: &Cluster| {
        let output = typed(cluster, 0, told("agent-down", "pgrep -x baton")).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let listed: Vec<u32> = printed.lines().map(|line| line.parse().unwrap()).collect();
        cluster.members.iter().filter(|member| listed.contains(&member.process.id())).count()
    };
    assert_eq!(running(&cluster).await, 3);
    for member in &mut cluster.members {
        member.process.kill().await;
    }
    pager.hears("AgentDown").await;
    // First 60 seconds: it does not answer, so it is not Prometheus alone that is cut off.
    status_is(&cluster, 0, 2).await;
    let asked = typed(&cluster, 0, "baton status 2>&1").await;
    shown("agent-down", &String::from_utf8_lossy(&asked.stdout));
    // Diagnosis: they do not run.
    assert_eq!(running(&cluster).await, 0);

    // Mitigation: start them.
    for member in &mut cluster.members {
        member.restart().await;
    }
    pager.follow_members(&cluster);
    cluster.leader().await;
    cluster.all_ready().await;
    assert_eq!(running(&cluster).await, 3);
    status_is(&cluster, 0, 0).await;
    let printed = done(&cluster, 0, told("agent-down", "baton status")).await;
    assert!(cluster.members.iter().all(|member| printed.contains(&member.name)), "{printed}");
    pager.rests("AgentDown").await;
    cluster.finish().await;
}

// R: H6, N10
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_restart_storm() {
    if !equipped() {
        return;
    }
    let env = vec![("BATON_HEALTH__MAX_RESTARTS", "2".to_owned())];
    let mut cluster = Cluster::with(Options { members: 2, env, ..Options::default() }).await;
    let (leader, odd) = (cluster.leader().await, cluster.follower().await);
    let name = cluster.members[odd].name.clone();
    // One member dies again and again, as something on its machine has it.
    for round in 1..=3 {
        cluster.members[odd].process.kill().await;
        cluster.members[odd].restart().await;
        wait::until("it is up, or waits", PATIENCE, async || {
            let member = &cluster.members[odd];
            let health = member.json("/healthz").await.unwrap_or_default();
            let waits = health["operational"]["code"] == "RESTART_STORM";
            if waits || (round < 3 && member.is_ready().await) { Ok(()) } else { Err(health) }
        })
        .await;
    }
    let told_of = wait::until("the storm is told of", PATIENCE, async || {
        let printed = done(&cluster, leader, "baton errors --address $A").await;
        let line = printed.lines().find(|line| line.contains("RESTART_STORM")).map(str::to_owned);
        line.ok_or(printed)
    })
    .await;
    // First 60 seconds: the other one leads. Diagnosis: who was started when, and ended how.
    let status = typed(&cluster, leader, told("restart_storm", "baton status")).await;
    let printed = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(printed.contains(&cluster.members[leader].name) && status.status.code() != Some(2), "{status:?}");
    let look = told(
        "restart_storm",
        "psql \"$DATABASE_URL\" -c \"SELECT member, started_at, stopped_at, acknowledged_by FROM process_start ORDER BY \
         started_at DESC LIMIT 20\"",
    );
    let printed = done(&cluster, leader, look).await;
    assert!(printed.matches(&format!(" {name} ")).count() >= 4, "{printed}");

    // Mitigation: the member that waits shows nothing, another one shows what the word would be about. Neither does it unasked.
    let word =
        told("restart_storm", "baton ack restart-storm --reason TEXT").replace("TEXT", "'its disk was full'");
    let waiting = cluster.members[odd].address.clone();
    for (address, says) in [
        (waiting, vec!["cannot be shown", "ask a member that does not wait"]),
        (
            cluster.members[leader].address.clone(),
            vec!["OPERATIONAL_ERROR RESTART_STORM", "every member that waits goes on", "add --yes"],
        ),
    ] {
        let output = typed(&cluster, leader, &format!("{word} --address {address}")).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(says.iter().all(|what| said.contains(what)), "{says:?}: {said} beside {told_of}");
    }
    let unacknowledged =
        "SELECT count(*) FROM process_start WHERE acknowledged_at IS NULL AND stopped_at IS NULL";
    let before = cluster.count(unacknowledged).await;
    assert!(before >= 4, "{before}");
    let only = told("restart_storm", "--member b2").replace("b2", &name);
    let said = done(&cluster, leader, &format!("{word} {only} --yes --address $A")).await;
    assert!(said.starts_with("Acknowledged "), "{said}");
    assert_eq!(cluster.count(unacknowledged).await, 1, "the leader's start was not meant");
    cluster.all_ready().await;
    wait::until("it is over", PATIENCE, async || {
        let printed = done(&cluster, leader, "baton errors --address $A").await;
        if printed.contains("RESTART_STORM") { Err(printed) } else { Ok(()) }
    })
    .await;
    cluster.finish().await;
}
