//! Releases of brakes through the built binary: shown before they are asked for, refused once it is not so any more.

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::Cluster;

/// A brake: its route, what sets it, what releases it, and the list that a reading of it has.
struct Brake {
    route: String,
    set: Value,
    released: Value,
    list: &'static str,
    is_on: fn(&Value) -> bool,
}

fn brakes() -> [Brake; 3] {
    let switch = |on: bool| json!({ "switch": "halted", "on": on });
    let strategy = |on: bool| json!({ "enabled": on });
    let cluster = |row: &Value| row["switch"] == "halted" && row["instrument"].is_null() && row["on"] == true;
    let gold = |row: &Value| row["instrument"] == GOLD && row["on"] == true;
    let disabled = |row: &Value| row["name"] == "default" && row["enabled"] == false;
    let brake =
        |route: &str, set, released, list, is_on| Brake { route: route.into(), set, released, list, is_on };
    [
        brake("/api/v1/switches", switch(true), switch(false), "switches", cluster),
        brake(&format!("/api/v1/switches/{GOLD}"), switch(true), switch(false), "switches", gold),
        brake("/api/v1/strategies/default", strategy(false), strategy(true), "strategies", disabled),
    ]
}

impl Brake {
    /// The epoch that a reading shows, and the brake's row if it is on.
    async fn shown(&self, cluster: &Cluster, member: usize) -> (Value, Option<Value>) {
        let reading = cluster.members[member].json(&format!("/api/v1/{}", self.list)).await.unwrap();
        let row = reading[self.list].as_array().unwrap().iter().find(|row| (self.is_on)(row)).cloned();
        (reading["epoch"].clone(), row)
    }

    async fn asked(&self, cluster: &Cluster, member: usize, what: &Value, with: Value) -> (u16, Value) {
        let mut body = what.clone();
        body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let (status, answer) = cluster.members[member].command(&self.route, &body).await.unwrap();
        (status.as_u16(), answer)
    }
}

// R: OPS.md "A change previews … and carries the epoch so that a stale call is refused"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_was_decided_before_a_failover_or_a_new_halt_is_refused_and_a_brake_never_is() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let brakes = brakes();
    let mut looked = Vec::new();
    for brake in &brakes {
        let (status, answer) = brake.asked(&cluster, 0, &brake.set, json!({ "reason": "odd prices" })).await;
        assert_eq!(status, 200, "{answer}");
        // Whatever it carries: of a brake nothing is compared.
        let garbled = json!({ "reason": "odd prices", "epoch": "seven", "change": [] });
        let (status, answer) = brake.asked(&cluster, 0, &brake.set, garbled.clone()).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = brake.asked(&cluster, 0, &brake.released, garbled).await;
        assert_eq!(status, 400, "{answer}");
        let (epoch, row) = brake.shown(&cluster, 1).await;
        assert_eq!(epoch, 1, "{row:?}");
        looked.push(row.unwrap()["change"].clone());
    }
    // Another look, by the command line: it shows what it would release, and does nothing without being told twice.
    let follower = cluster.follower().await;
    let (code, said) = cluster.members[follower].cli(&["unhalt", "--reason", "over"]);
    assert_eq!(code, Some(1), "{said}");
    for shown in ["halted: set by", "odd prices", "End the cluster's halt", "add --yes"] {
        assert!(said.contains(shown), "{said}");
    }

    let (old, ..) = cluster.kill_leader().await;
    for (brake, seen) in brakes.iter().zip(&looked) {
        for member in (0..3).filter(|member| *member != old) {
            let stale = json!({ "reason": "over", "epoch": 1, "change": seen });
            let (status, problem) = brake.asked(&cluster, member, &brake.released, stale).await;
            assert_eq!((status, &problem["code"]), (409, &json!("LEADERSHIP_MOVED")), "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("is in force, not 1") && detail.contains("odd prices"), "{detail}");
        }
        // Pulled because something moves: whatever its author saw.
        let again = json!({ "reason": "the leader died", "epoch": 1, "change": seen });
        let (status, answer) = brake.asked(&cluster, follower, &brake.set, again).await;
        assert_eq!(status, 200, "{answer}");
        let (epoch, row) = brake.shown(&cluster, follower).await;
        let unseen = json!({ "reason": "over", "epoch": epoch, "change": seen });
        let (status, problem) = brake.asked(&cluster, follower, &brake.released, unseen).await;
        assert_eq!((status, &problem["code"]), (409, &json!("SET_ANEW")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("the leader died"), "{problem}");
        assert!(brake.shown(&cluster, follower).await.1.is_some(), "it is on still: {row:?}");
    }
    let refused = cluster.play(follower, &base("held", GOLD, 140_000)).await;
    assert_eq!(refused["status"], "refused", "{refused}");

    // As it is shown it is released; and by whoever says nothing of it, such as a version that knows nothing of it.
    let (epoch, row) = brakes[0].shown(&cluster, follower).await;
    let fresh = json!({ "reason": "over", "epoch": epoch, "change": row.unwrap()["change"] });
    assert_eq!(brakes[0].asked(&cluster, follower, &brakes[0].released, fresh).await.0, 200);
    let silent = json!({ "reason": "over" });
    assert_eq!(brakes[1].asked(&cluster, follower, &brakes[1].released, silent).await.0, 200);
    let (code, said) =
        cluster.members[follower].cli(&["strategies", "enable", "default", "--reason", "over", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let taken = cluster.play(follower, &base("free", GOLD, 140_000)).await;
    assert_eq!(taken["status"], "executed", "{taken}");
    for brake in &brakes {
        assert!(brake.shown(&cluster, follower).await.1.is_none(), "{}", brake.route);
    }
    cluster.revive().await;
    cluster.finish().await;
}
