//! Who becomes leader, and who does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use ha::{HandoverOutcome, Reason, Role, Status, Stop, StoreState};
use support::{T, World, eventually, some_leader, stays_put, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_elects_exactly_one() {
    let world = World::new().await;
    let (b1, b2, b3) = tokio::join!(world.member("b1"), world.member("b2"), world.member("b3"));
    let members = [&b1, &b2, &b3];
    let leader = some_leader(&members).await;
    let others: Vec<_> = members.iter().enumerate().filter(|(i, _)| *i != leader).map(|(_, m)| *m).collect();
    stays_put(members[leader], &others, T * 2).await;
    assert_eq!(world.epoch().await.get(), 1);
    assert_eq!(members[leader].handle.stats().borrow().transitions[&Reason::FirstStart], 1);
    for other in others {
        let Role::Follower { leader: Some(seen) } = other.role() else {
            panic!("{} sees no leader", other.name)
        };
        assert_eq!(&seen.instance, members[leader].handle.instance());
        assert_eq!(seen.address, Some(format!("http://{}.test", members[leader].name)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovering_instance_never_leads() {
    let world = World::new().await;
    let b1 = world.recovering("b1", |_| {}).await;
    let stats = b1.handle.stats();
    wait(&stats, "b1 waits", |stats| stats.waiting.contains("status is recovering")).await;
    eventually("b1 is registered", async || {
        b1.handle
            .instances()
            .await
            .ok()?
            .iter()
            .any(|i| i.alive && i.status == Status::Recovering)
            .then_some(())
    })
    .await;
    assert_eq!(world.epoch().await.get(), 0);
    b1.handle.set_status(Status::Active).await;
    b1.leads().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_zero_never_leads() {
    let world = World::new().await;
    let b1 = world.member_with("b1", |config| config.priority = 0).await;
    wait(&b1.handle.stats(), "b1 says why", |stats| stats.waiting.contains("priority 0")).await;
    let b2 = world.member("b2").await;
    b2.leads().await;
    assert!(b1.fence().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_build_becomes_leader() {
    let world = World::new().await;
    let old = world.member("b1").await;
    old.leads().await;
    let other = world.member("b2").await;
    let new = world.member_with("b3", |config| config.build = 7).await;
    eventually("b1 knows of both", async || {
        let ready = old
            .handle
            .instances()
            .await
            .ok()?
            .iter()
            .filter(|i| i.alive && i.status == Status::Active)
            .count();
        (ready == 3).then_some(())
    })
    .await;
    let outcome = old.handle.hand_over(None).await;
    assert!(
        matches!(&outcome, HandoverOutcome::HandedOver { to, .. } if to == new.handle.instance()),
        "{outcome:?}"
    );
    new.leads().await;
    assert!(other.fence().is_none());
}

// R: S12
#[tokio::test(flavor = "multi_thread")]
async fn a_second_live_process_of_a_member_is_refused() {
    let world = World::new().await;
    let first = world.member("b1").await;
    first.leads().await;
    let second = world.recovering("b1", |_| {}).await;
    let role =
        wait(&second.handle.role(), "the second stops", |role| matches!(role, Role::Stopped { .. })).await;
    let Role::Stopped { why } = role else { unreachable!() };
    assert_eq!(why, Stop::Duplicate { member: "b1".to_owned() });
    stays_put(&first, &[], T).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_leader_is_replaced_and_comes_back_as_a_follower() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let old = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    b1.crash();
    let new = b2.leads().await;
    assert!(new.epoch() > old.epoch());
    assert!(old.check().is_err() || old.deadline() > old.now(), "a fence ends by its deadline at the latest");
    let back = world.member("b1").await;
    stays_put(&b2, &[&back], T).await;
    let history = "SELECT h.reason, h.previous_member, h.gap_ms, p.end_reason \
                   FROM leadership_history h JOIN leadership_history p ON p.epoch = h.epoch - 1 WHERE h.epoch = $1";
    let row = world.sql().await.query_one(history, &[&new.epoch().get()]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "crash");
    assert_eq!(row.get::<_, &str>(1), "b1");
    let gap: i64 = row.get(2);
    assert!((0..2_000).contains(&gap), "gap of {gap} ms");
    assert_eq!(row.get::<_, &str>(3), "crash");
}

// R: S7
#[tokio::test(flavor = "multi_thread")]
async fn the_row_refuses_a_lower_epoch_a_second_row_and_deletion() {
    let world = World::new().await;
    let sql = world.sql().await;
    sql.batch_execute("UPDATE leadership SET epoch = 9").await.unwrap();
    for wrong in [
        "UPDATE leadership SET epoch = 8",
        "DELETE FROM leadership",
        "TRUNCATE leadership",
        "INSERT INTO leadership (id) VALUES (1)",
        "INSERT INTO leadership (id) VALUES (2)",
        "UPDATE leadership SET halt_all = true",
        "UPDATE leader_heartbeat SET counter = counter",
        "DELETE FROM leader_heartbeat",
        "INSERT INTO instance (incarnation, member, version, address, priority, status) \
         VALUES (gen_random_uuid(), 'b1', '', '', 1, 'BANANA')",
    ] {
        assert!(sql.batch_execute(wrong).await.is_err(), "{wrong} was accepted");
    }
    assert_eq!(world.epoch().await.get(), 9);
    let b1 = world.member("b1").await;
    assert_eq!(b1.leads().await.epoch().get(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_means_no_automatic_failover() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let first = b1.leads().await;
    let b2 = world.member("b2").await;
    let sql = world.sql().await;
    sql.batch_execute("UPDATE leadership SET paused = true").await.unwrap();
    b1.crash();
    wait(&b2.handle.stats(), "b2 says why", |stats| stats.waiting.contains("paused")).await;
    assert_eq!(world.epoch().await, first.epoch());
    sql.batch_execute("UPDATE leadership SET paused = false").await.unwrap();
    b2.leads().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_database_is_refused() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let stranger = world.member_with("b2", |config| config.cluster = "other".to_owned()).await;
    b1.crash();
    let stats =
        wait(&stranger.handle.stats(), "it says why", |s| s.last_change.contains("belongs to cluster")).await;
    assert!(stats.last_change.contains("give each cluster a database"), "{}", stats.last_change);
    assert!(stranger.fence().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_waits_for_stores_that_come_later() {
    let world = World::new().await;
    world.stores.postgres().stop().await.unwrap();
    world.stores.redis().stop().await.unwrap();
    let b1 = world.recovering("b1", |_| {}).await;
    let stats = wait(&b1.handle.stats(), "both stores are down", |stats| {
        matches!(stats.postgres, StoreState::Down { .. }) && matches!(stats.redis, StoreState::Down { .. })
    })
    .await;
    let StoreState::Down { why, .. } = &stats.postgres else { unreachable!() };
    assert!(why.contains("cannot connect to PostgreSQL"), "{why}");
    let StoreState::Down { why, .. } = &stats.redis else { unreachable!() };
    assert!(why.contains("cannot connect to Redis"), "{why}");
    b1.handle.set_status(Status::Active).await;
    assert!(b1.fence().is_none());
    world.stores.postgres().start().await.unwrap();
    world.stores.redis().start().await.unwrap();
    b1.leads().await;
    wait(&b1.handle.stats(), "both are up", |stats| stats.postgres.is_up() && stats.redis.is_up()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_schema_and_a_wrong_name_are_readable() {
    let world = World::without_schema().await;
    let b1 = world.recovering("b1", |_| {}).await;
    wait(&b1.handle.stats(), "it says what to do", |stats| {
        matches!(&stats.postgres, StoreState::Down { why, .. } if why.contains("run `baton migrate`"))
    })
    .await;
    let b2 = world.recovering("b2", |config| {
        config.postgres.dbname("nowhere");
    });
    let b2 = b2.await;
    wait(&b2.handle.stats(), "it says what is wrong", |stats| {
        matches!(&stats.postgres, StoreState::Down { why, .. } if why.contains("\"nowhere\" does not exist"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_without_a_successor_leaves_the_office_vacant() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    let role = b1.handle.role();
    b1.leave().await;
    assert!(matches!(*role.borrow(), Role::Stopped { why: Stop::Left }));
    let fence = b2.leads().await;
    let reason = "SELECT reason FROM leadership_history WHERE epoch = $1";
    let row = world.sql().await.query_one(reason, &[&fence.epoch().get()]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "vacant");
    let gone = "SELECT count(*) FROM instance WHERE member = 'b1' AND status = 'gone'";
    assert_eq!(world.sql().await.query_one(gone, &[]).await.unwrap().get::<_, i64>(0), 1);
    let mut redis = world.redis().await;
    let entry: Option<String> =
        redis::cmd("GET").arg("baton:test:instance:b1").query_async(&mut redis).await.unwrap();
    assert_eq!(entry, None);
    tokio::time::timeout(Duration::from_secs(5), b2.leave()).await.unwrap();
}
