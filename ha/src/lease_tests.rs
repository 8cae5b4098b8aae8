//! The scripts, in a real Redis, and the model of them that the simulation plays with.

use local::Stores;

use super::*;
use crate::config::{OnHang, PgTls};
use crate::ids::{Incarnation, Member};

#[path = "../tests/simulation/redis.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod model;

#[path = "../tests/simulation/dice.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod dice;

const TTL: Duration = Duration::from_secs(60);

fn config(redis_url: String) -> Config {
    Config {
        cluster: "test".to_owned(),
        member: Member::new("b1").unwrap(),
        version: String::new(),
        build: 0,
        address: String::new(),
        priority: 1,
        timing: Timing::for_ttl(Duration::from_secs(3)),
        postgres: tokio_postgres::Config::new(),
        tls: PgTls::None,
        redis: crate::config::Redis::at(redis_url),
        on_hang: OnHang::StepDown,
    }
}

fn instance(number: u64) -> Instance {
    let incarnation = Incarnation::from_uuid(uuid::Uuid::from_u64_pair(1, number));
    Instance { member: Member::new(format!("b{number}")).unwrap(), incarnation }
}

/// Asks the scripts what the model is asked.
async fn ask(lease: &RedisLease, from: &Instance, to: &Instance, asked: &model::Ask) -> model::Said {
    use model::{Ask, Said};
    match asked {
        Ask::Win { row, patience, .. } => match lease.win(from, Epoch::new(*row), *patience).await.unwrap() {
            Attempt::Won { highest } => Said::Won { highest: highest.get() },
            Attempt::Refused { .. } => Said::Refused,
        },
        Ask::Hold { epoch, announces, .. } => {
            let epoch = Epoch::new(*epoch);
            let written = match announces {
                true => lease.announce(from, epoch, TTL).await,
                false => lease.hold(from, epoch, TTL).await,
            };
            match written.unwrap() {
                Renewal::Held => Said::Held,
                Renewal::Waiting { .. } => Said::Waiting,
                Renewal::Outbid { highest } => Said::Outbid { highest: highest.get() },
            }
        }
        Ask::Reserve { epoch, .. } => match lease.reserve(from, to, Epoch::new(*epoch)).await.unwrap() {
            true => Said::Done,
            false => Said::Refused,
        },
        Ask::GiveBack { .. } => {
            lease.give_back(from).await.unwrap();
            Said::Done
        }
    }
}

// The simulation is worth what its model of Redis is worth. Leases do not expire here: each has the same answer
// from both as long as none does.
#[tokio::test(flavor = "multi_thread")]
async fn the_model_of_redis_answers_as_the_scripts_do() {
    use model::Ask;
    let stores = Stores::temporary().await.unwrap();
    let real = RedisLease::new(&config(stores.redis_url())).unwrap();
    let mut connection =
        redis::Client::open(stores.redis_url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let ttl = u64::try_from(TTL.as_nanos()).unwrap();
    let mut dice = dice::Dice::new(7);
    for round in 0..300 {
        let mut model = model::Redis::default();
        let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
        for step in 0..8 {
            let (from, to) = (instance(dice.within(1, 4)), instance(dice.within(1, 4)));
            let me = from.to_string();
            let epoch = i64::try_from(dice.within(1, 5)).unwrap();
            let asked = match dice.pick(6) {
                0 | 1 => {
                    let all = [Patience::RespectAll, Patience::PastReservation, Patience::Exhausted];
                    Ask::Win { me, row: epoch, patience: all[dice.pick(3)], ttl }
                }
                2 | 3 => Ask::Hold { me, epoch, ttl, announces: dice.one_in(2) },
                4 => Ask::Reserve { me, to: to.to_string(), epoch, ttl },
                _ => Ask::GiveBack { me },
            };
            let expected = model.answer(1, &asked);
            let said = ask(&real, &from, &to, &asked).await;
            assert_eq!(said, expected, "round {round}, step {step}: {asked:?} with {:?}", model.lease(1));
        }
    }
}

/// A lease in a Redis of its own, and the test's own way there.
async fn alone() -> (Stores, RedisLease, redis::aio::MultiplexedConnection) {
    let stores = Stores::temporary().await.unwrap();
    let lease = RedisLease::new(&config(stores.redis_url())).unwrap();
    let client = redis::Client::open(stores.redis_url()).unwrap();
    (stores, lease, client.get_multiplexed_async_connection().await.unwrap())
}

// R: S7: what PostgreSQL lost may be minted again; Redis remembers that another announced it.
#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_of_an_epoch_that_another_announced_is_outbid() {
    let (_stores, lease, mut redis_own) = alone().await;
    let (first, second, epoch) = (instance(1), instance(2), Epoch::new(7));
    assert_eq!(lease.announce(&first, epoch, TTL).await.unwrap(), Renewal::Held);
    assert_eq!(lease.announce(&first, epoch, TTL).await.unwrap(), Renewal::Held, "repeating is harmless");
    let outbid = Renewal::Outbid { highest: epoch };
    assert_eq!(lease.announce(&second, epoch, TTL).await.unwrap(), outbid);
    // The lease is gone, the number is not.
    let _: () = redis::cmd("DEL").arg("baton:test:leader").query_async(&mut redis_own).await.unwrap();
    assert_eq!(lease.announce(&second, epoch, TTL).await.unwrap(), outbid);
    let left: Option<String> =
        redis::cmd("GET").arg("baton:test:leader").query_async(&mut redis_own).await.unwrap();
    assert_eq!(left, None, "one that is outbid writes no lease");
    assert_eq!(lease.announce(&second, Epoch::new(8), TTL).await.unwrap(), Renewal::Held);
}

// R: S8: the incumbent's epoch is its own, whatever was lost in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn an_incumbent_that_lost_its_lease_writes_it_again_at_its_own_epoch() {
    let (_stores, lease, mut redis_own) = alone().await;
    let (me, epoch) = (instance(1), Epoch::new(7));
    assert_eq!(lease.announce(&me, epoch, TTL).await.unwrap(), Renewal::Held);
    for lost in
        [&["baton:test:leader"][..], &["baton:test:epoch"], &["baton:test:leader", "baton:test:epoch"]]
    {
        let _: () = redis::cmd("DEL").arg(lost).query_async(&mut redis_own).await.unwrap();
        assert_eq!(lease.hold(&me, epoch, TTL).await.unwrap(), Renewal::Held, "{lost:?}");
    }
}
