//! An ERROR stands until what caused it is proven gone, whatever comes and goes meanwhile.

use rust_decimal::dec;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

// R: N4: a bridge that was away for a moment and answers again proves nothing about the mode that it is in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blip_of_the_bridge_does_not_lift_an_error() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    // Its order fills late: the books are read until then.
    cluster.paper.post("fills", json!({ "hold": true })).await;
    cluster.paper.fault(json!({ "fault": { "kind": "wrong_mode" }, "verb": "placeorder" })).await;
    let first = cluster.post(0, &base("answered-wrongly", GOLD, 140_000)).await;
    let state = async |wanted: &str| {
        wait::until(&format!("its state is {wanted}"), PATIENCE, async || {
            let health = cluster.members[0].json("/healthz").await.unwrap_or_default();
            if health["operational"]["state"] == wanted { Ok(health) } else { Err((health, cluster.logs())) }
        })
        .await
    };
    assert_eq!(state("ERROR").await["operational"]["code"], "WRONG_MODE");
    cluster.paper.fault(json!({ "fault": { "kind": "lost_ack_before" }, "verb": "any" })).await;
    wait::until("the bridge is given up", PATIENCE, async || {
        let log = cluster.members[0].log();
        let given_up =
            |line: &&str| line.contains("the books could not be read") && line.contains("failures=4");
        if log.lines().any(|line| given_up(&line)) { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    cluster.paper.heal().await;
    cluster.paper.post("fills", json!({ "hold": false })).await;
    // Settled by the books, so they were read since.
    assert_eq!(cluster.terminal(&first.id).await["status"], "executed");
    assert_eq!(state("ERROR").await["operational"]["code"], "WRONG_MODE");
    let lifted = "SELECT count(*) FROM operational_state_history WHERE new_state <> 'ERROR'
        AND id > (SELECT min(id) FROM operational_state_history WHERE new_state = 'ERROR')";
    assert_eq!(cluster.count(lifted).await, 0, "{:?}", cluster.logs());

    // A restart reads everything back, the mode included.
    cluster.members[0].process.kill().await;
    cluster.members[0].restart().await;
    cluster.leader().await;
    cluster.finish().await;
}
