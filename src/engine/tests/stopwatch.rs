use std::time::Duration;

use super::desk::{entry, signal};
use crate::domain::order::IntentState;
use crate::engine::book::Book;
use crate::engine::stopwatch::Stopwatch;
use crate::telemetry::Metrics;

const STAGES: [&str; 4] = ["decide", "send", "total", "fill"];

fn counts(metrics: &Metrics) -> [u64; 4] {
    STAGES.map(|stage| metrics.order_latency.with_label_values(&[stage]).get_sample_count())
}

// R: H4
#[test]
fn each_step_of_an_orders_way_is_timed_once_from_where_it_began() {
    let (mut clocks, metrics, book) = (Stopwatch::default(), Metrics::new(), Book::default());
    let (order, mut slice) = (entry(&book, 1, 1, 100), entry(&book, 2, 1, 100));
    slice.signal = order.signal;

    clocks.stored(signal(1), Duration::from_secs(3));
    clocks.decided(signal(1), &metrics);
    clocks.sent(&order);
    clocks.sent(&slice);
    clocks.forget(signal(1));
    assert_eq!(counts(&metrics), [1, 0, 0, 0]);
    clocks.answered(order.id, Duration::from_millis(40), &metrics);
    clocks.answered(slice.id, Duration::from_millis(40), &metrics);
    assert_eq!(counts(&metrics), [1, 2, 2, 0], "both slices came of the one signal");
    let total = metrics.order_latency.with_label_values(&["total"]).get_sample_sum();
    assert!(total >= 6.0, "twice 3 s, since the signal was stored: {total}");

    clocks.moved(order.id, IntentState::PartiallyFilled, &metrics);
    assert_eq!(counts(&metrics), [1, 2, 2, 0]);
    clocks.moved(order.id, IntentState::Filled, &metrics);
    clocks.moved(order.id, IntentState::Filled, &metrics);
    clocks.moved(slice.id, IntentState::Cancelled, &metrics);
    assert_eq!(counts(&metrics), [1, 2, 2, 1]);
    clocks.decided(signal(1), &metrics);
    assert_eq!(counts(&metrics), [1, 2, 2, 1], "the signal is decided");
}

#[test]
fn what_a_former_term_sent_has_no_clock() {
    let (mut clocks, metrics) = (Stopwatch::default(), Metrics::new());
    clocks.moved(entry(&Book::default(), 1, 1, 100).id, IntentState::Filled, &metrics);
    clocks.decided(signal(1), &metrics);
    assert_eq!(counts(&metrics), [0; 4]);
}
