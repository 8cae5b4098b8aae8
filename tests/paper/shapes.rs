//! What each verb answers, field by field, in both modes.

use baton::paper::BridgeMode::{self, Analyze, Live};
use serde_json::{Value, json};

use crate::support::*;

const LIVE_ORDER_KEYS: [&str; 11] = [
    "action",
    "exchange",
    "order_status",
    "orderid",
    "price",
    "pricetype",
    "product",
    "quantity",
    "symbol",
    "timestamp",
    "trigger_price",
];

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<String> {
    let mut names: Vec<String> = base.iter().chain(more).map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

/// Both modes say success; only analyze says its mode.
fn assert_envelope(answer: &Value, mode: BridgeMode) {
    assert_eq!(answer["status"], "success", "{answer}");
    let said = answer.get("mode").and_then(Value::as_str);
    assert_eq!(said, (mode == Analyze).then_some("analyze"), "{answer}");
}

#[tokio::test]
async fn placeorder_answers_an_order_id() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let answer = bridge.ok("placeorder/", market_buy()).await;
        assert_envelope(&answer, mode);
        let id = answer["orderid"].as_str().unwrap();
        assert!(id.len() == 14 && id.chars().all(|digit| digit.is_ascii_digit()), "{id}");
        assert_eq!(
            keys(&answer),
            with(&["orderid", "status"], if mode == Analyze { &["mode"] } else { &[] })
        );
        // No idempotency: the same body is another order.
        assert_ne!(bridge.place(market_buy()).await, id);
        assert_eq!(bridge.truth().await.len(), 2);
    }
}

#[tokio::test]
async fn numbers_may_be_text_and_words_lower_case() {
    let bridge = Bridge::start(Analyze).await;
    let mut order = market_buy();
    order["quantity"] = "200".into();
    order["action"] = "buy".into();
    order["price"] = "0".into();
    order["disclosed_quantity"] = "0".into();
    order["underlying_ltp"] = Value::Null;
    bridge.place(order).await;
    assert_eq!(bridge.book().await[0]["quantity"], 200);
    assert_eq!(bridge.book().await[0]["action"], "BUY");
}

#[tokio::test]
async fn orderbook_has_the_keys_of_its_mode() {
    let analyze_keys = with(
        &LIVE_ORDER_KEYS,
        &["average_price", "filled_quantity", "pending_quantity", "rejection_reason", "strategy"],
    );
    for (mode, wanted) in [(Analyze, analyze_keys), (Live, with(&LIVE_ORDER_KEYS, &[]))] {
        let bridge = Bridge::start(mode).await;
        let id = bridge.place(market_buy()).await;
        bridge.place(limit_buy(139_000.0)).await;
        let answer = bridge.ok("orderbook", json!({})).await;
        assert_envelope(&answer, mode);
        let rows = answer["data"]["orders"].as_array().unwrap();
        assert_eq!(keys(&rows[0]), wanted);
        assert_eq!(rows[0]["orderid"], id.as_str());
        assert_eq!(rows[0]["order_status"], "complete");
        assert_eq!(rows[0]["price"], 0.0, "market orders show price 0");
        assert_eq!(rows[1]["order_status"], "open");
        assert_eq!(rows[1]["price"], 139_000.0);
        let statistics = &answer["data"]["statistics"];
        assert_eq!(statistics["total_buy_orders"], 2);
        assert_eq!(statistics["total_completed_orders"], 1);
        assert_eq!(statistics["total_open_orders"], 1);
        assert_eq!(statistics.get("total_trigger_pending_orders").is_some(), mode == Analyze);
        if mode == Analyze {
            assert_eq!(rows[0]["strategy"], "trend-1");
            assert_eq!(rows[0]["average_price"], 140_001.0);
            assert_eq!(rows[0]["filled_quantity"], 100);
        }
    }
}

#[tokio::test]
async fn tradebook_has_the_keys_of_its_mode() {
    let live = [
        "action",
        "average_price",
        "exchange",
        "orderid",
        "product",
        "quantity",
        "symbol",
        "timestamp",
        "trade_value",
    ];
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let id = bridge.place(market_buy()).await;
        let answer = bridge.ok("tradebook", json!({})).await;
        assert_envelope(&answer, mode);
        let row = &answer["data"][0];
        let more: &[&str] = if mode == Analyze { &["price", "strategy", "tradeid"] } else { &[] };
        assert_eq!(keys(row), with(&live, more));
        assert_eq!(row["orderid"], id.as_str());
        assert_eq!(row["trade_value"], 14_000_100.0);
        let stamp = row["timestamp"].as_str().unwrap();
        assert_eq!(stamp.len(), if mode == Analyze { 19 } else { 8 }, "{stamp}");
    }
}

#[tokio::test]
async fn positions_and_funds_are_text_in_live_shape() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        bridge.place(market_buy()).await;
        bridge.set_price(GOLD, json!(140_101)).await;

        let positions = bridge.ok("positionbook", json!({})).await;
        assert_envelope(&positions, mode);
        let row = &positions["data"][0];
        assert_eq!((&row["quantity"], &row["ltp"]), (&json!(100), &json!(140_101.0)));
        // 100 points on one lot at 10 rupees a point.
        assert_eq!(row["pnl"], 1000.0);
        assert_eq!(positions.get("total_pnl").is_some(), mode == Analyze);

        let funds = bridge.ok("funds", json!({})).await;
        assert_envelope(&funds, mode);
        if mode == Analyze {
            assert_eq!(row["average_price"], 140_001.0);
            assert_eq!(funds["data"]["availablecash"], 9_895_000.0);
            assert_eq!(funds["data"]["m2munrealized"], 1000.0);
        } else {
            assert_eq!(row["average_price"], "140001.00");
            assert_eq!(funds["data"]["availablecash"], "9895000.00");
            assert_eq!(funds["data"]["utiliseddebits"], "105000.00");
        }
        let wanted = ["availablecash", "collateral", "m2mrealized", "m2munrealized", "utiliseddebits"];
        assert_eq!(keys(&funds["data"]), wanted);

        let body = json!({ "strategy": "s", "symbol": GOLD, "exchange": "MCX", "product": "NRML" });
        let open = bridge.ok("openposition", body).await;
        assert_envelope(&open, mode);
        assert_eq!(open["quantity"], 100);

        let holdings = bridge.ok("holdings", json!({})).await;
        assert_eq!(holdings["data"]["holdings"], json!([]));
    }
}

#[tokio::test]
async fn orderstatus_names_the_price_type_by_mode() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let id = bridge.place(market_buy()).await;
        let answer = bridge.ok("orderstatus", json!({ "strategy": "s", "orderid": id })).await;
        assert_envelope(&answer, mode);
        let (has, lacks) =
            if mode == Analyze { ("price_type", "pricetype") } else { ("pricetype", "price_type") };
        assert_eq!(answer["data"][has], "MARKET");
        assert!(answer["data"].get(lacks).is_none());
        assert_eq!(answer["data"]["average_price"], 140_001.0);
        let (status, missing) = bridge.post("orderstatus", json!({ "strategy": "s", "orderid": "1" })).await;
        assert_eq!((status, &missing["status"]), (404, &json!("error")));
    }
}

#[tokio::test]
async fn modify_and_cancel_answer_the_order_id() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let id = bridge.place(limit_buy(139_000.0)).await;
        let mut change = limit_buy(139_500.0);
        change["orderid"] = id.as_str().into();
        change["quantity"] = 300.into();
        change["disclosed_quantity"] = 0.into();
        change["trigger_price"] = 0.into();
        let answer = bridge.ok("modifyorder", change).await;
        assert_envelope(&answer, mode);
        assert_eq!(answer["orderid"], id.as_str());
        assert_eq!(answer.get("message").is_some(), mode == Analyze);
        let row = &bridge.book().await[0];
        assert_eq!((&row["price"], &row["quantity"]), (&json!(139_500.0), &json!(300)));

        let cancel = json!({ "strategy": "s", "orderid": id });
        let answer = bridge.ok("cancelorder", cancel.clone()).await;
        assert_envelope(&answer, mode);
        assert_eq!(answer["orderid"], id.as_str());
        assert_eq!(bridge.book().await[0]["order_status"], "cancelled");

        // Once more: the sandbox says so, a live bridge fails in the broker's words.
        let (status, answer) = bridge.post("cancelorder", cancel).await;
        assert_eq!(status, if mode == Analyze { 400 } else { 500 });
        assert_eq!(answer["status"], "error");
        let (status, answer) = bridge.post("cancelorder", json!({ "strategy": "s", "orderid": "9" })).await;
        assert_eq!(status, if mode == Analyze { 404 } else { 500 }, "{answer}");
        if mode == Live {
            assert!(answer["message"].as_str().unwrap().starts_with("Failed to cancel order: Client error"));
        }
    }
}

#[tokio::test]
async fn cancelallorder_leaves_waiting_stops_in_the_sandbox_only() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let resting = bridge.place(limit_buy(139_000.0)).await;
        let mut stop = market_buy();
        stop["action"] = "SELL".into();
        stop["pricetype"] = "SL-M".into();
        stop["trigger_price"] = 139_500.into();
        let stop = bridge.place(stop).await;
        assert_eq!(bridge.book().await[1]["order_status"], "trigger pending");
        let answer = bridge.ok("cancelallorder", json!({ "strategy": "another" })).await;
        assert_envelope(&answer, mode);
        let canceled = if mode == Analyze { json!([resting]) } else { json!([resting, stop]) };
        assert_eq!(answer["canceled_orders"], canceled);
        assert_eq!(answer["failed_cancellations"], json!([]));
    }
}

#[tokio::test]
async fn closeposition_flattens_the_account_whatever_the_strategy() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        bridge.place(market_buy()).await;
        let answer = bridge.ok("closeposition", json!({ "strategy": "another" })).await;
        assert_envelope(&answer, mode);
        assert_eq!(answer["message"], "All Open Positions Squared Off");
        assert_eq!(answer.get("closed_positions").is_some(), mode == Analyze);
        let positions = bridge.ok("positionbook", json!({})).await;
        assert_eq!(positions["data"][0]["quantity"], 0);
        // It bought at the ask and sold at the bid: 2 points on a lot.
        assert_eq!(positions["data"][0]["pnl"], -20.0);
    }
}

#[tokio::test]
async fn quotes_carry_no_timestamp() {
    let bridge = Bridge::start(Live).await;
    let answer = bridge.ok("quotes", json!({ "symbol": GOLD, "exchange": "MCX" })).await;
    let wanted = ["ask", "bid", "high", "low", "ltp", "oi", "open", "prev_close", "volume"];
    assert_eq!(keys(&answer["data"]), wanted);
    assert_eq!(answer["data"]["ltp"], 140_000.0);
    assert_eq!(answer["data"]["ask"], 140_001.0);

    let symbols = json!([{ "symbol": GOLD, "exchange": "MCX" }, { "symbol": "NONE", "exchange": "MCX" }]);
    let answer = bridge.ok("multiquotes", json!({ "symbols": symbols })).await;
    assert_eq!(answer["results"][0]["data"]["ltp"], 140_000.0);
    assert!(answer["results"][1]["error"].is_string(), "{answer}");
}

#[tokio::test]
async fn symbol_tells_lot_tick_freeze_and_expiry() {
    let bridge = Bridge::start(Analyze).await;
    let answer = bridge.ok("symbol", json!({ "symbol": "BANKNIFTY30DEC25FUT", "exchange": "NFO" })).await;
    let data = &answer["data"];
    assert_eq!((&data["lotsize"], &data["tick_size"]), (&json!(30), &json!(0.05)));
    assert_eq!((&data["freeze_qty"], &data["expiry"]), (&json!(600), &json!("30-DEC-25")));
    assert_eq!(data["name"], "BANKNIFTY");
    assert_eq!(bridge.post("symbol", json!({ "symbol": "goldm", "exchange": "MCX" })).await.0, 404);
}

#[tokio::test]
async fn the_bridges_own_routes_answer() {
    let bridge = Bridge::start(Analyze).await;
    let ping = bridge.ok("ping", json!({})).await;
    assert_eq!(ping["data"], json!({ "broker": "paper", "message": "pong" }));
    bridge.place(market_buy()).await;
    let mode = bridge.ok("analyzer", json!({})).await;
    assert_eq!(mode["data"], json!({ "mode": "analyze", "analyze_mode": true, "total_logs": 1 }));
    let toggled = bridge.ok("analyzer/toggle", json!({ "mode": false })).await;
    assert_eq!(toggled["data"]["mode"], "live");
    assert!(bridge.ok("orderbook", json!({})).await.get("mode").is_none());

    let health =
        bridge.client.get(format!("{}/health/status", bridge.paper.http_url())).send().await.unwrap();
    assert_eq!(health.json::<Value>().await.unwrap(), json!({ "status": "pass" }));
}

#[tokio::test]
async fn the_calendar_is_open_by_default_and_asks_for_a_key_without_checking_it() {
    let bridge = Bridge::start(Live).await;
    let any_key = |mut body: Value| {
        body["apikey"] = "whatever".into();
        body
    };
    let holidays = bridge.ok("market/holidays", any_key(json!({ "year": 2025 }))).await;
    assert_eq!(holidays["data"], json!([]));
    // A Sunday.
    let timings = bridge.ok("market/timings", any_key(json!({ "date": "2025-11-30" }))).await;
    let mcx = timings["data"].as_array().unwrap().iter().find(|row| row["exchange"] == "MCX").unwrap();
    let open_ms = mcx["end_time"].as_i64().unwrap() - mcx["start_time"].as_i64().unwrap();
    assert_eq!(open_ms, (23 * 60 + 59) * 60_000);
    for (verb, body) in
        [("market/holidays", json!({ "year": 2051 })), ("market/timings", json!({ "date": "x" }))]
    {
        let (status, answer) = bridge.post(verb, body).await;
        assert_eq!(status, 400);
        assert!(answer["message"].is_object(), "{answer}");
    }
}
