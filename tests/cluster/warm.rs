//! A ready follower is a warm one: what it would need to lead is at hand.

use rust_decimal::dec;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;

// R: L4: PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_follower_cut_from_postgresql_is_not_ready_until_it_is_warm_again() {
    let mut links = Vec::new();
    let mut cluster = Cluster::wired(Options::default(), async |launch| {
        links.push(Proxy::before(launch, "BATON_POSTGRES__URL").await);
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let (follower, leader) = (cluster.follower().await, cluster.leader().await);
    let epoch = cluster.epoch().await;
    for cut in [Link::Stall(Way::Both), Link::Discard(Way::ToClient), Link::Refuse] {
        links[follower].set(cut);
        wait::until(&format!("a follower with {cut:?} is not ready"), PATIENCE, async || {
            if cluster.members[follower].is_ready().await { Err(()) } else { Ok(()) }
        })
        .await;
        assert!(cluster.members[leader].is_ready().await, "the leader has its own link");
        links[follower].set(Link::Open);
        cluster.all_ready().await;
        assert_eq!(cluster.epoch().await, epoch, "a follower's link moves nothing");
    }
    // Ready means able: it takes over as one that was never cut.
    for index in (0..cluster.members.len()).filter(|index| *index != follower) {
        cluster.members[index].process.kill().await;
    }
    cluster.leader_within(PATIENCE, |index| index == follower).await;
    let view = cluster.play(follower, &base("warm", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}

/// Waits until the member is ready, or says this code.
async fn answers(cluster: &Cluster, member: usize, code: Option<&str>) {
    wait::until(&format!("b{} answers {code:?}", member + 1), PATIENCE, async || {
        let (status, text) = cluster.members[member].get("/readyz").await.ok_or("no answer")?;
        let fits = match code {
            Some(code) => status == 503 && text.contains(code),
            None => status == 200,
        };
        if fits { Ok(()) } else { Err("another answer") }
    })
    .await;
}

// R: L4: Redis and the bridge. What another has and this one lacks makes it not ready; an outage that is everybody's does
// not, for signals can be stored all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_an_instance_that_alone_is_cut_from_redis_or_the_bridge_is_not_ready() {
    let (mut redis, mut bridge) = (Vec::new(), Vec::new());
    let options = Options { members: 2, ..Options::default() };
    let cluster = Cluster::wired(options, async |launch| {
        redis.push(Proxy::before(launch, "BATON_REDIS__URL").await);
        bridge.push(Proxy::before(launch, "BATON_BROKER__URL").await);
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let (follower, leader) = (cluster.follower().await, cluster.leader().await);
    let epoch = cluster.epoch().await;
    for (links, code) in [(&redis, "REDIS_STALE"), (&bridge, "BRIDGE_STALE")] {
        links[follower].set(Link::Refuse);
        answers(&cluster, follower, Some(code)).await;
        answers(&cluster, leader, None).await;
        links[follower].set(Link::Open);
        answers(&cluster, follower, None).await;
    }
    // Everybody's outage: no transition, and a signal is accepted by either and acted on.
    redis.iter().for_each(|link| link.set(Link::Refuse));
    wait::until("both have lost Redis", PATIENCE, async || {
        match cluster.count("SELECT count(*) FROM instance WHERE status = 'active' AND redis = false").await {
            2 => Ok(()),
            few => Err(few),
        }
    })
    .await;
    cluster.all_ready().await;
    for member in [follower, leader] {
        let (status, _) = cluster.members[member].get("/readyz").await.unwrap();
        assert_eq!(status, 200, "an outage of everybody's");
    }
    let view = cluster.play(follower, &base("without-redis", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(cluster.epoch().await, epoch);
    cluster.finish().await;
}
