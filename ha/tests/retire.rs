//! Told to stop: nobody leaves an empty office behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use ha::{HandoverOutcome, Retirement, Status};
use support::{PATIENCE, Running, T, World, eventually, some_leader, wait};

async fn retired(member: &Running) -> Retirement {
    tokio::time::timeout(PATIENCE, member.handle.retire()).await.expect("an answer")
}

// R: R20
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_leaves_on_the_next_heartbeat_and_the_leader_is_asked_to_hand_over() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let begun = Instant::now();
    assert_eq!(retired(&b2).await, Retirement::MayLeave);
    println!("a follower may leave after {:?}, T = {T:?}", begun.elapsed());
    assert!(begun.elapsed() < T, "a heartbeat is a sixth of T: {:?}", begun.elapsed());
    assert_eq!(retired(&b1).await, Retirement::Leads);
    let outcome = b1.handle.hand_over(None).await;
    assert!(matches!(outcome, HandoverOutcome::NoSuccessor { .. }), "b2 accepts nothing more: {outcome:?}");
    assert!(fence.check().is_ok());
}

// R: R20: all are told to stop while nobody is in office.
#[tokio::test(flavor = "multi_thread")]
async fn r20_of_followers_told_to_stop_without_a_leader_each_leads_or_sees_one_that_does() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    world.leader_beats().await;
    let (b2, b3) = tokio::join!(world.member("b2"), world.member("b3"));
    for follower in [&b2, &b3] {
        follower.sees_leader().await;
        follower.handle.set_status(Status::Draining).await;
    }
    b1.crash();
    let (second, third) = tokio::join!(retired(&b2), async {
        // The other is told when the first one leads already, or is about to.
        some_leader(&[&b2, &b3]).await;
        retired(&b3).await
    });
    assert_eq!(second, Retirement::Leads, "nobody else would act");
    assert_eq!(third, Retirement::MayLeave);
    assert!(b2.leads().await.check().is_ok());
}

// R: R20: a leader that was fenced a moment before it is told to stop.
#[tokio::test(flavor = "multi_thread")]
async fn r20_a_leader_that_is_put_out_and_told_to_stop_stands_again() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    world.leader_beats().await;
    fence.report_fenced("the test says so");
    b1.follows().await;
    assert_eq!(retired(&b1).await, Retirement::Leads);
    assert!(b1.leads().await.epoch() > fence.epoch());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_lead_says_why_it_leaves_an_empty_office() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member_with("b2", |config| config.priority = 0).await;
    b2.sees_leader().await;
    b1.crash();
    wait(&b2.handle.role(), "the office is empty", |role| {
        matches!(role, ha::Role::Follower { leader: None })
    })
    .await;
    let told = retired(&b2).await;
    assert!(matches!(&told, Retirement::Unable { why } if why.contains("priority 0")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_a_follower_waits_for_t_and_a_suspended_leader_for_twice_that() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    world.stores.postgres().kill().await.unwrap();
    let begun = Instant::now();
    let (first, second) = tokio::join!(retired(&b1), retired(&b2));
    println!("gave up after {:?}, T = {T:?}", begun.elapsed());
    for told in [&first, &second] {
        assert!(matches!(told, Retirement::Unable { .. } | Retirement::Leads), "{told:?}");
    }
    assert!(matches!(second, Retirement::Unable { .. }), "{second:?}");
    assert!(begun.elapsed() < T * 3 + Duration::from_secs(2), "{:?}", begun.elapsed());
    // Asked while it still believed to lead: the answer to the second question is the one that counts.
    if first == Retirement::Leads {
        let told = retired(&b1).await;
        assert!(matches!(told, Retirement::Unable { .. }), "{told:?}");
    }
}

// R: S7: the epoch that PostgreSQL lost is not given out twice beside Redis.
#[tokio::test(flavor = "multi_thread")]
async fn s7_an_epoch_that_another_announced_is_skipped() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let old = b1.leads().await.epoch();
    world.leader_beats().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let mut redis = world.redis().await;
    let lost = old.get() + 1;
    // The candidate is held between the lease and the row. Meanwhile another's promotion leaves its trace in Redis, and is
    // lost in PostgreSQL.
    let mut sql = world.sql().await;
    let held = sql.transaction().await.unwrap();
    held.query("SELECT 1 FROM leadership WHERE id = 1 FOR UPDATE", &[]).await.unwrap();
    b1.crash();
    eventually("b2 stands", async || {
        let lease: Option<String> =
            redis::cmd("GET").arg("baton:test:leader").query_async(&mut redis).await.ok()?;
        lease.filter(|lease| lease.contains("candidate"))
    })
    .await;
    let _: () = redis::cmd("SET").arg("baton:test:epoch").arg(lost).query_async(&mut redis).await.unwrap();
    let _: () = redis::cmd("DEL").arg("baton:test:leader").query_async(&mut redis).await.unwrap();
    held.rollback().await.unwrap();
    let epoch = b2.leads().await.epoch();
    assert!(epoch.get() > lost, "epoch {epoch} was announced by another");
}
