//! The pin, the row and the server: what their loss does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use ha::{BootClock, Clock, Fenced, Role, Status, StoreState, locks};
use rustix::process::{Pid, Signal, kill_process};
use support::{T, World, eventually, some_leader, stays_put, wait};

const PIN_HOLDER: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
     AND ((classid::bigint << 32) | objid::bigint) = $1";

// R: S9
#[tokio::test(flavor = "multi_thread")]
async fn s9_a_leader_that_loses_its_pin_journals_nothing_more_under_that_fence() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let sql = world.sql().await;
    let pid: i32 = sql.query_one(PIN_HOLDER, &[&locks::PIN]).await.unwrap().get(0);
    sql.query("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let why = tokio::time::timeout(support::PATIENCE, fence.closed()).await.unwrap();
    assert!(why.contains("pin lost"), "{why}");
    assert!(matches!(fence.check(), Err(Fenced::Closed { .. })));
    assert!(
        fence.session().execute("INSERT INTO journal (epoch, member) VALUES (1, 'b1')", &[]).await.is_err()
    );
    // Either the same epoch on a new pin, or a higher one; never two.
    let members = [&b1, &b2];
    let leader = some_leader(&members).await;
    let next = members[leader].fence().unwrap();
    assert!(next.epoch() > fence.epoch() || (leader == 0 && next.epoch() == fence.epoch()));
    assert!(fence.check().is_err(), "the old fence stays closed");
    stays_put(members[leader], &[members[1 - leader]], T * 2).await;
    assert_eq!(sql.query_one("SELECT count(*) FROM journal", &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_shorter_than_t_leaves_one_leader_which_is_the_old_one() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    world.leader_beats().await;
    world.stores.postgres().stop().await.unwrap();
    wait(&b1.handle.role(), "b1 is suspended", |role| matches!(role, Role::Suspended { .. })).await;
    assert!(fence.check().is_err());
    world.stores.postgres().start().await.unwrap();
    let accepting = Instant::now();
    let next = b1.leads().await;
    println!("PostgreSQL accepts to leader resumed: {:?}", accepting.elapsed());
    assert_eq!(next.epoch(), fence.epoch());
    assert!(next.check().is_ok());
    assert!(fence.check().is_err(), "what was journaled before stays unsent");
    stays_put(&b1, &[&b2], T * 2).await;
    assert_eq!(b1.handle.stats().borrow().suspensions, 1);
}

// R: S9, L2
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pin_with_postgresql_up_leaves_one_leader_within_a_moment() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let sql = world.sql().await;
    let members = [&b1, &b2];
    for _ in 0..5 {
        world.leader_beats().await;
        let before = world.epoch().await;
        let leader = members[some_leader(&members).await];
        let fence = leader.fence().unwrap();
        let pid: i32 = sql.query_one(PIN_HOLDER, &[&locks::PIN]).await.unwrap().get(0);
        sql.query("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        let ended = Instant::now();
        tokio::time::timeout(support::PATIENCE, fence.closed()).await.unwrap();
        some_leader(&members).await;
        println!("pin ended to leader: {:?}", ended.elapsed());
        assert!(ended.elapsed() < T, "{:?}", ended.elapsed());
        assert!(world.epoch().await >= before);
        for member in members {
            if member.fence().is_none() {
                member.handle.set_status(Status::Active).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leads_while_postgresql_is_away() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    world.stores.postgres().kill().await.unwrap();
    wait(&b1.handle.role(), "b1 is suspended", |role| matches!(role, Role::Suspended { .. })).await;
    let end = Instant::now() + T * 2;
    while Instant::now() < end {
        assert!(fence.check().is_err());
        assert!(b1.fence().is_none() && b2.fence().is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for member in [&b1, &b2] {
        assert!(matches!(member.handle.stats().borrow().postgres, StoreState::Down { .. }));
    }
    world.stores.postgres().start().await.unwrap();
    let members = [&b1, &b2];
    let leader = some_leader(&members).await;
    stays_put(members[leader], &[members[1 - leader]], T * 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_leader_died_with_postgresql_leads_after_t() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let old = b1.leads().await.epoch();
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    world.stores.postgres().kill().await.unwrap();
    b1.crash();
    wait(&b2.handle.stats(), "b2 notices", |stats| matches!(stats.postgres, StoreState::Down { .. })).await;
    world.stores.postgres().start().await.unwrap();
    let accepting = Instant::now();
    assert!(b2.leads().await.epoch() > old);
    assert!(accepting.elapsed() >= T / 2, "it gave the incumbent no time: {:?}", accepting.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_sits_on_the_row_is_ended() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    // A setter of switches without the timeout it ought to have, asleep inside its transaction.
    let sitter = world.sql().await;
    sitter.batch_execute("BEGIN; SELECT 1 FROM leadership FOR UPDATE").await.unwrap();
    b1.crash();
    let next = b2.leads().await;
    assert!(next.epoch() > fence.epoch());
    assert!(sitter.batch_execute("SELECT 1").await.is_err(), "the sitter's session is over");

    let sitter = world.sql().await;
    sitter.batch_execute("BEGIN; SELECT 1 FROM leader_heartbeat FOR UPDATE").await.unwrap();
    eventually("the second sitter's session is over", async || sitter.batch_execute("SELECT 1").await.err())
        .await;
    stays_put(&b2, &[], T * 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_held_by_a_session_the_row_does_not_name_is_freed_after_t() {
    let world = World::new().await;
    // What a candidate leaves behind that stopped between its pin and its commit.
    let stopped = world.sql().await;
    stopped.query("SELECT pg_advisory_lock($1)", &[&locks::PIN]).await.unwrap();
    let begun = Instant::now();
    let b1 = world.member("b1").await;
    b1.leads().await;
    assert!(begun.elapsed() >= T, "ended after {:?}", begun.elapsed());
    assert!(stopped.batch_execute("SELECT 1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_answers_nothing_suspends_the_leader_by_its_deadline() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let pid = i32::try_from(world.stores.postgres().pid().unwrap()).unwrap();
    // The server processes stop: connections stand, nothing is answered, nothing is closed.
    let servers = stop_all(pid);
    let role =
        wait(&b1.handle.role(), "b1 is suspended", |role| matches!(role, Role::Suspended { .. })).await;
    assert!(fence.check().is_err());
    assert!(BootClock.now() >= fence.deadline());
    assert!(matches!(role, Role::Suspended { epoch, .. } if epoch == fence.epoch()));
    assert!(b2.fence().is_none());
    drop(servers);
    let members = [&b1, &b2];
    let leader = some_leader(&members).await;
    stays_put(members[leader], &[members[1 - leader]], T * 2).await;
}

/// Stopped processes; dropping it lets them go on.
struct Stopped(Vec<Pid>);

/// Stops a server and all its children.
fn stop_all(server: i32) -> Stopped {
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    let pids = std::iter::once(server).chain(children.split_whitespace().map(|pid| pid.parse().unwrap()));
    let pids: Vec<Pid> = pids.filter_map(Pid::from_raw).collect();
    for pid in &pids {
        let _ = kill_process(*pid, Signal::STOP);
    }
    Stopped(pids)
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_other_sessions_moves_nothing() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let sql = world.sql().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name LIKE 'baton/%/observer' OR application_name LIKE 'baton/%/identity'";
    for _ in 0..3 {
        let ended = sql.query(end, &[]).await.unwrap().len();
        assert!(ended >= 2, "{ended} sessions ended");
        stays_put(&b1, &[&b2], T).await;
    }
}

// R: S7
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_over_postgresql_is_no_place_to_resume_and_sets_reduce_only() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let old = b1.leads().await.epoch();
    b1.crash();
    let sql = world.sql().await;
    sql.batch_execute("UPDATE leadership SET timeline = '000000FF'").await.unwrap();
    let b2 = world.member("b2").await;
    assert!(b2.leads().await.epoch() > old);
    assert!(sql.query_one("SELECT reduce_only FROM leadership", &[]).await.unwrap().get::<_, bool>(0));
    let why: String = sql.query_one("SELECT why FROM switch_history", &[]).await.unwrap().get(0);
    assert!(why.contains("failed over"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_role_is_enough_and_a_wrong_password_is_readable() {
    let world = World::new().await;
    let sql = world.sql().await;
    sql.batch_execute(
        "CREATE ROLE agent LOGIN; \
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO agent; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO agent",
    )
    .await
    .unwrap();
    let as_agent = |config: &mut ha::Config| {
        config.postgres.user("agent");
    };
    let b1 = world.member_with("b1", as_agent).await;
    let old = b1.leads().await.epoch();
    let b2 = world.member_with("b2", as_agent).await;
    b2.sees_leader().await;
    b1.crash();
    assert!(b2.leads().await.epoch() > old);
    let b3 = world.recovering("b3", |config| {
        config.postgres.user("nobody_at_all");
    });
    let b3 = b3.await;
    wait(&b3.handle.stats(), "it says what is wrong", |stats| {
        matches!(&stats.postgres, StoreState::Down { why, .. } if why.contains("\"nobody_at_all\" does not exist"))
    })
    .await;
}
