//! Redis elects and nothing more: whatever happens to it moves no leadership.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use ha::{Reason, Role, StoreState};
use support::{T, World, eventually, stays_put, wait};

const LEADER: &str = "baton:test:leader";
const EPOCH: &str = "baton:test:epoch";

// R: S8
#[tokio::test(flavor = "multi_thread")]
async fn tampering_with_the_keys_moves_nothing_and_the_leader_writes_them_again() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    let mut redis = world.redis().await;
    let mine = b1.handle.instance().to_string();
    let stranger = |state: &str, epoch: i64| {
        format!(
            "{{\"instance\":\"b9/00000000-0000-7000-8000-000000000000\",\"epoch\":{epoch},\"state\":\"{state}\"}}"
        )
    };
    let epoch = fence.epoch().get();
    let tamperings: Vec<Vec<String>> = vec![
        vec!["FLUSHALL".into()],
        vec!["DEL".into(), LEADER.into()],
        vec!["DEL".into(), EPOCH.into()],
        vec!["PEXPIRE".into(), LEADER.into(), "1".into()],
        vec!["SET".into(), LEADER.into(), "garbage".into()],
        vec!["SET".into(), LEADER.into(), "{\"epoch\":1e300}".into()],
        vec!["SET".into(), LEADER.into(), stranger("leader", epoch - 1)],
        vec!["SET".into(), LEADER.into(), stranger("candidate", epoch), "PX".into(), "300".into()],
        vec!["SET".into(), LEADER.into(), stranger("reserved", epoch), "PX".into(), "300".into()],
        vec!["SET".into(), EPOCH.into(), "garbage".into()],
        vec!["SET".into(), EPOCH.into(), "-5".into()],
        vec!["SET".into(), EPOCH.into(), "9e15".into()],
        vec!["SET".into(), EPOCH.into(), "nan".into()],
    ];
    for tampering in tamperings {
        let mut command = redis::cmd(&tampering[0]);
        command.arg(&tampering[1..]);
        let _: redis::Value = command.query_async(&mut redis).await.unwrap();
        eventually(&format!("the leader writes its keys again after {tampering:?}"), async || {
            let lease: Option<String> = redis::cmd("GET").arg(LEADER).query_async(&mut redis).await.ok()?;
            let highest: Option<String> = redis::cmd("GET").arg(EPOCH).query_async(&mut redis).await.ok()?;
            let again = lease.is_some_and(|lease| lease.contains(&mine) && lease.contains("\"leader\""))
                && highest == Some(epoch.to_string());
            again.then_some(())
        })
        .await;
        assert_eq!(b1.fence().map(|f| f.epoch()), Some(fence.epoch()), "after {tampering:?}");
        assert!(b2.fence().is_none(), "after {tampering:?}");
    }
    let _: redis::Value = redis::cmd("LPUSH").arg("x").arg(1).query_async(&mut redis).await.unwrap();
    for key in [LEADER, EPOCH] {
        let _: redis::Value =
            redis::cmd("COPY").arg("x").arg(key).arg("REPLACE").query_async(&mut redis).await.unwrap();
    }
    eventually("a list in place of the lease is replaced", async || {
        let lease: Result<String, _> = redis::cmd("GET").arg(LEADER).query_async(&mut redis).await;
        lease.ok()
    })
    .await;
    stays_put(&b1, &[&b2], T * 2).await;
}

// R: S8
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_moves_nothing_and_is_shown() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    world.stores.redis().kill().await.unwrap();
    stays_put(&b1, &[&b2], T * 2).await;
    for member in [&b1, &b2] {
        let stats = wait(&member.handle.stats(), "Redis is shown as down", |stats| stats.ha_degraded).await;
        assert!(matches!(stats.redis, StoreState::Down { .. }));
        assert!(stats.postgres.is_up());
    }
    world.stores.redis().start().await.unwrap();
    wait(&b1.handle.stats(), "Redis is back", |stats| !stats.ha_degraded).await;
    let mut redis = world.redis().await;
    eventually("the registry is published again", async || {
        let entry: Option<String> =
            redis::cmd("GET").arg("baton:test:instance:b2").query_async(&mut redis).await.ok()?;
        entry.filter(|entry| entry.contains("\"active\""))
    })
    .await;
    stays_put(&b1, &[&b2], T).await;
    assert_eq!(b1.handle.stats().borrow().transitions.values().sum::<u64>(), 1);
}

// R: S8
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_redis_moves_nothing() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    b1.leads().await;
    let b2 = world.member("b2").await;
    world.stores.redis().pause();
    stays_put(&b1, &[&b2], T * 2).await;
    world.stores.redis().resume();
    wait(&b1.handle.stats(), "Redis is back", |stats| !stats.ha_degraded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_dead_leader_is_still_replaced() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let old = b1.leads().await.epoch();
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    world.stores.redis().kill().await.unwrap();
    b1.crash();
    let fence = b2.leads().await;
    assert!(fence.epoch() > old);
    let stats = b2.handle.stats().borrow().clone();
    assert_eq!(stats.transitions[&Reason::Crash], 1);
    assert!(stats.last_failover_gap.unwrap() < Duration::from_secs(1), "{:?}", stats.last_failover_gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_first_start_waits_two_ttls() {
    let world = World::new().await;
    world.stores.redis().kill().await.unwrap();
    let begun = std::time::Instant::now();
    let b1 = world.member("b1").await;
    let b2 = world.member("b2").await;
    support::some_leader(&[&b1, &b2]).await;
    assert!(begun.elapsed() >= T * 2, "led after {:?}", begun.elapsed());
    assert_eq!(world.epoch().await.get(), 1);
}

// R: S7
#[tokio::test(flavor = "multi_thread")]
async fn a_higher_epoch_in_redis_fences_the_leader_and_the_next_one_goes_beyond() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let fence = b1.leads().await;
    let b2 = world.member("b2").await;
    b2.sees_leader().await;
    // What remains of an epoch whose commit PostgreSQL lost.
    let mut redis = world.redis().await;
    let _: () = redis::cmd("SET").arg(EPOCH).arg(41).query_async(&mut redis).await.unwrap();
    let why = tokio::time::timeout(support::PATIENCE, fence.closed()).await.unwrap();
    assert!(why.contains("41"), "{why}");
    let next = b2.leads().await;
    assert!(next.epoch().get() > 41, "{}", next.epoch());
    b1.follows().await;
    assert_eq!(b1.handle.stats().borrow().fenced, 1);
    let Role::Follower { .. } = b1.role() else { panic!("a fenced leader follows") };
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_listed_from_redis_while_postgresql_is_away() {
    let world = World::new().await;
    let b1 = world.member("b1").await;
    let b2 = world.member("b2").await;
    world.stores.postgres().kill().await.unwrap();
    eventually("both are listed", async || {
        let stats = b1.handle.stats().borrow().clone();
        let listed = b1.handle.instances().await.ok()?;
        (listed.len() == 2 && matches!(stats.postgres, StoreState::Down { .. })).then_some(())
    })
    .await;
    drop(b2);
    eventually("the one that left the world is forgotten", async || {
        (b1.handle.instances().await.ok()?.len() == 1).then_some(())
    })
    .await;
}
