//! The WebSocket proxy: authentication, subscriptions, ticks, the order stream, and its silences.

use std::time::Duration;

use baton::paper::BridgeMode::{Analyze, Live};
use baton::paper::{FillModel, Options};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

const COPPER: &str = "COPPER31DEC25FUT";

fn subscribe(symbols: &[&str], mode: Value) -> Value {
    let symbols: Vec<_> =
        symbols.iter().map(|symbol| json!({ "symbol": symbol, "exchange": "MCX" })).collect();
    json!({ "action": "subscribe", "symbols": symbols, "mode": mode, "request_id": "r1" })
}

#[tokio::test]
async fn authentication_comes_first_and_a_failure_keeps_the_socket() {
    let bridge = Bridge::start(Analyze).await;
    let mut socket = Socket::connect(&bridge).await;
    let refused = socket.ask(subscribe(&[GOLD], json!(1))).await;
    assert_eq!((&refused["code"], &refused["status"]), (&json!("NOT_AUTHENTICATED"), &json!("error")));
    assert!(refused.get("type").is_none() && refused.get("request_id").is_none());
    let wrong = socket.ask(json!({ "action": "auth", "apikey": "wrong" })).await;
    assert_eq!(wrong["code"], "AUTHENTICATION_ERROR");
    let right = socket.ask(json!({ "action": "auth", "apikey": KEY })).await;
    assert_eq!((&right["type"], &right["status"]), (&json!("auth"), &json!("success")));
    assert_eq!(keys(&right), ["broker", "message", "status", "supported_features", "type", "user_id"]);
}

#[tokio::test]
async fn an_unauthenticated_socket_is_closed_with_4401() {
    let options = Options { ws_auth_grace: Duration::from_millis(500), ..options(Analyze) };
    let bridge = Bridge::with(options).await;
    let mut socket = Socket::connect(&bridge).await;
    let pong = socket.ask(json!({ "action": "ping", "timestamp": 5, "_pingId": "p" })).await;
    assert_eq!(
        (&pong["type"], &pong["client_timestamp"], &pong["_pingId"]),
        (&json!("pong"), &json!(5), &json!("p"))
    );
    assert!(pong["server_timestamp"].is_number());
    match socket.message().await {
        Some(Message::Close(Some(frame))) => {
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4401, "auth timeout"));
        }
        other => panic!("expected a close frame, got {other:?}"),
    }
}

#[tokio::test]
async fn bad_requests_have_their_codes() {
    let bridge = Bridge::start(Analyze).await;
    let mut socket = Socket::authenticated(&bridge).await;
    for (request, code) in [
        (json!({ "action": "dance" }), "INVALID_ACTION"),
        (subscribe(&[GOLD], json!(9)), "INVALID_MODE"),
        (json!({ "action": "subscribe", "mode": 1 }), "INVALID_PARAMETERS"),
    ] {
        assert_eq!(socket.ask(request).await["code"], code);
    }
    socket.send("{").await;
    assert_eq!(socket.next_of("").await["code"], "INVALID_JSON");
}

#[tokio::test]
async fn a_subscription_is_partial_even_if_all_of_it_failed() {
    let bridge = Bridge::start(Analyze).await;
    let mut socket = Socket::authenticated(&bridge).await;
    let all = socket.ask(subscribe(&[GOLD], json!("LTP"))).await;
    assert_eq!((&all["status"], &all["request_id"]), (&json!("success"), &json!("r1")));
    let row = &all["subscriptions"][0];
    assert_eq!(keys(row), ["broker", "depth", "exchange", "mode", "status", "symbol"]);
    let none = socket.ask(subscribe(&["NONE"], json!(1))).await;
    assert_eq!(none["status"], "partial");
    assert_eq!(none["subscriptions"][0]["status"], "error");
}

#[tokio::test]
async fn ticks_come_in_the_subscribed_mode() {
    let bridge = Bridge::start(Analyze).await;
    let mut socket = Socket::authenticated(&bridge).await;
    for (mode, name, more) in [(1, "ltp", None), (2, "quote", Some("volume")), (3, "depth", Some("depth"))] {
        socket.ask(subscribe(&[GOLD], json!(mode))).await;
        let tick = socket.next_of("market_data").await;
        assert_eq!((&tick["symbol"], &tick["mode"]), (&json!(GOLD), &json!(mode)));
        assert_eq!((&tick["data"]["mode"], &tick["data"]["ltp"]), (&json!(name), &json!(140_000.0)));
        assert!(tick["data"]["timestamp"].is_number());
        if let Some(field) = more {
            assert!(tick["data"].get(field).is_some(), "{tick}");
        }
        let gone = socket
            .ask(json!({ "action": "unsubscribe", "symbols": [
            { "symbol": GOLD, "exchange": "MCX", "mode": mode } ] }))
            .await;
        assert_eq!((&gone["status"], gone["successful"].as_array().unwrap().len()), (&json!("success"), 1));
    }
    socket.ask(subscribe(&[GOLD], json!(3))).await;
    let tick = socket.next_of("market_data").await;
    assert_eq!(tick["data"]["depth"]["buy"].as_array().unwrap().len(), 5);
    assert_eq!(tick["data"]["depth"]["sell"][0]["price"], 140_001.0);
    // Unsubscribing what is not subscribed is a success.
    let again =
        socket.ask(json!({ "action": "unsubscribe", "symbol": COPPER, "exchange": "MCX", "mode": 1 })).await;
    assert_eq!(again["status"], "success");
    assert_eq!(socket.ask(json!({ "action": "unsubscribe_all" })).await["status"], "success");
}

#[tokio::test]
async fn the_order_stream_tells_fills_without_strategy_or_time() {
    let bridge = Bridge::start(Live).await;
    let mut socket = Socket::authenticated(&bridge).await;
    assert_eq!(socket.ask(json!({ "action": "subscribe_orders" })).await["status"], "success");
    let mut order = market_buy();
    order["quantity"] = 300.into();
    let id = bridge.place(order).await;
    let open = socket.next_of("order_update").await;
    assert_eq!(
        (&open["orderid"], &open["order_status"], &open["mode"]),
        (&json!(id), &json!("open"), &json!("live"))
    );
    assert_eq!((&open["filled_quantity"], &open["pending_quantity"]), (&json!(0), &json!(300)));
    let wanted = [
        "action",
        "average_price",
        "broker",
        "exchange",
        "filled_quantity",
        "mode",
        "order_status",
        "orderid",
        "pending_quantity",
        "price",
        "pricetype",
        "product",
        "quantity",
        "rejection_reason",
        "symbol",
        "trigger_price",
        "type",
        "user_id",
    ];
    assert_eq!(keys(&open), wanted);
    let done = socket.next_of("order_update").await;
    assert_eq!((&done["order_status"], &done["filled_quantity"]), (&json!("complete"), &json!(300)));
    assert_eq!(done["average_price"], 140_001.0);
}

#[tokio::test]
async fn partial_fills_are_told_by_the_stream() {
    let fill = FillModel { slices: 3, slice_delay_ms: 5, ..FillModel::default() };
    let bridge = Bridge::with(Options { fill, ..options(Live) }).await;
    let mut socket = Socket::authenticated(&bridge).await;
    socket.ask(json!({ "action": "subscribe_orders" })).await;
    let mut order = market_buy();
    order["quantity"] = 300.into();
    bridge.place(order).await;
    let mut filled = Vec::new();
    for _ in 0..4 {
        filled.push(socket.next_of("order_update").await["filled_quantity"].as_i64().unwrap());
    }
    assert_eq!(filled, [0, 100, 200, 300]);
}

#[tokio::test]
async fn the_sandboxs_open_has_nothing_pending() {
    let bridge = Bridge::start(Analyze).await;
    let mut socket = Socket::authenticated(&bridge).await;
    socket.ask(json!({ "action": "subscribe_orders" })).await;
    bridge.place(limit_buy(139_000.0)).await;
    let open = socket.next_of("order_update").await;
    assert_eq!((&open["order_status"], &open["pending_quantity"]), (&json!("open"), &json!(0)));
}

#[tokio::test]
async fn updates_can_be_doubled_late_or_lost() {
    let bridge = Bridge::start(Live).await;
    let mut socket = Socket::authenticated(&bridge).await;
    socket.ask(json!({ "action": "subscribe_orders" })).await;
    bridge.fault(json!({ "fault": { "kind": "lose_updates" }, "count": 1 })).await;
    bridge.place(market_buy()).await;
    bridge.fault(json!({ "fault": { "kind": "duplicate_updates", "copies": 2 }, "count": 1 })).await;
    let doubled = bridge.place(market_buy()).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let update = socket.next_of("order_update").await;
        assert_eq!(update["orderid"], doubled.as_str(), "the first order's updates are lost");
        seen.push(update["order_status"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["open", "open", "complete", "complete"]);
    bridge.fault(json!({ "fault": { "kind": "delay_updates", "ms": 100 }, "count": 1 })).await;
    let late = bridge.place(market_buy()).await;
    assert_eq!(bridge.book().await[2]["order_status"], "complete");
    assert_eq!(socket.next_of("order_update").await["orderid"], late.as_str());
}

#[tokio::test]
async fn a_silent_feed_keeps_its_socket_and_its_pongs() {
    let bridge = Bridge::start(Live).await;
    let mut socket = Socket::authenticated(&bridge).await;
    socket.ask(subscribe(&[GOLD, COPPER], json!(1))).await;
    bridge.fault(json!({ "fault": { "kind": "tick_silence" }, "symbol": GOLD })).await;
    assert_eq!(socket.ask(json!({ "action": "ping" })).await["type"], "pong");
    // What was under way may still arrive; with both alive no symbol comes twice running.
    let mut copper_running = 0;
    while copper_running < 6 {
        let silent = socket.next_of("market_data").await["symbol"] == COPPER;
        copper_running = if silent { copper_running + 1 } else { 0 };
    }
    bridge.control("DELETE", "faults", None).await;
    while socket.next_of("market_data").await["symbol"] != GOLD {}
}

#[tokio::test]
async fn an_expired_session_is_silent_while_everything_says_success() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    let mut socket = Socket::authenticated(&bridge).await;
    assert_eq!(socket.ask(subscribe(&[GOLD], json!(1))).await["status"], "success");
    assert_eq!(socket.ask(json!({ "action": "subscribe_orders" })).await["status"], "success");
    // Were the session alive, a set price would be a tick at once.
    bridge.set_price(GOLD, json!(140_005)).await;
    let silence = Duration::from_millis(200);
    let unheard = tokio::time::timeout(silence, socket.next_of("market_data")).await;
    assert!(unheard.is_err(), "ticks every 20 ms should have stopped");
    // A login replaces the adapter: this socket is cut off from it until it authenticates and subscribes anew.
    bridge.control("DELETE", "faults", None).await;
    let unheard = tokio::time::timeout(silence, socket.next_of("market_data")).await;
    assert!(unheard.is_err(), "the old socket hears nothing");
    let refused = socket.ask(subscribe(&[GOLD], json!(1))).await;
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("BROKER_ERROR"), &json!("Broker adapter not found"))
    );
    assert_eq!(socket.ask(json!({ "action": "authenticate", "api_key": KEY })).await["status"], "success");
    assert_eq!(socket.ask(subscribe(&[GOLD], json!(1))).await["status"], "success");
    assert_eq!(socket.next_of("market_data").await["data"]["ltp"], 140_005.0);
}

#[tokio::test]
async fn a_stalled_link_is_made_anew_when_the_last_socket_has_left_it() {
    let bridge = Bridge::start(Live).await;
    let (mut first, mut second) =
        (Socket::authenticated(&bridge).await, Socket::authenticated(&bridge).await);
    second.ask(subscribe(&[GOLD], json!(1))).await;
    second.next_of("market_data").await;
    bridge.fault(json!({ "fault": { "kind": "stalled_upstream" } })).await;
    let silence = Duration::from_millis(200);
    // What was under way may still arrive.
    while tokio::time::timeout(silence, second.next_of("market_data")).await.is_ok() {}
    drop(second);
    let mut third = Socket::authenticated(&bridge).await;
    assert_eq!(third.ask(subscribe(&[GOLD], json!(1))).await["status"], "success");
    let unheard = tokio::time::timeout(silence, third.next_of("market_data")).await;
    assert!(unheard.is_err(), "the first socket keeps the link");
    assert_eq!(first.ask(json!({ "action": "ping" })).await["type"], "pong");
    drop((first, third));
    let deadline = std::time::Instant::now() + DEADLINE;
    while bridge.control("GET", "faults", None).await.1 != json!({ "faults": [] }) {
        assert!(std::time::Instant::now() < deadline, "the rule is still there though all have left");
    }
    let mut fourth = Socket::authenticated(&bridge).await;
    fourth.ask(subscribe(&[GOLD], json!(1))).await;
    fourth.next_of("market_data").await;
}

#[tokio::test]
async fn a_live_order_stream_ends_with_its_adapter_and_the_sandboxs_goes_on() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        let mut socket = Socket::authenticated(&bridge).await;
        socket.ask(json!({ "action": "subscribe_orders" })).await;
        bridge.fault(json!({ "fault": { "kind": "session_revoked" } })).await;
        bridge.control("DELETE", "faults", None).await;
        bridge.place(market_buy()).await;
        let heard = tokio::time::timeout(Duration::from_millis(300), socket.next_of("order_update")).await;
        assert_eq!(heard.is_ok(), mode == Analyze);
    }
}

#[tokio::test]
async fn sockets_can_be_dropped_and_come_back() {
    let bridge = Bridge::start(Live).await;
    let mut socket = Socket::authenticated(&bridge).await;
    bridge.control("POST", "ws/drop", None).await;
    assert!(socket.message().await.is_none(), "no close frame, just the end");
    Socket::authenticated(&bridge).await;
}

#[tokio::test]
async fn the_proxy_pings() {
    let options = Options { ws_ping_interval: Duration::from_millis(50), ..options(Live) };
    let bridge = Bridge::with(options).await;
    let mut socket = Socket::authenticated(&bridge).await;
    while !matches!(socket.message().await.expect("the socket ended"), Message::Ping(_)) {}
}
