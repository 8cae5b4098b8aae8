//! Drills about members that are missing, too many, or unlike the others.

use rust_decimal::dec;
use rustix::process::Signal;

use super::{Pager, block, done, done_at, equipped, prints, shown, status_is, told, typed, with_a_position};
use crate::signals::{GOLD_SYMBOL, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_no_standby() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let pager = Pager::beside(&cluster).await;
    let (leader, gone) = (cluster.leader().await, cluster.follower().await);
    let name = cluster.members[gone].name.clone();
    cluster.members[gone].process.kill().await;
    pager.hears("ReplicaMissing").await;
    // First 60 seconds: which one is missing; the leader trades on.
    wait::until("baton instances does not list the missing one", PATIENCE, async || {
        let printed = done(&cluster, leader, told("no-standby", "baton instances")).await;
        let listed = printed.lines().any(|line| line.starts_with(&format!("{name}/")));
        if listed { Err(printed) } else { Ok(()) }
    })
    .await;
    wait::until("the leader trades on", PATIENCE, async || {
        if cluster.members[leader].trades().await { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let printed = done(&cluster, leader, &block("no-standby")).await;
    shown("no-standby", &printed);
    assert!(printed.contains(&format!(" {name} ")), "it was there, and until when:\n{printed}");
    // What shows that it is over is red as long as it is not, whatever `baton status` says.
    let verify =
        told("no-standby", "baton instances -o json | jq 'map(select(.status == \"active\")) | length'");
    prints(&cluster, leader, verify, "2\n").await;
    status_is(&cluster, leader, 0).await;

    cluster.members[gone].restart().await;
    cluster.all_ready().await;
    pager.follow_members(&cluster);
    let address = cluster.members[gone].address.clone();
    let look = told("no-standby", "curl -s http://b2:8080/readyz").replace("http://b2:8080", &address);
    let printed = done(&cluster, leader, &look).await;
    assert!(printed.contains("ready"), "{printed}");
    pager.rests("ReplicaMissing").await;
    prints(&cluster, leader, verify, "3\n").await;
    cluster.finish().await;
}

// R: H6, B1
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_duplicate_member() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let mut twin = cluster.members[leader].launch.clone();
    twin.log = cluster.folder().join("twin.log");
    let (mut process, _) = twin.announced().await;
    let status = process.exit(PATIENCE).await;
    assert!(!status.success(), "{status}: {}", process.tail());
    assert!(process.tail().contains("another live process is member"), "{}", process.tail());
    let look = told(
        "duplicate-member",
        "SELECT member, incarnation, address, version, started_at FROM instance WHERE status <> 'gone'",
    );
    let name = &cluster.members[leader].name;
    let printed = done(&cluster, leader, &format!("psql \"$DATABASE_URL\" -c \"{look}\"")).await;
    assert_eq!(printed.matches(&format!(" {name} ")).count(), 1, "the first one goes on:\n{printed}");
    assert_eq!(cluster.leader().await, leader, "and leads");

    // Mitigation: a name of its own.
    twin.env.insert("BATON_CLUSTER__MEMBER".to_owned(), "b4".to_owned());
    let (mut process, _) = twin.announced().await;
    wait::until("both are there", PATIENCE, async || {
        status_is(&cluster, leader, 0).await;
        let printed = done(&cluster, leader, told("duplicate-member", "baton status")).await;
        if printed.contains(name.as_str()) && printed.contains("b4") { Ok(()) } else { Err(printed) }
    })
    .await;
    process.signal(Signal::TERM);
    process.exit(PATIENCE).await;
    cluster.finish().await;
}

// R: H6, B11
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_config_skew() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let pager = Pager::beside(&cluster).await;
    let (leader, odd) = (cluster.leader().await, cluster.follower().await);
    // Somebody edits one member's file and restarts it.
    let key = "BATON_TRADING__LIMITS__MAX_OPEN_POSITIONS";
    let before = cluster.members[odd].launch.env.insert(key.to_owned(), "3".to_owned());
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    cluster.all_ready().await;
    pager.follow_members(&cluster);
    pager.hears("ConfigSkew").await;

    let look = told("config-skew", "curl -s http://b1:8080/metrics | grep baton_config_info");
    let look = look.replace("http://b1:8080", "$A");
    let mut prints = std::collections::BTreeSet::new();
    for member in &cluster.members {
        let printed = done_at(&cluster, leader, &member.address, &look).await;
        let line = printed.lines().find(|line| line.starts_with("baton_config_info{")).map(str::to_owned);
        prints.insert(line.expect("it has a fingerprint"));
    }
    assert_eq!(prints.len(), 2, "one differs: {prints:?}");
    let show = told("config-skew", "baton config show");
    let (usual, other) = (done(&cluster, leader, show).await, done(&cluster, odd, show).await);
    assert!(usual != other && other.contains('3'), "{other}");

    // Mitigation: corrected, checked, restarted.
    match before {
        Some(value) => cluster.members[odd].launch.env.insert(key.to_owned(), value),
        None => cluster.members[odd].launch.env.remove(key),
    };
    done(&cluster, odd, told("config-skew", "baton config check")).await;
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    cluster.all_ready().await;
    pager.follow_members(&cluster);
    pager.rests("ConfigSkew").await;
    cluster.finish().await;
}

// R: H6, H2
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_last_instance() {
    if !equipped() {
        return;
    }
    let env = vec![("BATON_SHUTDOWN__EXIT_POLICY", "hold".to_owned())];
    let mut cluster = with_a_position(Options { members: 1, env, ..Options::default() }).await;
    cluster.members[0].process.signal(Signal::TERM);
    let status = cluster.members[0].process.exit(PATIENCE).await;
    let log = cluster.members[0].log();
    assert!(log.contains("[SHUTDOWN] no successor ("), "{status} {log}");
    assert!(log.contains("exit policy hold"), "{log}");
    // What is held, and watched by nobody.
    let look = told(
        "last-instance",
        "psql \"$DATABASE_URL\" -c \"SELECT instrument, label, symbol, quantity, current_stop, status FROM position WHERE \
         status <> 'closed'\"",
    );
    let printed = done(&cluster, 0, look).await;
    assert!(printed.contains(GOLD_SYMBOL), "{printed}");
    status_is(&cluster, 0, 2).await;

    // Mitigation: an instance is started, and goes on.
    cluster.members[0].restart().await;
    cluster.leader().await;
    wait::until("baton status names the leader", PATIENCE, async || {
        let output = typed(&cluster, 0, told("last-instance", "baton status")).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if printed.contains("ACTIVE") { Ok(()) } else { Err(printed) }
    })
    .await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, S1
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_fenced_write() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let pager = Pager::beside(&cluster).await;
    let old = cluster.leader().await;
    cluster.arm("before_journal", "stop");
    let late = cluster.post((old + 1) % 3, &base("late", SILVER, 150_000)).await;
    wait::until("the leader sleeps before it journals", PATIENCE, async || {
        let asleep = !cluster.is_armed() && cluster.members[old].process.is_stopped();
        if asleep { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let new = cluster.leader_within(PATIENCE, |index| index != old).await;
    let view = cluster.terminal(&late.id).await;
    assert_eq!(view["status"], "executed", "the leader in office decided it: {view}");
    cluster.members[old].process.signal(Signal::CONT);
    pager.hears("FencedWrite").await;
    let look = told("fenced-write", "curl -s $A/metrics | grep baton_fenced_writes_total");
    let printed = done(&cluster, old, look).await;
    assert!(printed.contains("baton_fenced_writes_total 1"), "{printed}");
    cluster.members[old].says("[HA]").await;
    assert!(cluster.members[new].trades().await);
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.arrivals), (1, 1), "{check:?}");
}
