//! How orders fill, as a client sees it.

use baton::paper::BridgeMode::{Analyze, Live};
use baton::paper::{FillModel, Options};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_partial_fill_has_several_trade_rows_and_still_shows_open() {
    let fill = FillModel { slices: 2, slice_delay_ms: 60_000, ..FillModel::default() };
    let bridge = Bridge::with(Options { fill, ..options(Live) }).await;
    let mut order = market_buy();
    order["quantity"] = 300.into();
    let id = bridge.place(order).await;
    let row = &bridge.book().await[0];
    assert_eq!(row["order_status"], "open");
    assert!(row.get("filled_quantity").is_none(), "live shape does not tell");
    let trades = bridge.trades().await;
    assert_eq!((trades.len(), &trades[0]["quantity"]), (1, &json!(200)));
    let held = json!({ "strategy": "s", "symbol": GOLD, "exchange": "MCX", "product": "NRML" });
    assert_eq!(bridge.ok("openposition", held).await["quantity"], 200);

    // What is left is cancelled, what was filled stays.
    bridge.ok("cancelorder", json!({ "strategy": "s", "orderid": id })).await;
    assert_eq!(bridge.book().await[0]["order_status"], "cancelled");
    assert_eq!(bridge.trades().await.len(), 1);
}

#[tokio::test]
async fn all_slices_together_fill_the_order() {
    let fill = FillModel { slices: 3, slice_delay_ms: 5, ..FillModel::default() };
    let bridge = Bridge::with(Options { fill, ..options(Analyze) }).await;
    let mut order = market_buy();
    order["quantity"] = 300.into();
    let id = bridge.place(order).await;
    bridge.book_until("all slices", |book| book[0]["order_status"] == "complete").await;
    let trades = bridge.trades().await;
    assert_eq!(trades.iter().map(|row| row["quantity"].as_i64().unwrap()).collect::<Vec<_>>(), [100; 3]);
    assert!(trades.iter().all(|row| row["orderid"] == id.as_str()));
}

#[tokio::test]
async fn resting_orders_and_stops_follow_the_price() {
    let bridge = Bridge::start(Analyze).await;
    bridge.place(limit_buy(139_900.0)).await;
    let mut stop = market_buy();
    stop["action"] = "SELL".into();
    stop["pricetype"] = "SL".into();
    stop["trigger_price"] = 139_800.into();
    stop["price"] = 139_700.into();
    bridge.place(stop).await;
    let statuses = |book: &[serde_json::Value]| -> Vec<String> {
        book.iter().map(|row| row["order_status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(statuses(&bridge.book().await), ["open", "trigger pending"]);
    bridge.set_price(GOLD, json!(139_850)).await;
    assert_eq!(statuses(&bridge.book().await), ["complete", "trigger pending"]);
    bridge.set_price(GOLD, json!("139750")).await;
    let book = bridge.book().await;
    assert_eq!(statuses(&book), ["complete", "complete"]);
    assert_eq!(
        (&book[0]["average_price"], &book[1]["average_price"]),
        (&json!(139_900.0), &json!(139_750.0))
    );
}

#[tokio::test]
async fn held_fills_go_on_when_they_are_let_go() {
    let bridge = Bridge::start(Live).await;
    bridge.control("POST", "fills", Some(json!({ "hold": true }))).await;
    bridge.place(market_buy()).await;
    assert_eq!(bridge.book().await[0]["order_status"], "open");
    bridge.control("POST", "fills", Some(json!({ "hold": false }))).await;
    bridge.book_until("the fill", |book| book[0]["order_status"] == "complete").await;
}

#[tokio::test]
async fn a_moving_market_is_the_same_for_the_same_seed() {
    let mut seen = Vec::new();
    for seed in [77, 77, 78] {
        let bridge = Bridge::with(Options { seed, ..options(Live) }).await;
        let mut socket = Socket::authenticated(&bridge).await;
        let silver = json!({ "symbol": "SILVERM27FEB26FUT", "exchange": "MCX" });
        socket.ask(json!({ "action": "subscribe", "symbols": [silver], "mode": 2 })).await;
        // It starts to move when the socket hears every step.
        socket.next_of("market_data").await;
        bridge.control("POST", "market", Some(json!({ "moving": true }))).await;
        let mut prices = vec![155_000.0];
        while prices.len() < 10 {
            prices.push(socket.next_of("market_data").await["data"]["ltp"].as_f64().unwrap());
            prices.dedup();
        }
        assert!(prices.iter().all(|price| price.fract() == 0.0), "in ticks of 1: {prices:?}");
        seen.push(prices);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
}
