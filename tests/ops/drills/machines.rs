//! Drills about what runs beside Baton: clocks, disks, the watcher, and where messages go.

use rustix::process::Signal;

use super::{Pager, done, done_at, equipped, prints, told, typed};
use crate::receiver::Receiver;
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{faketime, wait};

/// Waits until `baton doctor`, asked of a member, ends so, and says this.
async fn doctor(cluster: &Cluster, member: usize, healthy: bool, wanted: &str) {
    told("host_error", "baton doctor");
    wait::until(&format!("baton doctor is content: {healthy}, and says {wanted:?}"), PATIENCE, async || {
        let output = typed(cluster, member, "export BATON_ADDRESS=$A\nbaton doctor").await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() == healthy && said.contains(wanted) { Ok(()) } else { Err(output) }
    })
    .await;
}

// R: H6, S10, N5
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_clock_disk_and_watchdog() {
    if !equipped() {
        return;
    }
    let Some(library) = faketime::library() else {
        eprintln!("skipped: libfaketime is not installed, so no clock can be wrong: run ops/setup --dev");
        return;
    };
    let disk = "BATON_HEALTH__MIN_DISK_FREE_MB";
    let env = vec![("BATON_HEALTH__CHECK_INTERVAL", "2".to_owned()), (disk, "0".to_owned())];
    let options = Options { members: 2, env, ..Options::default() };
    let mut cluster = Cluster::wired(options, async |launch| faketime::preload(launch, &library)).await;
    let (leader, odd) = (cluster.leader().await, cluster.follower().await);
    let mut pager = Pager::beside(&cluster).await;
    doctor(&cluster, odd, true, "clock").await;

    // clock-skew, and host_error of the scope `clock`.
    faketime::step(cluster.folder(), &cluster.members[odd].name, 30);
    pager.hears("ClockSkew").await;
    let look = told("clock-skew", "curl -s $A/metrics | grep baton_clock_timestamp_seconds");
    let read = |printed: &str| -> i64 {
        let sample = printed.lines().find(|line| line.starts_with("baton_clock_timestamp_seconds ")).unwrap();
        sample.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64
    };
    let date = told("clock-skew", "date +%s");
    // Typed at another machine: the shell there has the right clock.
    let right: i64 =
        done(&cluster, leader, &format!("unset LD_PRELOAD\n{date}")).await.trim().parse().unwrap();
    let wrong = read(&done_at(&cluster, leader, &cluster.members[odd].address, look).await);
    assert!((25..60).contains(&(wrong - right)), "{wrong} {right}");
    doctor(&cluster, odd, false, "clock").await;
    assert!(cluster.members[leader].trades().await, "leadership does not depend on it");
    faketime::step(cluster.folder(), &cluster.members[odd].name, 0);
    pager.rests("ClockSkew").await;
    doctor(&cluster, odd, true, "clock").await;

    // host_error of the scope `disk`: it has less room than it is told to have.
    cluster.members[odd].launch.env.insert(disk.to_owned(), "10000000".to_owned());
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    doctor(&cluster, odd, false, "disk").await;
    let printed = done(&cluster, odd, told("host_error", "df -h")).await;
    assert!(printed.contains('%'), "{printed}");
    cluster.members[odd].launch.env.insert(disk.to_owned(), "0".to_owned());
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    cluster.all_ready().await;
    doctor(&cluster, odd, true, "disk").await;

    // watchdog: it comes, until what watches stands still; then the cluster itself is asked.
    pager.hears("Watchdog").await;
    pager.signal(Signal::STOP);
    pager.falls_silent("Watchdog").await;
    prints(&cluster, leader, told("watchdog", "baton status"), "ACTIVE").await;
    pager.signal(Signal::CONT);
    pager.hears("Watchdog").await;
    cluster.finish().await;
}

// R: H6, N9
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_notification_outbox() {
    if !equipped() {
        return;
    }
    let receiver = Receiver::start().await;
    let key = "BATON_NOTIFY__WEBHOOK_URL";
    let env = vec![
        // Nobody listens there.
        (key, "http://127.0.0.1:9/operators".to_owned()),
        ("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "1".to_owned()),
        ("BATON_NOTIFY__NOTIFICATION_TIMEOUT", "1".to_owned()),
    ];
    let mut cluster = Cluster::with(Options { members: 2, env, ..Options::default() }).await;
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    pager.hears("NotificationOutboxStuck").await;
    let depth = told("notification-outbox", "curl -s $A/metrics | grep baton_notification_outbox_depth");
    wait::until("the outbox is not empty", PATIENCE, async || {
        let printed = done(&cluster, leader, depth).await;
        let empty = printed.lines().any(|line| line == "baton_notification_outbox_depth 0");
        if empty { Err(printed) } else { Ok(()) }
    })
    .await;
    let printed =
        done(&cluster, leader, told("notification-outbox", "baton config show | grep -A5 notify")).await;
    assert!(printed.contains("webhook") || printed.contains("notif"), "{printed}");
    cluster.members[leader].says("[NOTIFICATION]").await;

    // Mitigation: the address is corrected, and the members are restarted one by one.
    for index in [(leader + 1) % 2, leader] {
        let right = format!("{}/operators", receiver.url);
        cluster.members[index].launch.env.insert(key.to_owned(), right);
        cluster.members[index].process.signal(Signal::TERM);
        cluster.members[index].process.exit(PATIENCE).await;
        cluster.members[index].restart().await;
        cluster.all_ready().await;
    }
    pager.follow_members(&cluster);
    let leader = cluster.leader().await;
    prints(&cluster, leader, depth, "baton_notification_outbox_depth 0").await;
    assert!(receiver.deliveries_to("operators") > 0, "what waited was sent");
    pager.rests("NotificationOutboxStuck").await;
    cluster.finish().await;
}
