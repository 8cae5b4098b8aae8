//! A ready follower is a warm one: what it would need to lead is at hand.

use rust_decimal::dec;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;

// R: L4: as far as PostgreSQL goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_cut_from_postgresql_is_not_ready_until_it_is_warm_again() {
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
