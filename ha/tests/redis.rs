//! Redis with a password, over TLS, and behind sentinels that fail over and lose the lock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use support::redises::{PASSWORD, Trio, certificate, connected, with_tls};
use support::{T, World, eventually, wait};

// R: H1, S8
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_sentinels_that_loses_the_lock_moves_nothing() {
    let world = World::new().await;
    let mut trio = Trio::start(&world).await;
    let access = trio.access();
    let first = world.member_with("b1", |config| config.redis = access.clone()).await;
    let fence = first.leads().await;
    let second = world.member_with("b2", |config| config.redis = access).await;
    second.sees_leader().await;
    let stats = first.handle.stats();
    wait(&stats, "Redis is reached through the sentinels", |stats| stats.redis.is_up()).await;
    let mut master = trio.connect(&trio.master).await;
    let lease = async |connection: &mut redis::aio::MultiplexedConnection| {
        redis::cmd("GET").arg("baton:test:leader").query_async::<Option<String>>(connection).await
    };
    eventually("the lease is held", async || lease(&mut master).await.ok()?).await;

    // The replica stops following, and what it has is gone: it will be a master without the lock and the epoch.
    let mut replica = trio.connect(&trio.replica).await;
    for command in ["CONFIG SET masterauth wrong", "CLIENT KILL TYPE master"] {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        for word in words {
            asked.arg(word);
        }
        let _: redis::Value = asked.query_async(&mut replica).await.unwrap();
    }
    eventually("the replica has lost its master", async || {
        let info: String = redis::cmd("INFO").arg("replication").query_async(&mut replica).await.ok()?;
        info.contains("master_link_status:down").then_some(())
    })
    .await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut replica).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lease(&mut replica).await.unwrap(), None, "the lock is lost");

    let begun = Instant::now();
    trio.master.kill();
    // Both say honestly that Redis is away, and then that it is back.
    wait(&stats, "b1 is degraded", |stats| stats.ha_degraded).await;
    wait(&second.handle.stats(), "b2 is degraded", |stats| stats.ha_degraded).await;
    let degraded = begun.elapsed();
    // A promotion ends the clients' connections, the test's own included.
    let held_by = async |member: &support::Running| {
        eventually("the lease is written to the new master", async || {
            let mut connection = trio.connect(&trio.replica).await;
            let found = lease(&mut connection).await.ok()??;
            found.contains(&member.handle.instance().to_string()).then_some(connection)
        })
        .await
    };
    let mut replica = held_by(&first).await;
    wait(&stats, "b1 is whole again", |stats| !stats.ha_degraded).await;
    wait(&second.handle.stats(), "b2 is whole again", |stats| !stats.ha_degraded).await;
    println!("degraded after {degraded:?}, whole after {:?}\n", begun.elapsed());
    support::stays_put(&first, &[&second], T).await;
    assert_eq!(first.leads().await.epoch(), fence.epoch(), "0 transitions");
    let remembered: i64 = redis::cmd("GET").arg("baton:test:epoch").query_async(&mut replica).await.unwrap();
    assert_eq!(remembered, fence.epoch().get(), "the epoch is remembered anew");

    // The new master elects.
    first.crash();
    let next = second.leads().await;
    assert!(next.epoch() > fence.epoch());
    held_by(&second).await;
}

// R: H1
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_that_are_away_are_asked_in_turn() {
    let world = World::new().await;
    let mut trio = Trio::start(&world).await;
    let mut access = trio.access();
    trio.sentinels[0].kill();
    let sentinel = access.sentinel.as_mut().unwrap();
    sentinel.urls.insert(1, format!("redis://:{}@127.0.0.1:1", support::redises::SENTINEL_PASSWORD));
    let member = world.member_with("b1", |config| config.redis = access).await;
    member.leads().await;
    wait(&member.handle.stats(), "Redis is reached", |stats| stats.redis.is_up() && !stats.ha_degraded).await;
}

// R: H1
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_with_password_and_tls_is_used_with_its_own_authority() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let server = with_tls(&world, folder.path()).await;
    let ca = std::fs::read(certificate().0).unwrap();
    let url = format!("rediss://:{PASSWORD}@localhost:{}/0", server.port);
    let mut own = connected(&url, Some(ca.clone())).await;
    let access = ha::Redis { ca: Some(ca), ..ha::Redis::at(&url) };
    let first = world.member_with("b1", |config| config.redis = access.clone()).await;
    let fence = first.leads().await;
    wait(&first.handle.stats(), "Redis is reached", |stats| stats.redis.is_up() && !stats.ha_degraded).await;
    eventually("the lease is held", async || {
        let found: Option<String> =
            redis::cmd("GET").arg("baton:test:leader").query_async(&mut own).await.ok()?;
        found.filter(|lease| lease.contains(&format!("\"epoch\":{}", fence.epoch())))
    })
    .await;

    // Without the authority, or with a wrong password, it says so and goes on without Redis.
    let strangers = ha::Redis::at(&url);
    let other = world.member_with("b2", |config| config.redis = strangers).await;
    let says = |word: &'static str| {
        move |stats: &ha::Stats| {
            stats.ha_degraded && format!("{:?}", stats.redis).to_lowercase().contains(word)
        }
    };
    wait(&other.handle.stats(), "an unknown authority is refused", says("certificate")).await;
    let wrong = ha::Redis { url: url.replace(PASSWORD, "guess"), ..access };
    let other = world.member_with("b3", |config| config.redis = wrong).await;
    wait(&other.handle.stats(), "a wrong password is refused", says("password")).await;
    assert_eq!(first.leads().await.epoch(), fence.epoch());
}
