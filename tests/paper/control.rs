//! The witness: what it saw, in memory and on disk; and the connection's own habits.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use baton::paper::BridgeMode::Analyze;
use baton::paper::{ArrivalHook, Options, Paper};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn the_log_has_the_arrival_before_the_fill_before_the_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper.jsonl");
    let bridge = Bridge::with(Options { log: Some(path.clone()), ..options(Analyze) }).await;
    let id = bridge.place(market_buy()).await;
    bridge.fault(json!({ "fault": { "kind": "lost_ack_before" }, "count": 1 })).await;
    bridge.try_post("placeorder", market_buy()).await.unwrap_err();
    bridge.ok("orderbook", json!({})).await;

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["received", "fill", "outcome", "received", "outcome"], "reads are not logged");
    assert_eq!(lines[0]["body"]["strategy"], "trend-1");
    assert_eq!(lines[0]["body"]["apikey"], "***");
    assert!(!text.contains(&format!("\"{KEY}\"")), "the key is not in the log");
    assert_eq!((&lines[2]["orderid"], &lines[2]["arrival"]), (&json!(id), &json!(1)));
    assert_eq!((&lines[4]["cut"], &lines[4]["done"]), (&json!(true), &json!(false)));

    let (_, kept) = bridge.control("GET", "log?after=3", None).await;
    assert_eq!(kept["lines"], json!(lines[3..]));
    // Appended to, never truncated.
    bridge.paper.stop().await;
    let again = Paper::start(Options { log: Some(path.clone()), ..options(Analyze) }).await.unwrap();
    again.stop().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn the_truth_has_request_and_fills_of_every_order() {
    let bridge = Bridge::start(Analyze).await;
    let id = bridge.place(market_buy()).await;
    bridge.ok("closeposition", json!({ "strategy": "s" })).await;
    let truth = bridge.truth().await;
    assert_eq!(truth.len(), 2);
    assert_eq!((&truth[0]["orderid"], &truth[0]["arrival"]), (&json!(id), &json!(1)));
    assert_eq!(truth[0]["request"]["body"]["quantity"], 100);
    assert_eq!(truth[0]["fills"][0]["quantity"], 100);
    assert_eq!((&truth[1]["side"], &truth[1]["arrival"]), (&json!("SELL"), &Value::Null));
    let (_, counts) = bridge.control("GET", "requests", None).await;
    assert_eq!(counts["requests"], json!({ "placeorder": 1, "closeposition": 1 }));
}

#[tokio::test]
async fn the_arrival_hook_runs_before_the_order_exists() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let seen = Arc::clone(&seen);
        ArrivalHook(Arc::new(move |arrival| {
            seen.lock().unwrap().push((arrival.arrival, arrival.body["symbol"].clone(), arrival.done));
            Box::pin(async {})
        }))
    };
    let bridge = Bridge::with(Options { on_arrival: Some(hook), ..options(Analyze) }).await;
    bridge.place(market_buy()).await;
    bridge.ok("orderbook", json!({})).await;
    assert_eq!(*seen.lock().unwrap(), [(1, json!(GOLD), None)]);
}

#[tokio::test]
async fn mistakes_on_the_control_port_change_nothing() {
    let bridge = Bridge::start(Analyze).await;
    for (path, body, status) in [
        ("price", json!({ "symbol": "NONE", "exchange": "MCX", "ltp": 5 }), 404),
        ("price", json!({ "symbol": GOLD, "exchange": "MCX", "ltp": -5 }), 400),
        ("price", json!({ "symbol": GOLD, "exchange": "MCX", "price": 5 }), 400),
        ("faults", json!({ "fault": { "kind": "nonsense" } }), 400),
        (
            "faults",
            json!([{ "fault": { "kind": "rate_limited" } }, { "fault": { "kind": "nonsense" } }]),
            400,
        ),
        ("faults", json!({ "fault": { "kind": "rate_limited" }, "count": 0 }), 400),
        ("faults", json!({ "fault": { "kind": "rate_limited" }, "probability": 2 }), 400),
        (
            "faults",
            json!([{ "fault": { "kind": "rate_limited" } }, { "fault": { "kind": "rate_limited" }, "count": 0 }]),
            400,
        ),
        ("market", json!({ "moving": "yes" }), 400),
    ] {
        let (answered, body) = bridge.control("POST", path, Some(body)).await;
        assert_eq!(answered, status, "{path}: {body}");
        assert!(body["error"].is_string());
    }
    assert_eq!(bridge.control("GET", "faults", None).await.1, json!({ "faults": [] }));
    assert_eq!(bridge.control("DELETE", "faults/7", None).await.0, 404);
}

#[tokio::test]
async fn an_idle_kept_alive_connection_is_closed() {
    let options = Options { keep_alive_idle: Duration::from_millis(200), ..options(Analyze) };
    let bridge = Bridge::with(options).await;
    let address = bridge.paper.http_url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /health/status HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = [0; 1024];
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    }
    let idle_since = Instant::now();
    let rest = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await.expect("it was never closed");
    assert_eq!(rest.unwrap(), 0);
    assert!(idle_since.elapsed() >= Duration::from_millis(150), "{:?}", idle_since.elapsed());
}

#[tokio::test]
async fn stop_ends_even_a_request_that_hangs() {
    let bridge = Bridge::start(Analyze).await;
    bridge.fault(json!({ "fault": { "kind": "hang_before", "ms": 600_000 } })).await;
    let url = format!("{}/api/v1/placeorder", bridge.paper.http_url());
    let mut order = market_buy();
    order["apikey"] = KEY.into();
    let hanging = tokio::spawn(bridge.client.post(url).json(&order).send());
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (_, seen) = bridge.control("GET", "requests", None).await;
        if seen["requests"]["placeorder"] == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "the request never arrived");
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(DEADLINE, bridge.paper.stop()).await.expect("stop waited for the hanging request");
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn options_that_make_no_sense_are_named() {
    let taken = Bridge::start(Analyze).await;
    let address = taken.paper.http_url().trim_start_matches("http://").parse().unwrap();
    let bind = Paper::start(Options { http: address, ..options(Analyze) }).await.unwrap_err();
    assert!(bind.to_string().contains("choose a free port"), "{bind}");
    let none = Paper::start(Options { symbols: Vec::new(), ..options(Analyze) }).await.unwrap_err();
    assert!(none.to_string().contains("symbols"), "{none}");
}

#[tokio::test]
async fn a_recorded_market_is_played_and_the_hours_are_set() {
    let bridge = Bridge::start(Analyze).await;
    let url = format!("{}/_ctl/ticks?speed=100", bridge.paper.control_url());
    let rows = format!("ms,exchange,symbol,ltp\n0,MCX,{GOLD},139000\n5000,MCX,{GOLD},138000\n");
    let play =
        async |text: String| bridge.client.post(&url).body(text).send().await.unwrap().status().as_u16();
    assert_eq!(play(rows.clone()).await, 200);
    let deadline = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    while seen.last() != Some(&json!(138_000.0)) {
        let quote =
            bridge.ok("quotes", json!({ "symbol": GOLD, "exchange": "MCX" })).await["data"]["ltp"].clone();
        if seen.last() != Some(&quote) {
            seen.push(quote);
        }
        assert!(Instant::now() < deadline, "{seen:?}");
    }
    assert!(seen.len() <= 3, "{seen:?}");
    assert_eq!(play(rows.replace(GOLD, "NO_SUCH")).await, 400);
    assert_eq!(play("ms,exchange,symbol,ltp\nx,MCX,A,1\n".to_owned()).await, 400);

    let open = async |date: &str| {
        let rows = bridge.ok("market/timings", json!({ "date": date })).await["data"].clone();
        rows.as_array().unwrap().len() > 1
    };
    assert!(open("2026-08-08").await && open("2026-08-10").await);
    let holiday = json!({ "exchange": [{ "date": "2026-08-10", "description": "Holiday" }] });
    assert_eq!(bridge.control("POST", "calendar", Some(holiday)).await.0, 200);
    assert!(!open("2026-08-08").await && !open("2026-08-10").await && open("2026-08-11").await);
    assert_eq!(bridge.control("POST", "calendar", Some(json!("always_open"))).await.0, 200);
    assert!(open("2026-08-08").await);
    assert_eq!(bridge.control("POST", "calendar", Some(json!("sometimes"))).await.0, 400);
}
