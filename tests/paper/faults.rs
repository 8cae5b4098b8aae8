//! Each fault: what the client sees, and what really happened.

use std::time::{Duration, Instant};

use baton::paper::BridgeMode::{Analyze, Live};
use serde_json::{Value, json};

use crate::support::*;

fn once(fault: Value) -> Value {
    json!({ "fault": fault, "count": 1 })
}

#[tokio::test]
async fn a_lost_acknowledgement_cuts_the_line_with_or_without_the_order() {
    for (kind, orders) in [("lost_ack_before", 0), ("lost_ack_after", 1)] {
        let bridge = Bridge::start(Live).await;
        bridge.fault(once(json!({ "kind": kind }))).await;
        let error = bridge.try_post("placeorder", market_buy()).await.unwrap_err();
        assert!(!error.is_connect(), "{kind}: the request was sent: {error}");
        assert_eq!(bridge.truth().await.len(), orders, "{kind}");
        assert_eq!(bridge.book().await.len(), orders, "{kind}");
        let (_, seen) = bridge.control("GET", "arrivals", None).await;
        let arrival = &seen["arrivals"][0];
        assert_eq!((&arrival["answered"], &arrival["done"]), (&json!(0), &json!(orders == 1)));
        assert_eq!(arrival["faults"][0]["kind"], kind);
        // Used up.
        bridge.place(market_buy()).await;
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_take_its_order_back() {
    for kind in ["hang_before", "hang_after"] {
        let bridge = Bridge::start(Analyze).await;
        bridge.fault(once(json!({ "kind": kind, "ms": 600 }))).await;
        // The connection is warm, so the timeout falls into the wait for the answer.
        bridge.ok("ping", json!({})).await;
        let url = format!("{}/api/v1/placeorder", bridge.paper.http_url());
        let mut order = market_buy();
        order["apikey"] = KEY.into();
        let request = bridge.client.post(url).json(&order).timeout(Duration::from_millis(300));
        assert!(request.send().await.unwrap_err().is_timeout());
        bridge.book_until("the order of a client that gave up", |book| book.len() == 1).await;
    }
}

#[tokio::test]
async fn hang_after_places_at_once_and_answers_late() {
    let bridge = Bridge::start(Analyze).await;
    bridge.fault(once(json!({ "kind": "hang_after", "ms": 700 }))).await;
    let started = Instant::now();
    let (placed, book) = tokio::join!(
        async {
            let answer = bridge.post("placeorder", market_buy()).await;
            (answer, started.elapsed())
        },
        async {
            bridge.book_until("the order, before its answer", |book| !book.is_empty()).await;
            started.elapsed()
        }
    );
    let ((status, _), answered) = placed;
    assert_eq!(status, 200);
    assert!(answered >= Duration::from_millis(700) && book < answered, "{book:?} {answered:?}");
}

#[tokio::test]
async fn a_refusal_over_200_has_a_null_order_id() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(once(json!({ "kind": "null_orderid" }))).await;
    let answer = bridge.ok("placeorder", market_buy()).await;
    assert_eq!(answer, json!({ "orderid": null, "status": "success" }));
    assert!(bridge.truth().await.is_empty());
}

#[tokio::test]
async fn a_semi_automatic_bridge_queues_for_a_human() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(once(json!({ "kind": "semi_auto" }))).await;
    let answer = bridge.ok("placeorder", market_buy()).await;
    assert_eq!((&answer["mode"], answer.get("orderid")), (&json!("semi_auto"), None));
    assert!(answer["pending_order_id"].is_number());
    assert!(bridge.truth().await.is_empty());
}

#[tokio::test]
async fn an_order_id_may_be_a_number() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(once(json!({ "kind": "numeric_orderid" }))).await;
    let id = bridge.ok("placeorder", market_buy()).await["orderid"].as_u64().unwrap();
    assert_eq!(bridge.book().await[0]["orderid"], id.to_string());
}

#[tokio::test]
async fn broker_errors_look_the_same_whether_or_not_the_order_exists() {
    for status in [400, 403, 429, 500, 504] {
        let bridge = Bridge::start(Live).await;
        let mut answers = Vec::new();
        for placed in [false, true] {
            bridge.fault(once(json!({ "kind": "broker_error", "status": status, "placed": placed }))).await;
            answers.push(bridge.post("placeorder", market_buy()).await);
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].0, status);
        let message = answers[0].1["message"].as_str().unwrap();
        assert!(message != "Invalid openalgo apikey" && !message.contains(" per "), "{message}");
        assert_eq!(bridge.truth().await.len(), 1);
    }
    let bridge = Bridge::start(Live).await;
    let fault = json!({ "kind": "broker_error", "status": 500, "message": "Order rejected by RMS" });
    bridge.fault(once(fault)).await;
    assert_eq!(bridge.post("placeorder", market_buy()).await.1["message"], "Order rejected by RMS");
}

#[tokio::test]
async fn a_bad_gateway_answers_html() {
    let bridge = Bridge::start(Live).await;
    for (placed, orders) in [(false, 0), (true, 1)] {
        bridge.fault(once(json!({ "kind": "bad_gateway", "placed": placed }))).await;
        let (status, body) = bridge.post("placeorder", market_buy()).await;
        assert_eq!(status, 502);
        assert!(body.as_str().unwrap().starts_with("<html>"));
        assert_eq!(bridge.truth().await.len(), orders);
    }
}

#[tokio::test]
async fn the_limiter_can_be_made_to_answer() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(json!({ "fault": { "kind": "rate_limited" }, "verb": "any", "count": 2 })).await;
    for (verb, body) in [("placeorder", market_buy()), ("orderbook", json!({}))] {
        let (status, answer) = bridge.post(verb, body).await;
        assert_eq!((status, answer), (429, json!({ "message": "10 per 1 second" })));
    }
    assert_eq!(bridge.post("orderbook", json!({})).await.0, 200);
}

#[tokio::test]
async fn the_wrong_mode_shows_in_the_answer_only() {
    for mode in [Analyze, Live] {
        let bridge = Bridge::start(mode).await;
        bridge.fault(once(json!({ "kind": "wrong_mode" }))).await;
        let answer = bridge.ok("placeorder", market_buy()).await;
        assert_eq!(answer.get("mode").is_some(), mode == Live, "{answer}");
        assert_eq!(bridge.ok("analyzer", json!({})).await["data"]["mode"], mode.as_str());
    }
}

#[tokio::test]
async fn a_hidden_order_is_in_no_book_until_its_time() {
    let bridge = Bridge::start(Live).await;
    let mut socket = Socket::authenticated(&bridge).await;
    socket.ask(json!({ "action": "subscribe_orders" })).await;
    bridge.fault(once(json!({ "kind": "hidden", "ms": 900 }))).await;
    bridge.fault(once(json!({ "kind": "lost_ack_after" }))).await;
    let placed = Instant::now();
    bridge.try_post("placeorder", market_buy()).await.unwrap_err();
    assert!(bridge.book().await.is_empty() && bridge.trades().await.is_empty());
    let truth = bridge.truth().await;
    assert_eq!((&truth[0]["hidden"], &truth[0]["filled_quantity"]), (&json!(true), &json!(0)));
    let id = truth[0]["orderid"].as_str().unwrap();
    let status = bridge.post("orderstatus", json!({ "strategy": "s", "orderid": id })).await;
    assert_eq!(status.0, 404);
    let update = socket.next_of("order_update").await;
    assert!(placed.elapsed() >= Duration::from_millis(900), "{:?}", placed.elapsed());
    assert_eq!(update["orderid"], id);
    bridge
        .book_until("the hidden order, filled", |book| {
            book.first().is_some_and(|row| row["order_status"] == "complete")
        })
        .await;
}

#[tokio::test]
async fn an_expired_live_session_shows_only_where_the_broker_is_asked() {
    let bridge = Bridge::start(Live).await;
    let id = bridge.place(limit_buy(139_000.0)).await;
    bridge.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    assert_eq!(bridge.post("ping", json!({})).await.0, 200);
    assert_eq!(bridge.post("analyzer", json!({})).await.0, 200);
    let (status, funds) = bridge.post("funds", json!({})).await;
    assert_eq!((status, &funds), (200, &json!({ "data": {}, "status": "success" })));
    for verb in ["orderbook", "tradebook", "positionbook", "holdings"] {
        let (status, answer) = bridge.post(verb, json!({})).await;
        assert_eq!(status, 500, "{verb}");
        assert!(answer["message"].as_str().unwrap().contains("403 Forbidden"), "{verb}: {answer}");
    }
    let asked = json!({ "symbol": GOLD, "exchange": "MCX" });
    assert_eq!(bridge.post("quotes", asked).await.0, 500);
    let (status, answer) = bridge.post("placeorder", market_buy()).await;
    assert_eq!(status, 403);
    assert_ne!(answer["message"], "Invalid openalgo apikey");
    for verb in ["cancelallorder", "closeposition"] {
        let (status, answer) = bridge.post(verb, json!({ "strategy": "s" })).await;
        assert_eq!(status, 500);
        assert!(answer["message"].as_str().unwrap().contains("due to internal error"));
    }
    assert_eq!(bridge.post("cancelorder", json!({ "strategy": "s", "orderid": id })).await.0, 500);
    bridge.control("DELETE", "faults", None).await;
    assert_eq!(bridge.book().await.len(), 1);
}

#[tokio::test]
async fn an_expired_session_in_the_sandbox_stops_prices_not_books() {
    let bridge = Bridge::start(Analyze).await;
    bridge.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    assert_eq!(bridge.post("funds", json!({})).await.0, 200);
    let started = Instant::now();
    let (status, answer) = bridge.post("placeorder", market_buy()).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().unwrap().contains("unable to fetch current price"));
    assert!(started.elapsed() >= Duration::from_millis(950));
    bridge.place(limit_buy(141_000.0)).await;
    assert_eq!(bridge.book().await[0]["order_status"], "open");
    bridge.control("DELETE", "faults", None).await;
    bridge
        .book_until("the fill after the session's return", |book| book[0]["order_status"] == "complete")
        .await;
}

#[tokio::test]
async fn a_revoked_session_locks_everyone_out() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(json!({ "fault": { "kind": "session_revoked" } })).await;
    for (verb, body) in [("placeorder", market_buy()), ("ping", json!({})), ("funds", json!({}))] {
        let (status, answer) = bridge.post(verb, body).await;
        assert_eq!((status, &answer["message"]), (403, &json!("Invalid openalgo apikey")), "{verb}");
    }
    let mut socket = Socket::connect(&bridge).await;
    let answer = socket.ask(json!({ "action": "authenticate", "api_key": KEY })).await;
    assert_eq!(answer["code"], "BROKER_ERROR");
}

#[tokio::test]
async fn a_stale_row_says_complete_without_a_trade() {
    let bridge = Bridge::start(Live).await;
    bridge.place(limit_buy(139_000.0)).await;
    bridge.fault(json!({ "fault": { "kind": "stale_status" } })).await;
    assert_eq!(bridge.book().await[0]["order_status"], "complete");
    assert!(bridge.trades().await.is_empty());
}

#[tokio::test]
async fn slow_fills_come_late() {
    let bridge = Bridge::start(Analyze).await;
    bridge.fault(once(json!({ "kind": "slow_fills", "ms": 600 }))).await;
    let placed = Instant::now();
    bridge.place(market_buy()).await;
    assert_eq!(bridge.book().await[0]["order_status"], "open");
    bridge.book_until("the slow fill", |book| book[0]["order_status"] == "complete").await;
    assert!(placed.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn faults_aim_by_verb_symbol_and_chance() {
    let bridge = Bridge::start(Live).await;
    let id = bridge.place(limit_buy(139_000.0)).await;
    bridge
        .fault(json!([
            { "fault": { "kind": "lost_ack_after" }, "verb": "cancelorder", "symbol": GOLD },
            { "fault": { "kind": "lost_ack_before" }, "verb": "placeorder", "symbol": "COPPER31DEC25FUT" },
            { "fault": { "kind": "lost_ack_before" }, "verb": "placeorder", "probability": 0.0 },
        ]))
        .await;
    bridge.place(market_buy()).await;
    bridge.try_post("cancelorder", json!({ "strategy": "s", "orderid": id })).await.unwrap_err();
    assert_eq!(bridge.book().await[0]["order_status"], "cancelled");
    let mut copper = market_buy();
    copper["symbol"] = "COPPER31DEC25FUT".into();
    copper["quantity"] = 2500.into();
    bridge.try_post("placeorder", copper).await.unwrap_err();
    let (_, listed) = bridge.control("GET", "faults", None).await;
    let hits: Vec<_> = listed["faults"].as_array().unwrap().iter().map(|rule| rule["hits"].clone()).collect();
    assert_eq!(hits, [1, 1, 0]);
}

#[tokio::test]
async fn an_order_in_transit_inherits_the_state_of_the_row_before_and_without_one_breaks_the_book() {
    let bridge = Bridge::start(Live).await;
    bridge.place(market_buy()).await;
    bridge.place(limit_buy(139_000.0)).await;
    bridge.fault(json!({ "fault": { "kind": "inherited_status" } })).await;
    let states: Vec<_> = bridge.book().await.iter().map(|row| row["order_status"].clone()).collect();
    assert_eq!(states, ["complete", "complete"]);
    assert_eq!(bridge.trades().await.len(), 1);

    let bridge = Bridge::start(Live).await;
    bridge.place(limit_buy(139_000.0)).await;
    bridge.fault(json!({ "fault": { "kind": "inherited_status" } })).await;
    let (status, answer) = bridge.post("orderbook", json!({})).await;
    assert_eq!((status, &answer["message"]), (500, &json!("cannot access local variable 'order_status'")));
}

#[tokio::test]
async fn a_proxy_that_is_down_takes_no_sockets_and_the_rest_works_on() {
    let bridge = Bridge::start(Live).await;
    bridge.fault(json!({ "fault": { "kind": "stream_down" } })).await;
    assert!(tokio_tungstenite::connect_async(bridge.paper.ws_url()).await.is_err());
    bridge.place(market_buy()).await;
    bridge.control("DELETE", "faults", None).await;
    Socket::authenticated(&bridge).await;
}

#[tokio::test]
async fn contracts_that_are_being_refilled_are_unknown_for_a_while() {
    let bridge = Bridge::start(Live).await;
    let asked = json!({ "symbol": GOLD, "exchange": "MCX" });
    bridge.fault(json!({ "fault": { "kind": "contracts_gone" } })).await;
    assert_eq!(bridge.post("symbol", asked.clone()).await.0, 404);
    assert_eq!(bridge.post("quotes", asked.clone()).await.0, 400);
    bridge.control("DELETE", "faults", None).await;
    assert_eq!(bridge.post("symbol", asked).await.0, 200);
}
