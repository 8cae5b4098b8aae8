//! Intraday positions are gone before the broker closes them, also where nobody led when the time came.

use chrono::{NaiveTime, TimeDelta};
use rust_decimal::dec;
use serde_json::json;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::stops::{flat, price};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_comes_after_the_time_squares_off_once_and_enters_nothing_more() {
    let minutes = |name, minutes: u32| (name, minutes.to_string());
    let env = vec![
        ("BATON_INSTRUMENTS__GOLD_MINI__PRODUCT", "MIS".to_owned()),
        minutes("BATON_TRADING__SQUARE_OFF__COMMODITY__ENTRIES_MIN", 2),
        minutes("BATON_TRADING__SQUARE_OFF__COMMODITY__EXIT_MIN", 1),
        minutes("BATON_TRADING__SQUARE_OFF__COMMODITY__BROKER_MIN", 0),
    ];
    let now = wait::time_in_india().await;
    let mut cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    price(&cluster, dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");

    // The exchange closes soon, and the time to go is over already: so the next leader reads it.
    let hours = json!({ "hours": { "opens": NaiveTime::MIN, "closes": now + TimeDelta::seconds(45) } });
    cluster.paper.post("calendar", hours).await;
    cluster.members[0].process.kill().await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE class <> 'entry'").await, 0);
    cluster.members[0].restart().await;
    flat(&cluster).await;
    let sql = "SELECT class, cause, state, reason FROM order_intent WHERE class <> 'entry'";
    let exits = cluster.sql.query(sql, &[]).await.unwrap();
    let [exit] = exits.as_slice() else { panic!("{exits:?}") };
    let shown: [&str; 3] = [exit.get(0), exit.get(1), exit.get(2)];
    assert_eq!(shown, ["protective", "square_off", "filled"]);
    for (series, wanted) in [("baton_square_offs_total", 1.0), ("baton_square_off_late", 0.0)] {
        wait::until(series, PATIENCE, async || match cluster.members[0].metric(series).await {
            Some(value) if value == wanted => Ok(()),
            other => Err((other, cluster.logs())),
        })
        .await;
    }
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let refused = cluster.play(0, &base("again", GOLD, 140_000)).await;
    let reasons = refused["reasons"].to_string();
    assert!(refused["status"] == "refused" && reasons.contains("INTRADAY_ENTRIES_OVER"), "{refused}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}
