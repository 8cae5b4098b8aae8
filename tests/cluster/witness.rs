//! The intent is committed before the first byte: the bridge itself looks each order up in PostgreSQL on arrival.

use crate::signals::{GOLD, base, exit};
use crate::support::cluster::{Cluster, Options};

// R: S2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_every_intent_is_committed_before_its_order_arrives() {
    let mut cluster = Cluster::with(Options { witnessed: true, ..Options::default() }).await;
    let price = 140_000;
    for round in 0..10 {
        if round % 4 == 3 {
            cluster.kill_leader().await;
            cluster.revive().await;
        }
        let entered = cluster.play(round % 3, &base(&format!("in-{round}"), GOLD, price)).await;
        assert_eq!(entered["status"], "executed", "{entered}");
        let left = cluster.play(round % 3, &exit(&format!("out-{round}"), GOLD, "ALL", price)).await;
        assert_eq!(left["status"], "executed", "{left}");
    }
    let seen = cluster.witness.as_ref().unwrap().seen();
    assert_eq!(seen.early, Vec::<String>::new(), "orders that arrived before their intent was committed");
    assert_eq!((seen.committed, seen.unknown), (20, 0));
    cluster.finish().await;
}
