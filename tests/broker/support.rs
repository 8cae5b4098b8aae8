//! What the tests share: settings, orders, waits.

use std::time::Duration;

use baton::broker::{BridgeMode, MaySend, OpenAlgo, Settings, Submission, Ticket};
use baton::domain::money::{Price, Quantity};
use baton::domain::order::{OrderClass, OrderSpec, PriceType, Product, Side};

/// Longer than anything here takes; reached only by a failing test.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A live bridge's acknowledgement.
pub const ACK: &str = r#"{"orderid":"42","status":"success"}"#;

/// Live mode, one warm connection, no order limit, H long enough not to matter.
pub fn settings(url: impl Into<String>) -> Settings {
    let mut settings = Settings::new(url, "test-api-key");
    settings.mode = BridgeMode::Live;
    settings.warm_connections = 1;
    settings.orders_per_second = None;
    settings.order_timeout = DEADLINE;
    settings
}

pub fn order() -> OrderSpec {
    OrderSpec {
        symbol: "GOLDM05DEC25FUT".to_owned(),
        exchange: "MCX".to_owned(),
        side: Side::Buy,
        quantity: Quantity(10),
        price_type: PriceType::Market,
        product: Product::Nrml,
        price: Price::ZERO,
        trigger_price: Price::ZERO,
    }
}

pub fn ticket<'a>(class: OrderClass, may_send: &'a MaySend<'a>) -> Ticket<'a> {
    Ticket { class, ahead: None, strategy: "intent-1", within: None, may_send }
}

/// A ticket that always may.
pub fn entry() -> Ticket<'static> {
    ticket(OrderClass::Entry, &|| true)
}

/// Waits until `done` holds.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        let mut look = tokio::time::interval(Duration::from_millis(2));
        while !done() {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Waits until the client holds `count` idle order connections.
pub async fn warmed(broker: &OpenAlgo, count: usize) {
    until("order connections are warm", || broker.warm_connections() == count).await;
}

#[track_caller]
pub fn assert_in_doubt(submission: &Submission) {
    assert!(matches!(submission, Submission::InDoubt { wrong_mode: None, .. }), "{submission:?}");
}

#[track_caller]
pub fn assert_acknowledged(submission: &Submission, id: &str) {
    assert!(matches!(submission, Submission::Acknowledged { order_id } if order_id == id), "{submission:?}");
}
