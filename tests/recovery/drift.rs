//! A position closed by hand at the broker: told, never sold again.

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base, exit, pyramid};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{paper, wait};

pub const QUICK: [(&str, &str); 2] =
    [("BATON_RECOVERY__RECONCILE_MS", "300"), ("BATON_RECOVERY__DRIFT_SETTLE_MS", "300")];

pub async fn started() -> Cluster {
    let env = QUICK.map(|(key, value)| (key, value.to_owned())).to_vec();
    let cluster = Cluster::with(Options { members: 2, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster
}

/// An order that somebody places at the broker's own terminal.
pub async fn by_hand(cluster: &Cluster, action: &str, quantity: i64) {
    let body = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": GOLD_SYMBOL, "exchange": "MCX", "action": action,
        "product": "NRML", "pricetype": "MARKET", "quantity": quantity, "price": 0, "trigger_price": 0,
    });
    let request = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

pub async fn held(cluster: &Cluster) -> i64 {
    cluster.count("SELECT coalesce(sum(quantity), 0)::bigint FROM position WHERE status <> 'closed'").await
}

/// What an instance answers, once it is as wanted.
async fn diff(cluster: &Cluster, member: usize, wanted: impl Fn(&Value) -> bool) -> Value {
    wait::until("the positions' comparison is as wanted", PATIENCE, async || {
        let diff = cluster.members[member].json("/api/v1/positions/diff").await.unwrap_or_default();
        if wanted(&diff) { Ok(diff) } else { Err(diff) }
    })
    .await
}

/// `baton positions diff`, asked of an instance.
async fn positions_diff(cluster: &Cluster, member: usize) -> (Option<i32>, String) {
    let output = cluster.baton(&["positions", "diff", "--address", &cluster.members[member].address]).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

pub async fn gauge(cluster: &Cluster, value: f64) {
    wait::until("the leader's gauge shows the drift", PATIENCE, async || {
        let leader = cluster.leader().await;
        let seen = cluster.members[leader].metric("baton_position_drift").await;
        if seen == Some(value) { Ok(()) } else { Err((seen, cluster.logs())) }
    })
    .await;
}

fn orders_of_ours(arrivals: &[paper::Arrival]) -> usize {
    arrivals.iter().filter(|arrival| arrival.body["strategy"] != "by hand").count()
}

// R: LESSONS "repeated EXIT with a smart order opened a short"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_closed_by_hand_is_never_sold_again() {
    let mut cluster = started().await;
    let units = held(&cluster).await;
    let agreed = diff(&cluster, 1, |diff| diff["drift"] == 0).await;
    assert_eq!(agreed["rows"][0]["verdict"], "agrees", "{agreed}");

    by_hand(&cluster, "SELL", units).await;
    let before = orders_of_ours(&cluster.paper.arrivals().await);
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;

    // The operator is told: by the comparison on any instance, by the leader's metric and log.
    let drift = diff(&cluster, 1, |diff| diff["drift"] == 1).await;
    assert_eq!(drift["rows"][0]["verdict"], "missing", "{drift}");
    assert_eq!(
        (&drift["rows"][0]["ledger"], &drift["rows"][0]["broker"]),
        (&json!(units), &json!(0)),
        "{drift}"
    );
    gauge(&cluster, 1.0).await;
    let (code, text) = positions_diff(&cluster, 1).await;
    assert!(code == Some(1) && text.contains("missing"), "{code:?}: {text}");
    let leader = cluster.leader().await;
    let told = format!(
        "POSITION_DRIFT {GOLD_SYMBOL} MCX NRML: the ledger holds {units}, the broker's verified book 0"
    );
    cluster.members[leader].says(&told).await;

    // An entry is refused while they differ; a takeover changes nothing.
    let add = cluster.play(0, &base("more", GOLD, 140_000)).await;
    let codes = add["reasons"].to_string();
    assert!(add["status"] == "refused" && codes.contains("POSITION_DRIFT"), "{add}");
    cluster.kill_leader().await;
    gauge(&cluster, 1.0).await;

    let view =
        cluster.members[cluster.leader().await].json(&format!("/api/v1/signals/{}", out.id)).await.unwrap();
    assert_eq!((&view["status"], &view["orders"]), (&json!("pending"), &json!([])), "{view}");
    assert_eq!(orders_of_ours(&cluster.paper.arrivals().await), before, "no order left for what is not held");

    // Bought back by hand, they agree, and the EXIT that waited acts on it.
    by_hand(&cluster, "BUY", units).await;
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    gauge(&cluster, 0.0).await;
    assert_eq!(held(&cluster).await, 0);
    let flat = diff(&cluster, cluster.leader().await, |diff| diff["rows"] == json!([])).await;
    assert_eq!(flat["drift"], 0);
    let (code, text) = positions_diff(&cluster, cluster.leader().await).await;
    assert!(code == Some(0) && text.contains("ledger and broker agree"), "{code:?}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_position_sold_in_part_by_hand_only_the_rest_is_sold() {
    let cluster = started().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(143000)).await;
    let added = cluster.play(0, &pyramid("add", GOLD, "Long_2", 143_000)).await;
    assert_eq!(added["status"], "executed", "{added}");
    let units = held(&cluster).await;
    by_hand(&cluster, "SELL", 100).await;
    cluster.post(0, &exit("out", GOLD, "ALL", 143_000)).await;
    wait::until("all that the broker holds is sold", PATIENCE, async || {
        let left = held(&cluster).await;
        if left == 100 { Ok(()) } else { Err((left, cluster.logs())) }
    })
    .await;
    gauge(&cluster, 1.0).await;
    let sold: i64 =
        cluster.paper.orders().await.iter().filter(|o| o.side == "SELL").map(|o| o.filled_quantity).sum();
    assert_eq!(sold, units, "the broker is flat and not short");
}

// A dead session is unknown, never flat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_verified_is_unknown_and_an_exit_waits_for_it() {
    let cluster = started().await;
    cluster
        .paper
        .fault(json!({ "fault": { "kind": "broker_error", "status": 500 }, "verb": "positionbook" }))
        .await;
    let (code, text) = positions_diff(&cluster, 0).await;
    assert!(code == Some(1) && text.contains("could not be verified"), "{code:?}: {text}");
    let answer = cluster.members[0].get("/api/v1/positions/diff").await.unwrap();
    assert_eq!(answer.0.as_u16(), 503, "{}", answer.1);
    assert!(answer.1.contains("BROKER_UNVERIFIED"), "{}", answer.1);
    let before = orders_of_ours(&cluster.paper.arrivals().await);
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    wait::until("the leader says that the exit waits", PATIENCE, async || {
        let log = cluster.members[cluster.leader().await].log();
        if log.contains("exits wait for it, none is sent blind") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(orders_of_ours(&cluster.paper.arrivals().await), before);
    let leader = cluster.leader().await;
    assert_eq!(cluster.members[leader].metric("baton_position_drift").await, Some(0.0));
    cluster.paper.heal().await;
    let view = cluster.terminal(&out.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_shows_a_drift() {
    let cluster = started().await;
    by_hand(&cluster, "SELL", 100).await;
    gauge(&cluster, 1.0).await;
    let old = cluster.leader().await;
    let body = json!({ "reason": "drill" });
    let (status, answer) = cluster.members[old].command("/api/v1/cluster/handover", &body).await.unwrap();
    assert!(status.is_success(), "{answer}");
    cluster.leader_within(PATIENCE, |index| index != old).await;
    gauge(&cluster, 1.0).await;
    wait::until("the old leader's gauge is no second voice", PATIENCE, async || {
        let seen = cluster.members[old].metric("baton_position_drift").await;
        if seen == Some(0.0) { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// The unresolved errors of what holds in the ledger.
async fn open_errors(cluster: &Cluster) -> i64 {
    let sql = "SELECT count(*) FROM error_notifications_log
        WHERE NOT resolved AND error_type IN ('POSITION_DRIFT', 'ORDER_IN_DOUBT')";
    cluster.count(sql).await
}

// R: N10: all leaders that told of it are dead, and it is over meanwhile: the next one ends it by what it reads
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_leader_told_is_ended_by_a_successor_that_finds_it_over() {
    let mut cluster = started().await;
    let units = held(&cluster).await;
    by_hand(&cluster, "SELL", units).await;
    wait::until("the drift is told", PATIENCE, async || match open_errors(&cluster).await {
        1 => Ok(()),
        other => Err((other, cluster.logs())),
    })
    .await;
    for member in &mut cluster.members {
        member.process.kill().await;
    }
    // An order whose end its leader stored, and did not live to tell.
    let told = "INSERT INTO error_notifications_log (error_type, scope, severity, error_message, first_occurrence,
            last_occurrence, occurrence_count, last_notification_sent, notification_count, open_since, open_count,
            reported_by, told, window_seconds)
        VALUES ('ORDER_IN_DOUBT', '0190', 'error', 'in doubt', now(), now(), 1, now(), 1, now(), 1, '{b1/engine}', true, 3600)";
    cluster.sql.execute(told, &[]).await.unwrap();
    by_hand(&cluster, "BUY", units).await;
    assert_eq!(open_errors(&cluster).await, 2);
    cluster.revive().await;
    cluster.leader().await;
    wait::until("both are over", PATIENCE, async || match open_errors(&cluster).await {
        0 => Ok(()),
        other => Err((other, cluster.logs())),
    })
    .await;
    let counts = "SELECT sum(occurrence_count)::bigint FROM error_notifications_log
        WHERE error_type IN ('POSITION_DRIFT', 'ORDER_IN_DOUBT')";
    assert_eq!(cluster.count(counts).await, 2, "nobody raised them again");
}
