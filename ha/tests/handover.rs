//! Going on purpose, and an engine that does not go on at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use ha::{HandoverOutcome, Member, Reason, Role, Status};
use support::{Running, T, World, eventually, stays_put, wait};

/// Waits until one member knows that another is alive and active.
async fn knows(one: &Running, other: &Running) {
    eventually(&format!("{} knows {}", one.name, other.name), async || {
        let listed = one.handle.instances().await.ok()?;
        let it = other.handle.instance();
        listed.iter().any(|i| i.instance == *it && i.alive && i.status == Status::Active).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_follower_takes_over_within_milliseconds() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    let (mut old, mut new) = (&b1, &b2);
    let mut gaps = Vec::new();
    for _ in 0..20 {
        knows(old, new).await;
        let before = old.leads().await;
        let outcome = old.handle.hand_over(None).await;
        assert!(before.check().is_err());
        let HandoverOutcome::HandedOver { to, epoch, gap } = outcome else { panic!("{outcome:?}") };
        assert_eq!(&to, new.handle.instance());
        assert_eq!(epoch.get(), before.epoch().get() + 1);
        assert_eq!(new.leads().await.epoch(), epoch);
        old.follows().await;
        gaps.push(gap);
        std::mem::swap(&mut old, &mut new);
    }
    gaps.sort();
    println!(
        "handover, release to higher epoch: median {:?}, worst {:?}",
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1]
    );
    assert!(gaps[gaps.len() / 2] < Duration::from_millis(200), "{gaps:?}");
    assert_eq!(b1.handle.stats().borrow().transitions[&Reason::Handover], 10);
    assert_eq!(b1.handle.stats().borrow().involuntary_losses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_the_member_that_was_named() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let (b2, b3) = tokio::join!(world.member("b2"), world.member("b3"));
    for name in ["b3", "b1", "b2", "b3"] {
        let leader = *[&b1, &b2, &b3].iter().find(|m| m.fence().is_some()).unwrap();
        let target = *[&b1, &b2, &b3].iter().find(|m| m.name == name).unwrap();
        knows(leader, target).await;
        let outcome = leader.handle.hand_over(Some(Member::new(name).unwrap())).await;
        let HandoverOutcome::HandedOver { to, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(to.member.as_str(), name);
        target.leads().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_without_redis() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let (b2, b3) = tokio::join!(world.member("b2"), world.member("b3"));
    knows(&b1, &b2).await;
    knows(&b1, &b3).await;
    world.stores.redis().kill().await.unwrap();
    let outcome = b1.handle.hand_over(Some(b3.handle.instance().member.clone())).await;
    let HandoverOutcome::HandedOver { to, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(to.member.as_str(), "b3");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_successor_the_leader_keeps_its_fence() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.recovering("b2", |_| {}).await;
    let b3 = world.member("b3").await;
    knows(&b1, &b3).await;
    b3.handle.set_status(Status::Draining).await;
    eventually("b1 knows that b3 drains", async || {
        b1.handle.instances().await.ok()?.iter().any(|i| i.status == Status::Draining).then_some(())
    })
    .await;
    for to in [None, Some("b2"), Some("b3"), Some("b9"), Some("b1")] {
        let outcome = b1.handle.hand_over(to.map(|to| Member::new(to).unwrap())).await;
        assert!(matches!(outcome, HandoverOutcome::NoSuccessor { .. }), "{outcome:?}");
    }
    assert!(fence.check().is_ok(), "the pin was not even released");
    assert_eq!(b2.handle.hand_over(None).await, HandoverOutcome::NotLeader);
    stays_put(&b1, &[&b2, &b3], T).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_died_after_its_answer_leaves_the_old_leader_in_office() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    knows(&b1, &b2).await;
    // A successor whose answer is stored, and who then does nothing: its row is all that is left.
    let instance = b2.handle.instance().clone();
    b2.crash();
    let sql = world.sql().await;
    let echo = tokio::spawn(async move {
        loop {
            sql.batch_execute(&format!(
                "UPDATE instance i SET acknowledged_offer = l.offer, liveness = liveness + 1 FROM leadership l \
                 WHERE i.incarnation = '{}'",
                instance.incarnation
            ))
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let outcome = b1.handle.hand_over(None).await;
    echo.abort();
    assert!(matches!(outcome, HandoverOutcome::NoSuccessor { .. }), "{outcome:?}");
    let next = b1.leads().await;
    assert_eq!(next.epoch(), fence.epoch());
    assert!(next.check().is_ok());
    assert!(fence.check().is_err(), "the pin had been released: the old fence is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_could_not_be_withdrawn_is_withdrawn_before_anybody_is_told() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    knows(&b1, &b2).await;
    b2.crash();
    let sql = world.sql().await;
    // The first withdrawal meets what a lock timeout is; a sequence remembers that over the rollback.
    sql.batch_execute(
        "CREATE SEQUENCE withdrawals;
         CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('withdrawals') = 1 THEN RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available'; END IF;
            RETURN NEW;
         END $$;
         CREATE TRIGGER fail_once BEFORE UPDATE OF offer ON leadership FOR EACH ROW
            WHEN (OLD.offer IS NOT NULL AND NEW.offer IS NULL) EXECUTE FUNCTION fail_once()",
    )
    .await
    .unwrap();
    let outcome = b1.handle.hand_over(None).await;
    assert!(matches!(outcome, HandoverOutcome::NoSuccessor { .. }), "{outcome:?}");
    let row =
        sql.query_one("SELECT offer IS NULL, (SELECT last_value FROM withdrawals) FROM leadership", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, i64>(1)), (true, 2), "withdrawn, at the second try");
    assert!(fence.check().is_ok(), "it has led all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_binds_drain_waits_for_the_promotion() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    knows(&b1, &b2).await;
    // Both go at once: whoever was asked first leads, or nobody was and the leader stays.
    let (outcome, ()) = tokio::join!(b1.handle.hand_over(None), b2.handle.set_status(Status::Draining));
    match outcome {
        HandoverOutcome::HandedOver { .. } => {
            b2.leads().await;
        }
        HandoverOutcome::NoSuccessor { .. } => {
            assert!(b1.leads().await.check().is_ok());
            assert!(b2.fence().is_none());
        }
        other => panic!("{other:?}"),
    }
    eventually("b2 drains in the end", async || {
        let stats = b2.handle.stats().borrow().clone();
        (stats.status == Some(Status::Draining)).then_some(())
    })
    .await;
}

// R: L5
#[tokio::test(flavor = "multi_thread")]
async fn l5_a_silent_engine_is_replaced_though_its_timers_live() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    let hung = std::time::Instant::now();
    b1.hang();
    let next = b2.leads().await;
    println!("silent engine to new leader: {:?} with T = {T:?}", hung.elapsed());
    assert!(next.epoch() > fence.epoch());
    assert!(hung.elapsed() < T * 3, "replaced only after {:?}", hung.elapsed());
    assert!(fence.check().is_err());
    b1.follows().await;
    wait(&b1.handle.stats(), "it has to recover first", |stats| stats.status == Some(Status::Recovering))
        .await;
    assert_eq!(b1.handle.stats().borrow().involuntary_losses, 1);
    stays_put(&b2, &[&b1], T * 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_leader_goes_back_to_the_start() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    fence.report_fenced("the journal found epoch 9");
    assert!(fence.check().is_err());
    let next = b2.leads().await;
    assert!(next.epoch() > fence.epoch());
    let Role::Follower { .. } = b1.role() else { panic!("{:?}", b1.role()) };
    let stats = b1.handle.stats().borrow().clone();
    assert_eq!(stats.fenced, 1);
    assert!(
        stats.last_change.contains("gave up leadership: the journal found epoch 9"),
        "{}",
        stats.last_change
    );
    b1.handle.set_status(Status::Active).await;
    knows(&b2, &b1).await;
}
