//! Orders that come several in a request, or by what is held; and what a risk control makes of them.

use baton::paper::BridgeMode::{Analyze, Live};
use baton::paper::{Options, SymbolKey, SymbolSpec};
use serde_json::{Value, json};

use crate::support::*;

const COPPER: &str = "COPPER31DEC25FUT";

fn smart(action: &str, quantity: i64, position_size: i64) -> Value {
    let mut order = market_buy();
    order["action"] = action.into();
    order["quantity"] = quantity.into();
    order["position_size"] = position_size.into();
    order
}

async fn held(bridge: &Bridge) -> i64 {
    let body = json!({ "strategy": "s", "symbol": GOLD, "exchange": "MCX", "product": "NRML" });
    bridge.ok("openposition", body).await["quantity"].as_i64().unwrap()
}

#[tokio::test]
async fn a_smart_order_leads_to_its_position_and_opens_one_from_nothing() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        // As many as are missing, whatever the body's own action and quantity say.
        for (order, expected) in [
            (smart("BUY", 100, 300), 300),
            (smart("BUY", 100, 100), 100),
            (smart("SELL", 0, -100), -100),
            (smart("BUY", 100, 0), 0),
            // Nothing is held and nothing wanted: a sale all the same, and a short one.
            (smart("SELL", 100, 0), -100),
        ] {
            assert!(bridge.ok("placesmartorder", order).await["orderid"].is_string());
            assert_eq!(held(&bridge).await, expected);
        }
        let orders = bridge.truth().await.len();
        let matched = bridge.ok("placesmartorder", smart("SELL", 100, -100)).await;
        assert_eq!(matched["message"], "Positions Already Matched. No Action needed.");
        assert!(matched.get("orderid").is_none());
        assert_eq!(bridge.truth().await.len(), orders);

        let mut limit = smart("BUY", 100, 0);
        limit["pricetype"] = "LIMIT".into();
        limit["price"] = 100_000.into();
        bridge.ok("placesmartorder", limit).await;
        assert_eq!(
            held(&bridge).await,
            if mode == Analyze { 0 } else { -100 },
            "the sandbox buys at the market"
        );
        let (status, answer) = bridge.post("placesmartorder", market_buy()).await;
        assert_eq!(
            (status, &answer["message"]["position_size"][0]),
            (400, &json!("Missing data for required field."))
        );
    }
}

#[tokio::test]
async fn a_basket_is_a_success_whatever_becomes_of_its_orders() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let order = |symbol: &str, quantity: i64| {
            let mut order = market_buy();
            order.as_object_mut().unwrap().remove("strategy");
            order["symbol"] = symbol.into();
            order["quantity"] = quantity.into();
            order
        };
        let orders = json!([order(GOLD, 100), order("NONE", 100), order(COPPER, 2500)]);
        let answer = bridge.ok("basketorder", json!({ "strategy": "b", "orders": orders })).await;
        assert_eq!(answer["status"], "success");
        assert_eq!(answer.get("mode").is_some(), mode == Analyze);
        let rows = answer["results"].as_array().unwrap();
        let fates: Vec<_> = rows.iter().map(|row| (&row["symbol"], &row["status"])).collect();
        let (ok, error) = (json!("success"), json!("error"));
        assert_eq!(fates, [(&json!(GOLD), &ok), (&json!("NONE"), &error), (&json!(COPPER), &ok)]);
        assert!(
            rows[1]["message"].as_str().unwrap().contains("not found") && rows[1].get("orderid").is_none()
        );
        let truth = bridge.truth().await;
        assert_eq!(truth.len(), 2);
        assert!(truth.iter().all(|order| order["arrival"] == 1 && order["strategy"] == "b"), "{truth:?}");

        let (status, answer) = bridge.post("basketorder", json!({ "strategy": "b", "orders": [{}] })).await;
        assert_eq!(status, 400);
        assert_eq!(answer["message"]["orders"]["0"]["symbol"], json!(["Missing data for required field."]));
        let refused = bridge.post("basketorder", json!({ "strategy": "b", "orders": [] })).await;
        assert_eq!(refused.0, 400);
    }
}

#[tokio::test]
async fn a_basket_whose_answer_is_lost_is_placed_and_one_under_a_dead_session_fails_order_by_order() {
    let bridge = Bridge::start(Live).await;
    let mut order = market_buy();
    order.as_object_mut().unwrap().remove("strategy");
    let basket = json!({ "strategy": "b", "orders": [order.clone(), order] });
    bridge.fault(json!({ "fault": { "kind": "lost_ack_after" }, "verb": "basketorder", "count": 1 })).await;
    bridge.try_post("basketorder", basket.clone()).await.unwrap_err();
    assert_eq!(bridge.truth().await.len(), 2);
    bridge.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    let answer = bridge.ok("basketorder", basket).await;
    let rows = answer["results"].as_array().unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["status"] == "error"), "{answer}");
    assert_eq!(bridge.truth().await.len(), 2);
}

#[tokio::test]
async fn a_split_order_is_its_parts_and_what_remains() {
    let bridge = Bridge::start(Analyze).await;
    let mut order = market_buy();
    order["quantity"] = 700.into();
    order["splitsize"] = "300".into();
    let answer = bridge.ok("splitorder", order.clone()).await;
    assert_eq!((&answer["split_size"], &answer["total_quantity"]), (&json!(300), &json!(700)));
    let parts: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["order_num"].clone(), row["quantity"].clone()))
        .collect();
    assert_eq!(parts, [(json!(1), json!(300)), (json!(2), json!(300)), (json!(3), json!(100))]);
    assert_eq!((held(&bridge).await, bridge.truth().await.len()), (700, 3));
    for size in [json!(0), json!(-1), json!("x"), json!(5)] {
        order["splitsize"] = size;
        assert_eq!(bridge.post("splitorder", order.clone()).await.0, 400, "{}", order["splitsize"]);
    }
    assert_eq!(bridge.truth().await.len(), 3);
}

#[tokio::test]
async fn a_sandbox_without_a_session_refuses_each_order_at_the_market_by_itself() {
    let bridge = Bridge::start(Analyze).await;
    bridge.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    let mut orders = vec![market_buy(), limit_buy(139_000.0)];
    orders.iter_mut().for_each(|order| _ = order.as_object_mut().unwrap().remove("strategy"));
    let answer = bridge.ok("basketorder", json!({ "strategy": "b", "orders": orders })).await;
    let fates: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|row| row["status"].clone()).collect();
    assert_eq!(fates, ["error", "success"], "{answer}");
    let (status, answer) = bridge.post("placesmartorder", smart("BUY", 100, 100)).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().unwrap().contains("unable to fetch current price"), "{answer}");
}

#[tokio::test]
async fn margin_is_what_is_left_of_longs_and_shorts() {
    let bridge = Bridge::start(Analyze).await;
    let position = |action: &str, quantity: i64| {
        let mut order = market_buy();
        order.as_object_mut().unwrap().remove("strategy");
        order["action"] = action.into();
        order["quantity"] = quantity.into();
        order
    };
    let margin = async |positions: Value| {
        bridge.ok("margin", json!({ "positions": positions })).await["data"]["total_margin_required"].clone()
    };
    assert_eq!(margin(json!([position("BUY", 300)])).await, 315_000.0);
    assert_eq!(margin(json!([position("BUY", 300), position("SELL", 200)])).await, 105_000.0);
    assert_eq!(bridge.post("margin", json!({ "positions": [] })).await.0, 400);
    assert!(bridge.truth().await.is_empty());
}

// A refusal that the sandbox books, with the id of its row; a live bridge has acknowledged the order by then.
#[tokio::test]
async fn what_the_risk_control_refuses_has_a_row() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        bridge.fault(json!({ "fault": { "kind": "risk_refusal" }, "count": 1 })).await;
        let (status, answer) = bridge.post("placeorder", market_buy()).await;
        assert_eq!(status, if mode == Analyze { 400 } else { 200 });
        assert_eq!(answer["status"], if mode == Analyze { "error" } else { "success" });
        let row = &bridge.book().await[0];
        assert_eq!((&row["orderid"], &row["order_status"]), (&answer["orderid"], &json!("rejected")));
        if mode == Analyze {
            assert_eq!(answer["message"], row["rejection_reason"]);
        }
        let (_, seen) = bridge.control("GET", "arrivals", None).await;
        let arrival = &seen["arrivals"][0];
        assert_eq!((&arrival["orderid"], &arrival["done"]), (&answer["orderid"], &json!(mode == Live)));
        assert!(bridge.trades().await.is_empty());
    }
}

#[tokio::test]
async fn delivery_of_what_is_not_held_is_refused_with_a_row() {
    let share = SymbolSpec {
        key: SymbolKey::new("INFY", "NSE"),
        expiry: String::new(),
        ..SymbolSpec::defaults().swap_remove(1)
    };
    let bridge = Bridge::with(Options { symbols: vec![share], ..options(Analyze) }).await;
    let order = |action: &str| {
        let mut order = market_buy();
        order["symbol"] = "INFY".into();
        order["exchange"] = "NSE".into();
        order["product"] = "CNC".into();
        order["action"] = action.into();
        order
    };
    let (status, answer) = bridge.post("placeorder", order("SELL")).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().unwrap().contains("0 held"), "{answer}");
    assert_eq!(bridge.book().await[0]["orderid"], answer["orderid"]);
    bridge.place(order("BUY")).await;
    bridge.place(order("SELL")).await;
    let states: Vec<_> = bridge.book().await.iter().map(|row| row["order_status"].clone()).collect();
    assert_eq!(states, ["rejected", "complete", "complete"]);
}
