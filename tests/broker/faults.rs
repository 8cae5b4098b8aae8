//! Orders over a transport that fails: what each fault proves, and that nothing is ever sent twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use baton::broker::{Broker, NotSentCause, OpenAlgo, Submission, Ticket};
use baton::domain::order::OrderClass;

use crate::double::{Double, Script, answer};
use crate::support::{
    ACK, assert_acknowledged, assert_in_doubt, entry, order, settings, ticket, until, warmed,
};

/// Places one order on a warm connection to a bridge with this script.
async fn place_against(script: Script) -> (Double, OpenAlgo, Submission) {
    let double = Double::start([script]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    let submission = broker.place(&order(), entry()).await;
    (double, broker, submission)
}

#[track_caller]
fn assert_not_sent(submission: &Submission, expected: NotSentCause) {
    assert!(
        matches!(submission, Submission::NotSent { cause, .. } if *cause == expected),
        "{submission:?}, expected {expected}"
    );
}

#[tokio::test]
async fn an_order_goes_out_whole_on_the_warm_connection() {
    let double = Double::start([Script::json(200, ACK), Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    assert_acknowledged(&broker.place(&order(), entry()).await, "42");
    assert_acknowledged(&broker.cancel("42", entry()).await, "42");
    assert_eq!(double.connections(), 1);
    let requests = double.requests();
    assert!(requests[0].starts_with("POST /api/v1/placeorder HTTP/1.1\r\n"), "{}", requests[0]);
    let body = requests[0].split("\r\n\r\n").nth(1).unwrap();
    let sent: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({"apikey": "test-api-key", "strategy": "intent-1",
        "symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "action": "BUY", "quantity": "10",
        "pricetype": "MARKET", "product": "NRML", "price": "0", "trigger_price": "0",
        "disclosed_quantity": "0"});
    assert_eq!(sent, expected);
    assert!(requests[1].contains("POST /api/v1/cancelorder"), "{}", requests[1]);
}

#[tokio::test]
async fn a_withheld_order_sends_no_byte() {
    let double = Double::start([Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    let withheld = broker.place(&order(), ticket(OrderClass::Entry, &|| false)).await;
    assert_not_sent(&withheld, NotSentCause::Deadline);
    // The same connection carries the next request, so bytes of the first would have come before it.
    assert_acknowledged(&broker.cancel("7", entry()).await, "42");
    assert_eq!(double.connections(), 1);
    let requests = double.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("POST /api/v1/cancelorder"), "{}", requests[0]);
    assert_eq!(double.bytes(), requests[0].len());
}

#[tokio::test]
async fn may_send_is_asked_once_before_any_byte() {
    let double = Double::start([Script::json(200, ACK)]);
    let mut settings = settings(double.url());
    settings.warm_connections = 0;
    let broker = OpenAlgo::new(settings).unwrap();
    let asked = AtomicUsize::new(0);
    let may_send = || {
        asked.fetch_add(1, Ordering::SeqCst);
        double.bytes() == 0
    };
    let placed = broker.place(&order(), ticket(OrderClass::Entry, &may_send)).await;
    assert_acknowledged(&placed, "42");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(double.connections(), 1);
}

/// Between the last check and the write the runtime must not get a turn: one poll of the call does both.
#[tokio::test]
async fn the_check_and_the_write_share_one_poll() {
    let double = Double::start([Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    let order = order();
    let mut call = broker.place(&order, entry());
    assert!(futures_util::poll!(&mut call).is_pending());
    double.block_until_requests(1);
    assert_acknowledged(&call.await, "42");
}

#[tokio::test]
async fn without_a_bridge_nothing_is_sent() {
    let vacant = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = OpenAlgo::new(settings(format!("http://{vacant}"))).unwrap();
    let asked = AtomicUsize::new(0);
    let may_send = || asked.fetch_add(1, Ordering::SeqCst) == 0;
    let submission = broker.place(&order(), ticket(OrderClass::Exit, &may_send)).await;
    assert_not_sent(&submission, NotSentCause::Connect);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "no connection, no question");
}

#[tokio::test]
async fn https_to_a_bridge_that_speaks_plain_http_sends_no_order() {
    let double = Double::start([]);
    let mut settings = settings(double.url().replace("http:", "https:"));
    settings.order_timeout = Duration::from_millis(300);
    match OpenAlgo::new(settings) {
        Ok(broker) => assert_not_sent(&broker.place(&order(), entry()).await, NotSentCause::Connect),
        // A machine without trusted certificates says so at once.
        Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
    assert!(double.requests().is_empty());
}

#[tokio::test]
async fn a_reset_after_the_request_is_in_doubt_and_not_repeated() {
    let (double, broker, submission) = place_against(Script::Reset).await;
    assert_in_doubt(&submission);
    // The keeper has replaced the connection, and nothing was sent on the new one.
    warmed(&broker, 1).await;
    assert_eq!(double.requests().len(), 1);
}

#[tokio::test]
async fn broken_answers_are_in_doubt() {
    let half_body = answer(200, "application/json", ACK).replace("content-length: 35", "content-length: 99");
    assert_ne!(half_body, answer(200, "application/json", ACK));
    let bodies = [
        half_body,
        "HTTP/1.1 200 OK\r\ncontent-ty".to_owned(),
        "garbage\r\n\r\n".to_owned(),
        String::new(),
        answer(502, "text/html", "<html>Bad Gateway</html>"),
        answer(200, "text/html", "<html>please log in</html>"),
        answer(200, "application/json", &"x".repeat(300_000)),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n{\"orderid\":\"42\"".to_owned(),
    ];
    for body in bodies {
        let (double, _broker, submission) = place_against(Script::AnswerAndClose(body.clone())).await;
        assert!(matches!(submission, Submission::InDoubt { .. }), "{submission:?} for {body:.60}");
        assert_eq!(double.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_error_answer_is_not_repeated() {
    let script = [Script::json(500, r#"{"status":"error","message":"internal"}"#), Script::json(200, ACK)];
    let double = Double::start(script);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    assert_in_doubt(&broker.place(&order(), entry()).await);
    assert_eq!(double.requests().len(), 1);
}

#[tokio::test]
async fn a_bridge_that_closes_after_each_answer_still_serves() {
    // It must say so: a close out of the blue can always cross the next order.
    let text = answer(200, "application/json", ACK).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let closing = Script::AnswerAndClose(text);
    let double = Double::start([closing.clone(), closing]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    for _ in 0..2 {
        assert_acknowledged(&broker.place(&order(), entry()).await, "42");
    }
    assert_eq!(double.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_of_http_1_0_is_read() {
    let text = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{ACK}");
    let (_double, _broker, submission) = place_against(Script::AnswerAndClose(text)).await;
    assert_acknowledged(&submission, "42");
}

#[tokio::test]
async fn a_connection_that_the_bridge_closed_while_idle_is_not_used() {
    let double = Double::start([Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    until("the double has it too", || double.connections() == 1).await;
    double.close_all();
    // At once: the runtime has not heard of the close yet, the kernel has.
    assert_acknowledged(&broker.place(&order(), entry()).await, "42");
    assert!(double.connections() >= 2);
}

#[tokio::test]
async fn a_connection_with_an_unasked_answer_is_not_used() {
    let double = Double::start([Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    until("the double has it too", || double.connections() == 1).await;
    double.babble(&answer(200, "application/json", r#"{"orderid":"13","status":"success"}"#));
    assert_acknowledged(&broker.place(&order(), entry()).await, "42");
}

#[tokio::test]
async fn a_close_between_the_check_and_the_write_is_never_resent() {
    let double = Double::start([Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    until("the double has it too", || double.connections() == 1).await;
    let close_now = || {
        double.close_all();
        true
    };
    let submission = broker.place(&order(), ticket(OrderClass::Exit, &close_now)).await;
    match submission {
        Submission::InDoubt { .. } => {}
        Submission::NotSent { cause: NotSentCause::ConnectionLost, .. } => assert_eq!(double.bytes(), 0),
        other => panic!("{other:?}"),
    }
    warmed(&broker, 1).await;
    assert!(double.requests().is_empty());
}

#[tokio::test]
async fn no_answer_in_time_is_in_doubt_and_resets_the_connection() {
    let double = Double::start([Script::Hang]);
    let mut settings = settings(double.url());
    settings.order_timeout = Duration::from_millis(150);
    let broker = OpenAlgo::new(settings).unwrap();
    warmed(&broker, 1).await;
    assert_in_doubt(&broker.place(&order(), entry()).await);
    until("the double sees a reset", || double.resets() >= 1).await;
    assert_eq!(double.requests().len(), 1);
}

#[tokio::test]
async fn the_callers_own_limit_shortens_the_call() {
    let double = Double::start([Script::Hang]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    let within = |limit| Ticket { within: Some(limit), ..entry() };
    let started = std::time::Instant::now();
    assert_in_doubt(&broker.place(&order(), within(Duration::from_millis(50))).await);
    assert!(started.elapsed() < Duration::from_secs(5));
    let submission = broker.place(&order(), within(Duration::ZERO)).await;
    assert!(matches!(submission, Submission::NotSent { .. }), "{submission:?}");
    assert_eq!(double.requests().len(), 1);
}

/// A request that the bridge has not read when the time is up: the kernel must not deliver it afterwards.
// R: S5
#[tokio::test]
async fn s5_bytes_not_received_at_the_timeout_are_never_delivered() {
    let double = Double::start([Script::json(200, ACK)]);
    let mut settings = settings(double.url());
    settings.order_timeout = Duration::from_millis(300);
    let broker = OpenAlgo::new(settings).unwrap();
    warmed(&broker, 1).await;
    double.deaf(true);
    let mut long = order();
    // Fits into this side's send buffer but not into the double's receive buffer.
    long.symbol = "X".repeat(100_000);
    assert_in_doubt(&broker.place(&long, entry()).await);
    double.deaf(false);
    until("the double sees a reset", || double.resets() >= 1).await;
    assert!(double.requests().is_empty());
    assert!(double.bytes() < 100_000, "{} bytes arrived", double.bytes());
}

#[tokio::test]
async fn a_dropped_call_resets_the_connection() {
    let double = Double::start([Script::Hang]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    warmed(&broker, 1).await;
    let order = order();
    {
        let mut call = broker.place(&order, entry());
        tokio::select! {
            biased;
            submission = &mut call => panic!("{submission:?}"),
            () = until("the request arrives", || double.requests().len() == 1) => {}
        }
    }
    until("the double sees a reset", || double.resets() >= 1).await;
}

#[tokio::test]
async fn orders_at_once_use_connections_of_their_own() {
    let double = Double::start([Script::json(200, ACK), Script::json(200, ACK), Script::json(200, ACK)]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    let order = order();
    let answers = futures_util::future::join_all((0..3).map(|_| broker.place(&order, entry()))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Submission::Acknowledged { .. })), "{answers:?}");
    assert_eq!(double.requests().len(), 3);
    warmed(&broker, 1).await;
}

#[tokio::test]
async fn exits_pass_while_entries_wait_for_the_budget() {
    let double = Double::start((0..4).map(|_| Script::json(200, ACK)));
    let mut settings = settings(double.url());
    settings.orders_per_second = std::num::NonZeroU32::new(3);
    let broker = OpenAlgo::new(settings).unwrap();
    for _ in 0..2 {
        assert_acknowledged(&broker.place(&order(), entry()).await, "42");
    }
    let mut hurried = entry();
    hurried.within = Some(Duration::from_millis(1));
    let waiting = broker.place(&order(), hurried).await;
    assert_not_sent(&waiting, NotSentCause::RateLimited);
    assert_acknowledged(&broker.place(&order(), ticket(OrderClass::Exit, &|| true)).await, "42");
    assert_eq!(double.requests().len(), 3);
}

#[tokio::test]
async fn a_strategy_name_that_the_bridge_would_cut_is_refused() {
    let double = Double::start([]);
    let broker = OpenAlgo::new(settings(double.url())).unwrap();
    let long = "s".repeat(101);
    for name in ["", long.as_str()] {
        let mut ticket = entry();
        ticket.strategy = name;
        assert_not_sent(&broker.place(&order(), ticket).await, NotSentCause::Validation);
    }
    assert_eq!(double.bytes(), 0);
}
