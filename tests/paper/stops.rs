//! Stops that rest at the broker: what takes them, moves them, ends them, and how each of that goes wrong.

use baton::paper::BridgeMode::{Analyze, Live};
use serde_json::{Value, json};

use crate::support::*;

/// A stop for one lot of gold: trigger and limit.
fn stop(trigger: i64, limit: i64) -> Value {
    let mut order = market_buy();
    order["action"] = "SELL".into();
    order["pricetype"] = "SL".into();
    order["trigger_price"] = trigger.into();
    order["price"] = limit.into();
    order
}

fn moved(id: &str, trigger: i64, limit: i64) -> Value {
    let mut order = stop(trigger, limit);
    order["orderid"] = id.into();
    order["disclosed_quantity"] = 0.into();
    order
}

fn cancel(id: &str) -> Value {
    json!({ "strategy": "cancel", "orderid": id })
}

fn is(status: &str) -> impl Fn(&[Value]) -> bool + '_ {
    move |book| book[0]["order_status"] == status
}

#[tokio::test]
async fn a_stop_that_the_price_has_passed_and_sl_m_for_options_are_rejected_by_the_broker() {
    let bridge = Bridge::start(Live).await;
    bridge.place(stop(140_000, 139_000)).await;
    bridge.place(stop(139_000, 139_500)).await;
    bridge.place(stop(139_500, 139_000)).await;
    let book = bridge.book().await;
    let statuses: Vec<&str> = book.iter().map(|row| row["order_status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["rejected", "rejected", "trigger pending"]);
    let refused = bridge.truth().await[0]["rejection_reason"].as_str().unwrap().to_owned();
    assert!(refused.contains("trigger price 140000 does not fit"), "{refused}");
    // The sandbox takes what a broker would not.
    let sandbox = Bridge::start(Analyze).await;
    sandbox.place(stop(139_000, 139_500)).await;
    assert_eq!(sandbox.book().await[0]["order_status"], "trigger pending");
}

#[tokio::test]
async fn a_modify_moves_a_stop_in_place_and_not_beyond_the_price() {
    let bridge = Bridge::start(Live).await;
    let id = bridge.place(stop(139_000, 138_000)).await;
    bridge.ok("modifyorder", moved(&id, 139_500, 138_500)).await;
    let book = bridge.book().await;
    assert_eq!(
        (&book[0]["trigger_price"], &book[0]["order_status"]),
        (&json!(139_500.0), &json!("trigger pending"))
    );
    let (status, answer) = bridge.post("modifyorder", moved(&id, 140_500, 139_500)).await;
    assert_eq!(status, 500, "the broker's 400 comes as the bridge's 500: {answer}");
    assert_eq!(bridge.book().await[0]["trigger_price"], json!(139_500.0));
    bridge.set_price(GOLD, json!(139_400)).await;
    bridge.book_until("the stop fills", is("complete")).await;
    let (status, _) = bridge.post("modifyorder", moved(&id, 139_600, 138_600)).await;
    assert_eq!(status, 500);
}

#[tokio::test]
async fn a_gap_through_the_limit_leaves_a_triggered_stop_working() {
    let bridge = Bridge::start(Live).await;
    bridge.place(stop(139_000, 138_000)).await;
    bridge.set_price(GOLD, json!(137_000)).await;
    assert_eq!(bridge.book().await[0]["order_status"], "open");
    assert!(bridge.trades().await.is_empty());
}

#[tokio::test]
async fn a_cancel_that_is_answered_early_may_be_too_late() {
    for fills in [true, false] {
        let bridge = Bridge::start(Live).await;
        let id = bridge.place(stop(139_000, 138_000)).await;
        let late = json!({ "fault": { "kind": "takes_late", "ms": 400 }, "verb": "cancelorder", "count": 1 });
        bridge.fault(late).await;
        bridge.ok("cancelorder", cancel(&id)).await;
        assert_eq!(bridge.book().await[0]["order_status"], "trigger pending", "answered, not done");
        if fills {
            bridge.set_price(GOLD, json!(138_900)).await;
            bridge.book_until("the fill", is("complete")).await;
            tokio::time::sleep(std::time::Duration::from_millis(450)).await;
            assert_eq!(bridge.book().await[0]["order_status"], "complete");
        } else {
            bridge.book_until("the cancel", is("cancelled")).await;
        }
    }
}

#[tokio::test]
async fn cancels_and_modifies_lose_their_answers_too() {
    for (verb, done) in [("cancelorder", "cancelled"), ("modifyorder", "trigger pending")] {
        for kind in ["lost_ack_before", "lost_ack_after"] {
            let bridge = Bridge::start(Live).await;
            let id = bridge.place(stop(139_000, 138_000)).await;
            bridge.fault(json!({ "fault": { "kind": kind }, "verb": verb, "count": 1 })).await;
            let body = if verb == "cancelorder" { cancel(&id) } else { moved(&id, 139_500, 138_500) };
            assert!(bridge.try_post(verb, body).await.is_err());
            let row = bridge.book().await[0].clone();
            let carried_out = kind == "lost_ack_after";
            assert_eq!(
                row["order_status"],
                if carried_out { done } else { "trigger pending" },
                "{verb} {kind}"
            );
            let trigger = if carried_out && verb == "modifyorder" { 139_500.0 } else { 139_000.0 };
            assert_eq!(row["trigger_price"], json!(trigger), "{verb} {kind}");
        }
    }
}

#[tokio::test]
async fn the_day_ends_for_every_order_that_rests() {
    let bridge = Bridge::start(Live).await;
    bridge.place(stop(139_000, 138_000)).await;
    bridge.place(limit_buy(139_000.0)).await;
    bridge.place(market_buy()).await;
    bridge.book_until("the market order fills", |book| book[2]["order_status"] == "complete").await;
    let (status, answer) = bridge.control("POST", "day/end", None).await;
    assert_eq!((status, &answer["cancelled"]), (200, &json!(2)));
    let book = bridge.book().await;
    let statuses: Vec<&str> = book.iter().map(|row| row["order_status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["cancelled", "cancelled", "complete"]);
}
