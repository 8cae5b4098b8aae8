//! Signals that the leader takes in itself: handed over in memory, decided once and in their turn.

use baton::failpoint::STORED;
use rust_decimal::dec;

use crate::paused::wake;
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait;

// What the leader takes in itself comes before nothing that was answered before it came: without that, the EXIT would find
// nothing to close, and what it was to close would be bought after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_at_the_leader_overtakes_no_entry_that_it_has_not_heard_of() {
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    for round in 0..5 {
        // The notification of the entry goes to nobody.
        let deaf =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN baton_signal'";
        wait::until("the leader listened", PATIENCE, async || {
            match cluster.sql.query(deaf, &[]).await.unwrap().len() {
                0 => Err(cluster.logs()),
                _ => Ok(()),
            }
        })
        .await;
        let entry = cluster.post(leader + 1, &base(&format!("in-{round}"), GOLD, 140_000)).await;
        let out = cluster.post(leader, &exit(&format!("out-{round}"), GOLD, "ALL", 140_000)).await;
        let (entry, out) = (cluster.terminal(&entry.id).await, cluster.terminal(&out.id).await);
        assert_eq!((&entry["status"], &out["status"]), (&"executed".into(), &"executed".into()), "{out}");
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (10, 0), "{check:?}");
}

// A leader that stops between its signal's row and its handover leaves it to the next leader, and takes it up no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_slept_through_a_takeover_is_decided_once() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    for round in 0..2 {
        cluster.all_ready().await;
        let old = cluster.leader().await;
        cluster.arm(STORED, "stop");
        let body = base(&format!("in-{round}"), GOLD, 140_000);
        let _unanswered = cluster.send(old, &body);
        wait::until("the leader stops behind the row", PATIENCE, async || {
            let stopped = !cluster.is_armed() && cluster.members[old].process.is_stopped();
            if stopped { Ok(()) } else { Err(cluster.logs()) }
        })
        .await;
        cluster.leader_within(PATIENCE, |index| index != old).await;
        let view = cluster.play(old + 1, &body).await;
        assert_eq!(view["status"], "executed", "{view}");
        wake(&mut cluster, old).await;
        let out = cluster.play(old, &exit(&format!("out-{round}"), GOLD, "ALL", 140_000)).await;
        assert_eq!(out["status"], "executed", "{out}");
    }
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (4, 0), "{check:?}");
}
