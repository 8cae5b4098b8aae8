//! History over HTTP, on a leader and on a follower.

use reqwest::StatusCode;
use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::{charges, wait};

fn amount(value: &Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

// R: K2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_instance_tells_the_same_history_as_json_and_csv() {
    let env = charges::metals();
    let cluster = Cluster::with(Options { members: 2, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    assert_eq!(cluster.play(0, &base("won", GOLD, 140_000)).await["status"], "executed");
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(141000)).await;
    let body = json!({ "symbol": GOLD_SYMBOL, "reason": "test" });
    cluster.members[0].command("/api/v1/positions/close", &body).await.expect("an answer");
    for member in &cluster.members {
        let trades = wait::until("the trade is closed", PATIENCE, async || {
            let trades = member.json("/api/v1/trades?instrument=GOLD_MINI&limit=1").await.unwrap_or_default();
            if trades["trades"][0].is_object() { Ok(trades) } else { Err(trades) }
        })
        .await;
        let trade = &trades["trades"][0];
        assert_eq!(trades["next"], Value::Null);
        let points = amount(&trade["exit_price"]) - amount(&trade["entry_price"]);
        let lots = Decimal::from(trade["quantity"].as_i64().unwrap())
            / Decimal::from(trade["lot_size"].as_i64().unwrap());
        assert_eq!(amount(&trade["realised"]), points * lots * amount(&trade["point_value"]), "{trade}");
        let charged =
            charges::of("BUY", amount(&trade["entry_price"]) * lots * amount(&trade["point_value"]))
                + charges::of("SELL", amount(&trade["exit_price"]) * lots * amount(&trade["point_value"]));
        assert!(charged > dec!(40), "both orders pay the most of their brokerage: {trade}");
        assert_eq!(amount(&trade["charges"]), charged, "{trade}");
        assert_eq!(amount(&trade["net"]), amount(&trade["realised"]) - charged, "{trade}");
        // A fill that was booked without charges leaves them unknown, not at nothing.
        let booked_without = "UPDATE fill SET charges = NULL WHERE price = (SELECT min(price) FROM fill)";
        let was = "SELECT charges::text FROM fill WHERE price = (SELECT min(price) FROM fill)";
        let was: String = cluster.sql.query_one(was, &[]).await.unwrap().get(0);
        cluster.sql.batch_execute(booked_without).await.unwrap();
        let unknown = member.json("/api/v1/trades?limit=1").await.unwrap()["trades"][0].take();
        assert_eq!((&unknown["charges"], &unknown["net"]), (&Value::Null, &Value::Null), "{unknown}");
        cluster.sql.batch_execute(&booked_without.replace("NULL", &was)).await.unwrap();
        let day = member.json("/api/v1/day").await.unwrap();
        assert_eq!(
            (amount(&day["charges"]), amount(&day["realised"])),
            (charged, amount(&trade["realised"]))
        );
        let closed = member.json("/api/v1/positions?status=closed").await.unwrap();
        assert_eq!(amount(&closed["positions"][0]["charges"]), charged, "{closed}");
        assert_eq!(member.json("/api/history").await.unwrap()["trades"], trades["trades"]);

        let equity = member.json("/api/v1/equity").await.unwrap();
        let now = &equity["now"];
        assert_eq!(amount(&now["charges"]), charged, "{equity}");
        assert_eq!(amount(&equity["points"][0]["equity"]), amount(&now["closed_equity"]), "{equity}");
        assert_eq!(amount(&now["capital"]) + amount(&trade["realised"]), amount(&now["closed_equity"]));
        let balance = member.json("/api/balance").await.unwrap();
        assert_eq!(amount(&balance["portfolio"]["closed_equity"]), amount(&now["closed_equity"]));
        assert_eq!(member.json("/api/positions").await.unwrap()["positions"], json!([]));
        assert_eq!(member.json("/api/status").await.unwrap()["open_trades"], 0);

        let debug = member.json("/api/debug").await.unwrap();
        let role = debug["leadership"]["role"].as_str().expect("it has joined");
        assert!(["leader", "follower"].contains(&role) && debug["connections"].is_object(), "{debug}");

        let newest = member.json("/api/v1/orders?limit=1").await.unwrap();
        let next = newest["next"].as_str().expect("two orders");
        let older = member.json(&format!("/api/v1/orders?limit=1&cursor={next}")).await.unwrap();
        assert_eq!(
            (&newest["orders"][0]["side"], &older["orders"][0]["side"]),
            (&json!("SELL"), &json!("BUY"))
        );
        assert_eq!(older["next"], Value::Null);

        let url = format!("{}/api/v1/orders?limit=1", member.address);
        let csv = reqwest::Client::new().get(url).header("accept", "text/csv").send().await.unwrap();
        assert!(csv.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
        assert_eq!(csv.headers()["x-baton-next"], next);
        let (_, text) = member.get("/api/v1/trades?format=csv").await.unwrap();
        assert_eq!((csv.text().await.unwrap().lines().count(), text.lines().count()), (2, 2));

        let (status, problem) = member.get("/api/v1/trades?limit=0&from=x&side=BUY").await.unwrap();
        let problem: Value = serde_json::from_str(&problem).unwrap();
        assert_eq!(
            (status, problem["faults"].as_array().unwrap().len()),
            (StatusCode::BAD_REQUEST, 3),
            "{problem}"
        );
    }
    cluster.finish().await;
}
