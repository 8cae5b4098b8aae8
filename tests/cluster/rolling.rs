//! A rolling restart under a load: every instance is replaced in turn, by SIGTERM, and no sender and no order notices.

use std::time::Duration;

use rustix::process::Signal;

use crate::load::{self, Load};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait::spread;

/// Rolls that end with the leader, in the quick test.
const ROLLS: usize = 4;
/// The same in the slow one.
const MANY: usize = 30;
/// How long nobody may lead at a handover, by the rule of the tests: ten times the target, which is for machines that
/// do nothing else.
const LONGEST_GAP: Duration = Duration::from_secs(1);

// R: H5, S1, S11, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_five_signals_a_second_loses_and_doubles_nothing() {
    roll_under_load(ROLLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: thirty rolling restarts for the gaps' tail"]
async fn thirty_rolling_restarts_under_five_signals_a_second_lose_and_double_nothing() {
    roll_under_load(MANY).await;
}

async fn roll_under_load(rolls: usize) {
    let mut cluster = Cluster::with(load::options()).await;
    let load = Load::start(&cluster);
    let first = cluster.epoch().await;
    let members = cluster.members.len();

    // The leader last: leadership moves once a roll, however many instances there are.
    for roll in 1..=rolls {
        let before = cluster.epoch().await;
        let leader = cluster.leader().await;
        for follower in (0..members).filter(|index| *index != leader) {
            restart(&mut cluster, &load, follower).await;
        }
        assert_eq!(cluster.epoch().await, before, "roll {roll}: followers go and come, and nothing moves");
        restart(&mut cluster, &load, leader).await;
        assert_eq!(cluster.epoch().await, before + 1, "roll {roll}: one move: {:?}", cluster.history().await);
    }

    // By name, as whoever knows nothing of leaders does: it moves whenever the one that goes leads, and only then.
    let mut moves = 0;
    for index in 0..members {
        moves += i64::from(cluster.leader().await == index);
        restart(&mut cluster, &load, index).await;
    }
    let moved = cluster.epoch().await - first;
    assert_eq!(moved, i64::try_from(rolls).unwrap() + moves, "{:?}", cluster.history().await);

    let sent = load.stop().await;
    let of_handovers =
        format!("SELECT count(*) FROM leadership_history WHERE epoch > {first} AND reason = 'handover'");
    let planned = cluster.count(&of_handovers).await;
    assert_eq!(planned, moved, "{:?}\n{}", cluster.history().await, about_leadership(&cluster));
    let mut gaps = gaps(&cluster, first).await;
    let (median, p95, longest) = spread(&mut gaps);
    println!(
        "{} rolls, handovers: n = {moved}, without a leader: median {median:?}, p95 {p95:?}, longest {longest:?}",
        rolls + 1
    );
    assert!(longest <= LONGEST_GAP, "{gaps:?}");
    sent.was_executed(cluster).await;
}

/// SIGTERM, its end, another process of the name, and the next one's turn only once that is ready.
pub async fn restart(cluster: &mut Cluster, load: &Load, index: usize) {
    let member = &mut cluster.members[index];
    member.process.signal(Signal::TERM);
    let status = member.process.exit(PATIENCE).await;
    assert!(status.success(), "{status}\n{}", member.process.tail());
    member.restart().await;
    load.publish(&cluster.members);
    cluster.all_ready().await;
    cluster.leader().await;
}

/// What the members said about who leads and about their ends.
fn about_leadership(cluster: &Cluster) -> String {
    let said = cluster.members.iter().flat_map(|member| {
        let log = member.log();
        let lines = log.lines().filter(|line| line.contains("[HA]") || line.contains("[SHUTDOWN]"));
        lines.map(|line| format!("{}: {line}", member.name)).collect::<Vec<_>>()
    });
    said.collect::<Vec<_>>().join("\n")
}

/// How long nobody led before each epoch after this one, as the new leader wrote it down.
async fn gaps(cluster: &Cluster, first: i64) -> Vec<Duration> {
    let sql = "SELECT gap_ms FROM leadership_history WHERE epoch > $1 ORDER BY epoch";
    let rows = cluster.sql.query(sql, &[&first]).await.unwrap();
    let gap = |row: &tokio_postgres::Row| {
        let ms: Option<i64> = row.get(0);
        Duration::from_millis(ms.expect("a successor saw the one before").try_into().unwrap())
    };
    rows.iter().map(gap).collect()
}
