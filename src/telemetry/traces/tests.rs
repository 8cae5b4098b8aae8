use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use prometheus::IntCounterVec;

use super::export::QUEUE;
use super::*;

fn config(endpoint: Option<String>) -> config::Traces {
    config::Traces { endpoint, sample_percent: 100 }
}

fn start(listener: &TcpListener) -> (Traces, Arc<Metrics>) {
    // As `main` does; another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = Arc::new(Metrics::new());
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let traces =
        Traces::start(&config(Some(endpoint)), Resource::builder_empty().build(), Arc::clone(&metrics));
    (traces, metrics)
}

fn dropped(counted: &IntCounterVec, reason: &str) -> u64 {
    counted.with_label_values(&[reason]).get()
}

fn step() -> Step {
    Step::of_signal(SignalId::new(), "step")
}

// R: B14
#[test]
fn a_trace_is_its_signals_id_and_spans_follow_from_rows() {
    let signal = SignalId("0197c0de-1234-7abc-8def-0123456789ab".parse().unwrap());
    assert_eq!(of_signal(signal).to_string(), "0197c0de12347abc8def0123456789ab");
    let (here, there) = (Step::first(signal, "webhook").context(), Step::first(signal, "webhook").context());
    assert_eq!((here.trace_id(), here.span_id()), (there.trace_id(), there.span_id()));
    assert_eq!(here.span_id().to_string(), "8def0123456789ab");
    assert!(here.is_valid());
}

#[test]
fn a_sender_is_a_valid_traceparent_and_nothing_else() {
    let sent = sender("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    assert_eq!(sent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(sent.is_sampled() && sent.is_remote());
    assert!(!sender("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap().is_sampled());
    for other in ["", "junk", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        assert!(sender(other).is_none(), "{other:?}");
    }
}

#[test]
fn every_instance_samples_the_same_share_of_traces() {
    let traces: Vec<TraceId> = (0..10_000).map(|_| of_signal(SignalId::new())).collect();
    for (percent, allowed) in [(0, 0..=0), (10, 800..=1200), (50, 4700..=5300), (100, 10_000..=10_000)] {
        let taken = traces.iter().filter(|trace| Sampling::new(percent).takes(**trace)).count();
        assert!(allowed.contains(&taken), "{taken} at {percent} %");
    }
}

#[tokio::test]
async fn without_a_collector_nothing_is_made() {
    let metrics = Arc::new(Metrics::new());
    let traces = Traces::start(&config(None), Resource::builder_empty().build(), metrics);
    traces.record(|| panic!("nobody wants this step"));
    traces.end(Duration::from_secs(5)).await;
}

// R: B14: whoever trades never waits for a collector.
#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_no_time() {
    // The kernel takes the connection, and nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (traces, metrics) = start(&listener);
    let begun = Instant::now();
    let spans = 20 * QUEUE;
    for _ in 0..spans {
        traces.record(step);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{spans} spans took {took:?}");
    // All but what the queue and one request hold.
    assert!(
        dropped(&metrics.traces_dropped, "full") as usize >= spans - 2 * QUEUE,
        "{}",
        dropped(&metrics.traces_dropped, "full")
    );
    let begun = Instant::now();
    traces.end(Duration::from_millis(200)).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(900), "the end took {took:?}");
    assert_eq!(metrics.traces_exported.get(), 0);
}

#[tokio::test]
async fn a_collector_that_is_gone_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (traces, metrics) = start(&listener);
    drop(listener);
    for _ in 0..10 {
        traces.record(step);
    }
    traces.end(Duration::from_secs(10)).await;
    assert_eq!((dropped(&metrics.traces_dropped, "failed"), metrics.traces_exported.get()), (10, 0));
}

#[tokio::test]
async fn the_end_sends_what_is_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (traces, metrics) = start(&listener);
    let served = std::thread::spawn(move || answer(listener.accept().unwrap().0));
    traces.record(step);
    traces.end(Duration::from_secs(10)).await;
    assert!(served.join().unwrap().starts_with("POST /v1/traces HTTP/1.1\r\n"));
    assert_eq!(metrics.traces_exported.get(), 1);
    traces.record(step);
    assert_eq!(dropped(&metrics.traces_dropped, "failed"), 1, "nobody sends any more");
}

/// Takes one request and is content; gives its head.
fn answer(mut stream: TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap()]).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    head
}
