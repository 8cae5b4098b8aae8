//! What a lock with a TTL alone would make people wait: the baseline.
//!
//! The usual pattern with the usual defaults: the holder of `SET key owner NX PX 10000` renews every 5 s, the others
//! try every 5 s. The holder is killed at any moment of its renewal. Real keys in a real Redis, many at a time.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use crate::support::seed::Seed;

const TTL: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(5);
const CONTENDERS: usize = 2;

/// Waits from the holder's end to the next holder, in so many independent elections.
pub async fn waits(redis_url: &str, rounds: usize, seed: &mut Seed) -> Vec<Duration> {
    let client = redis::Client::open(redis_url).expect("a private Redis has a plain address");
    let connection = client.get_multiplexed_async_connection().await.expect("the private Redis answers");
    let mut elections = tokio::task::JoinSet::new();
    for round in 0..rounds {
        elections.spawn(election(connection.clone(), format!("lock:{round}"), seed.fork()));
    }
    elections.join_all().await
}

async fn election(connection: MultiplexedConnection, key: String, mut seed: Seed) -> Duration {
    assert!(take(&connection, &key, "holder").await, "a new key is free");
    // It renewed once and dies somewhere before the next time.
    tokio::time::sleep(seed.duration(RENEW)).await;
    let killed = Instant::now();
    let mut contenders = tokio::task::JoinSet::new();
    for number in 0..CONTENDERS {
        let (connection, key, phase) = (connection.clone(), key.clone(), seed.duration(RENEW));
        contenders.spawn(async move {
            tokio::time::sleep(phase).await;
            while !take(&connection, &key, &format!("contender {number}")).await {
                tokio::time::sleep(RENEW).await;
            }
        });
    }
    contenders.join_next().await;
    killed.elapsed()
}

async fn take(connection: &MultiplexedConnection, key: &str, owner: &str) -> bool {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(owner).arg("NX").arg("PX").arg(u64::try_from(TTL.as_millis()).expect("seconds fit"));
    let answer: Option<String> =
        set.query_async(&mut connection.clone()).await.expect("the private Redis answers");
    answer.is_some()
}
