//! Reads over a transport that fails: repeated when that can help, and never taken for an empty book.

use std::time::{Duration, Instant};

use baton::broker::{BridgeMode, Broker, BrokerError, OpenAlgo, OrderStatus};
use serde_json::json;

use crate::bench::Bench;
use crate::double::{Double, Script, answer};
use crate::support::settings;

const FUNDS: &str = r#"{"status":"success","data":{"availablecash":"7"}}"#;
const EMPTY_ORDERS: &str = r#"{"status":"success","data":{"orders":[],"statistics":{}}}"#;

/// No warm order connections: the double's scripts are for reads only.
fn client(double: &Double) -> OpenAlgo {
    let mut settings = settings(double.url());
    settings.warm_connections = 0;
    OpenAlgo::new(settings).unwrap()
}

#[tokio::test]
async fn a_passing_error_is_repeated() {
    let html = Script::Answer(answer(502, "text/html", "<html>"));
    let [empty, alive] = [EMPTY_ORDERS, FUNDS].map(|body| Script::json(200, body));
    let double = Double::start([html, Script::Reset, empty.clone(), alive.clone(), empty, alive]);
    assert_eq!(client(&double).orders().await, Ok(Vec::new()));
    assert_eq!(double.requests().len(), 6, "and once more between two proofs of a session that lives");
}

// R: B3
#[tokio::test]
async fn an_empty_book_is_believed_only_of_a_session_that_lives() {
    let empty = r#"{"status":"success","data":[]}"#;
    let dead = r#"{"status":"success","data":{}}"#;
    let books = || [Script::json(200, EMPTY_ORDERS), Script::json(200, empty)];
    let funds = || [Script::json(200, FUNDS)];
    let alive = Double::start(books().into_iter().chain(funds()).chain(books()).chain(funds()));
    assert!(client(&alive).books().await.unwrap().orders.is_empty());
    let expired = Double::start(books().into_iter().chain([Script::json(200, dead)]));
    let error = client(&expired).books().await.unwrap_err();
    assert!(matches!(error, BrokerError::SessionExpired { .. }), "{error:?}");
    // It dies between the proof and the book, or is renewed between the book and the proof.
    let dies = books().into_iter().chain(funds()).chain(books()).chain([Script::json(200, dead)]);
    let error = client(&Double::start(dies)).books().await.unwrap_err();
    assert!(matches!(error, BrokerError::SessionExpired { .. }), "{error:?}");
    let held = r#"{"status":"success","data":[{"symbol":"GOLDM05DEC25FUT","exchange":"MCX","product":"NRML","quantity":"100"}]}"#;
    let renewed = [Script::json(200, empty), Script::json(200, FUNDS), Script::json(200, held)];
    assert_eq!(client(&Double::start(renewed)).positions().await.unwrap().len(), 1);
    let positions = Double::start([Script::json(200, empty), Script::json(200, dead)]);
    let error = client(&positions).positions().await.unwrap_err();
    assert!(matches!(error, BrokerError::SessionExpired { .. }), "{error:?}");
}

// R: K6: a read that the bridge's limit refused is repeated when the limit has room again
#[tokio::test]
async fn a_read_over_the_bridges_limit_is_repeated_after_its_second() {
    let bench = Bench::start(BridgeMode::Live).await;
    bench.control("limits", json!({ "orders_per_second": null, "api_per_second": 1 })).await;
    for read in 0..3 {
        assert_eq!(bench.broker.mode().await, Ok(BridgeMode::Live), "read {read}");
    }
    // The limit lasts for longer than patience: an error, and soon.
    bench.control("faults", json!({ "fault": { "kind": "rate_limited" }, "verb": "analyzer" })).await;
    let begun = Instant::now();
    let error = bench.broker.mode().await.unwrap_err();
    assert!(matches!(error, BrokerError::RateLimited { .. }), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_repeats_are_bounded() {
    let double = Double::start((0..9).map(|_| Script::json(500, r#"{"status":"error","message":"x"}"#)));
    let error = client(&double).positions().await.unwrap_err();
    assert!(matches!(error, BrokerError::Refused { status: 500, .. }), "{error:?}");
    assert_eq!(double.requests().len(), 3);
}

#[tokio::test]
async fn a_timeout_is_not_repeated() {
    let double = Double::start([]);
    let mut settings = settings(double.url());
    settings.warm_connections = 0;
    settings.read_timeout = Duration::from_millis(100);
    let error = OpenAlgo::new(settings).unwrap().positions().await.unwrap_err();
    assert!(matches!(error, BrokerError::TimedOut { within_ms: 100, .. }), "{error:?}");
    assert_eq!(double.requests().len(), 1);
}

#[tokio::test]
async fn the_trade_book_is_read_after_the_order_book() {
    let trades = r#"{"status":"success","data":[]}"#;
    let books = [EMPTY_ORDERS, trades, FUNDS].map(|body| Script::json(200, body));
    let double = Double::start(books.clone().into_iter().chain(books));
    client(&double).books().await.unwrap();
    let requests = double.requests();
    assert!(requests[0].contains("/orderbook") && requests[1].contains("/tradebook"), "{requests:?}");
}

#[tokio::test]
async fn a_book_without_success_is_no_empty_book() {
    let bodies =
        [r#"{"data":{"orders":[]}}"#, r#"{"status":"success"}"#, r#"{"status":"success","data":[]}"#];
    for body in bodies {
        let double = Double::start([Script::json(200, body)]);
        client(&double).orders().await.expect_err(body);
    }
}

#[tokio::test]
async fn a_book_that_says_the_same_again_is_the_same_and_every_other_answer_is_its_own() {
    let book = |status: &str| {
        format!(
            r#"{{"status":"success","data":{{"orders":[{{"orderid":"1","symbol":"A","exchange":"NFO","action":"BUY","quantity":1,
                "pricetype":"MARKET","product":"NRML","price":0,"trigger_price":0,"order_status":"{status}"}}]}}}}"#
        )
    };
    let (open, complete) = (book("open"), book("complete"));
    let refused = r#"{"status":"error","message":"x"}"#;
    let answers =
        [(200, &*open), (200, &*open), (403, refused), (403, &*open), (200, &*complete), (200, &*open)];
    let double = Double::start(answers.map(|(status, body)| Script::json(status, body)));
    let client = client(&double);
    let mut said = Vec::new();
    for _ in answers {
        said.push(client.orders().await.map(|orders| orders[0].status.clone()).map_err(drop));
    }
    let (open, complete) = (Ok(OrderStatus::Open), Ok(OrderStatus::Complete));
    assert_eq!(said, [open.clone(), open.clone(), Err(()), Err(()), complete, open]);
}

#[tokio::test]
async fn a_dead_session_is_told_from_its_text() {
    let bodies = [
        (403, r#"{"status":"error","message":"Invalid openalgo apikey"}"#),
        (500, r#"{"status":"error","message":"Client error '403 Forbidden' for url"}"#),
        (200, r#"{"status":"success","data":{}}"#),
    ];
    for (status, body) in bodies {
        let double = Double::start([Script::json(status, body)]);
        let error = client(&double).funds().await.unwrap_err();
        assert!(matches!(error, BrokerError::SessionExpired { .. }), "{error:?}");
        assert_eq!(double.requests().len(), 1, "nothing to repeat");
    }
}

#[tokio::test]
async fn a_book_of_the_other_mode_is_refused() {
    let body = r#"{"status":"success","mode":"analyze","data":{"orders":[]}}"#;
    let double = Double::start([Script::json(200, body)]);
    let expected = BrokerError::WrongMode { expected: BridgeMode::Live, found: BridgeMode::Analyze };
    assert_eq!(client(&double).orders().await, Err(expected));
}

// Only the sandbox names itself: without a name it is the real account's book.
#[tokio::test]
async fn a_book_that_names_no_mode_is_a_live_one() {
    let body = r#"{"status":"success","data":{"orders":[]}}"#;
    let double = Double::start([Script::json(200, body)]);
    let mut settings = settings(double.url());
    (settings.warm_connections, settings.mode) = (0, BridgeMode::Analyze);
    let expected = BrokerError::WrongMode { expected: BridgeMode::Analyze, found: BridgeMode::Live };
    assert_eq!(OpenAlgo::new(settings).unwrap().orders().await, Err(expected));
}
