//! How long orders take on their way, for `baton_order_latency_seconds`: the clocks of the term that sends them.
//!
//! An order that a former term sent has no clock here: nobody knows when its answer came. Neither has a stop that rests
//! at the broker: it waits for a price, not for its turn.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::ids::{IntentId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::order::IntentState;
use crate::telemetry::metrics::Metrics;

/// The clocks of signals that wait and of orders that are out.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// When each signal was stored.
    stored: HashMap<SignalId, Instant>,
    out: HashMap<IntentId, Way>,
}

/// What is known of an order's way.
#[derive(Debug)]
struct Way {
    /// When its signal was stored; none for what no signal asked for.
    stored: Option<Instant>,
    /// When its answer came, or was waited for no longer.
    answered: Option<Instant>,
}

impl Stopwatch {
    /// A signal was stored this long ago.
    pub fn stored(&mut self, signal: SignalId, age: Duration) {
        let now = Instant::now();
        self.stored.insert(signal, now.checked_sub(age).unwrap_or(now));
    }

    /// A signal ended, or its orders are out.
    pub fn forget(&mut self, signal: SignalId) {
        self.stored.remove(&signal);
    }

    /// A signal was found to order something.
    pub fn decided(&self, signal: SignalId, metrics: &Metrics) {
        if let Some(stored) = self.stored.get(&signal) {
            observe(metrics, "decide", stored.elapsed());
        }
    }

    /// An order is about to be sent.
    pub fn sent(&mut self, intent: &OrderIntent) {
        if !intent.rests() {
            let stored = intent.signal.and_then(|signal| self.stored.get(&signal).copied());
            self.out.insert(intent.id, Way { stored, answered: None });
        }
    }

    /// An order's answer came, or was waited for no longer, `took` after its first byte.
    pub fn answered(&mut self, id: IntentId, took: Duration, metrics: &Metrics) {
        observe(metrics, "send", took);
        let Some(way) = self.out.get_mut(&id) else { return };
        way.answered = Some(Instant::now());
        if let Some(stored) = way.stored {
            observe(metrics, "total", stored.elapsed());
        }
    }

    /// An order is known to have come to `state`.
    pub fn moved(&mut self, id: IntentId, state: IntentState, metrics: &Metrics) {
        if !state.is_terminal() {
            return;
        }
        let answered = self.out.remove(&id).and_then(|way| way.answered);
        if let Some(answered) = answered.filter(|_| state == IntentState::Filled) {
            observe(metrics, "fill", answered.elapsed());
        }
    }
}

fn observe(metrics: &Metrics, stage: &str, took: Duration) {
    metrics.order_latency.with_label_values(&[stage]).observe(took.as_secs_f64());
}
