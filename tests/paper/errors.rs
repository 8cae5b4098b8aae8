//! What the bridge answers to what it does not take.

use baton::paper::BridgeMode::{Analyze, Live};
use baton::paper::{Options, RateLimits};
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn placeorder_lists_its_faults_as_the_text_of_a_dictionary() {
    let bridge = Bridge::start(Live).await;
    let mut order = market_buy();
    order["tag"] = "mine".into();
    order.as_object_mut().unwrap().remove("quantity");
    let (status, answer) = bridge.post("placeorder", order).await;
    assert_eq!(status, 400);
    assert_eq!(
        answer["message"],
        "{'quantity': ['Missing data for required field.'], 'tag': ['Unknown field.']}"
    );
    assert!(bridge.truth().await.is_empty());
}

#[tokio::test]
async fn other_routes_list_their_faults_as_an_object() {
    let bridge = Bridge::start(Analyze).await;
    let (status, answer) = bridge.post("cancelorder", json!({ "strategy": "s", "id": "1" })).await;
    assert_eq!(status, 400);
    assert_eq!(answer["message"]["orderid"], json!(["Missing data for required field."]));
    assert_eq!(answer["message"]["id"], json!(["Unknown field."]));
    assert_eq!(bridge.post("orderbook", json!([])).await.0, 400);
}

#[tokio::test]
async fn a_wrong_key_is_refused_after_validation() {
    let bridge = Bridge::start(Analyze).await;
    let mut order = market_buy();
    order["apikey"] = "wrong".into();
    let (status, answer) = bridge.post("placeorder", order.clone()).await;
    assert_eq!(status, 403);
    assert_eq!(answer, json!({ "message": "Invalid openalgo apikey", "status": "error" }));
    order["tag"] = "x".into();
    assert_eq!(bridge.post("placeorder", order).await.0, 400);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_apart() {
    let bridge = Bridge::start(Analyze).await;
    let url = format!("{}/api/v1/placeorder", bridge.paper.http_url());
    let post = |content: &'static str, body: &'static str| {
        bridge.client.post(&url).header("content-type", content).body(body).send()
    };
    let malformed = post("application/json", "{\"apikey\":").await.unwrap();
    assert_eq!(malformed.status(), 400);
    let answer: Value = malformed.json().await.unwrap();
    assert!(answer.get("status").is_none() && answer["message"].is_string(), "{answer}");
    assert_eq!(post("text/plain", "{}").await.unwrap().status(), 500);
    // Witnessed all the same.
    let (_, seen) = bridge.control("GET", "arrivals", None).await;
    assert_eq!(seen["arrivals"][0]["body"], "{\"apikey\":");
}

#[tokio::test]
async fn get_on_a_post_route_and_unknown_paths_are_404_json() {
    let bridge = Bridge::start(Analyze).await;
    for path in ["/api/v1/placeorder", "/api/v1/nothing", "/elsewhere"] {
        let answer = bridge.client.get(bridge.paper.http_url() + path).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body, json!({ "status": "error", "message": "Not found", "path": path }));
    }
}

#[tokio::test]
async fn lots_symbols_and_products_are_checked_by_the_sandbox_at_once() {
    let bridge = Bridge::start(Analyze).await;
    for (field, value) in
        [("quantity", json!(150)), ("symbol", json!("goldm05dec25fut")), ("product", json!("CNC"))]
    {
        let mut order = market_buy();
        order[field] = value;
        let (status, answer) = bridge.post("placeorder", order).await;
        assert_eq!((status, &answer["mode"]), (400, &json!("analyze")), "{answer}");
    }
    assert!(bridge.truth().await.is_empty());
}

#[tokio::test]
async fn a_live_order_is_acknowledged_and_rejected_later() {
    let bridge = Bridge::start(Live).await;
    let mut odd = market_buy();
    odd["quantity"] = 150.into();
    bridge.place(odd).await;
    let mut frozen = market_buy();
    frozen["quantity"] = 20_000.into();
    bridge.place(frozen).await;
    let statuses: Vec<_> = bridge.book().await.iter().map(|row| row["order_status"].clone()).collect();
    assert_eq!(statuses, ["rejected", "rejected"]);
    assert!(bridge.trades().await.is_empty());
}

#[tokio::test]
async fn too_many_requests_meet_the_limiter_per_route() {
    let limits = RateLimits { orders_per_second: Some(3), api_per_second: Some(5) };
    let bridge = Bridge::with(Options { limits, ..options(Analyze) }).await;
    // Windows of a second: a machine too slow to send four requests in one would only be slower to fail.
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(bridge.post("placeorder", market_buy()).await);
    }
    let limited: Vec<_> = answers.iter().filter(|(status, _)| *status == 429).collect();
    assert!(!limited.is_empty());
    assert!(limited.iter().all(|(_, body)| *body == json!({ "message": "3 per 1 second" })));
    assert_eq!(bridge.truth().await.len(), answers.len() - limited.len());
    // Another route has its own window.
    assert_eq!(bridge.post("funds", json!({})).await.0, 200);
    let lifted = json!({ "orders_per_second": null, "api_per_second": null });
    bridge.control("POST", "limits", Some(lifted)).await;
    for _ in 0..10 {
        assert_eq!(bridge.post("placeorder", market_buy()).await.0, 200);
    }
}
