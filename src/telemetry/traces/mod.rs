//! A signal's way as one OpenTelemetry trace, over all instances that had a part in it (ADR 34).
//!
//! Nothing is carried from one instance to the next: the trace's id *is* the signal's id, and the ids of the spans that
//! others hang from follow from the signal's and the intent's. Whoever reads a row of the ledger can go on with its trace.
//! An order that no signal asked for (a stop, an operator's close) is a trace of its own, by its intent's id.
//!
//! A span is written down when its step is over, because steps here belong to signals and not to tasks: one journaling
//! serves a batch of them, and an order's fill is read from the books, perhaps by another process than the one that sent
//! it. Writing down puts it into a bounded queue and never waits; a thread of its own sends what is in there.

mod export;
mod step;

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
pub use opentelemetry::{SpanId, TraceId};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use uuid::Uuid;

use self::export::Recorder;
pub use self::step::Step;
use super::Metrics;
use crate::config;
use crate::domain::ids::SignalId;
use crate::domain::intent::OrderIntent;

/// Where steps are written down; without a collector it does nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Recorder>>);

impl Traces {
    /// Starts the thread that sends them, if a collector is configured.
    pub fn start(config: &config::Traces, resource: Resource, metrics: Arc<Metrics>) -> Self {
        let recorder = config.endpoint.as_ref().and_then(|endpoint| {
            Recorder::start(endpoint, Sampling::new(config.sample_percent), resource, metrics)
                .inspect_err(|error| {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "no traces: their thread did not start"
                    );
                })
                .ok()
        });
        Self(recorder.map(Arc::new))
    }

    /// Writes a step down; it ended now. Never waits: what finds the queue full is counted and dropped.
    pub fn record(&self, step: impl FnOnce() -> Step) {
        if let Some(recorder) = &self.0 {
            recorder.record(step());
        }
    }

    /// The same of a step in its sender's trace, which the sender has decided to sample.
    pub fn record_sent(&self, step: Step) {
        if let Some(recorder) = &self.0 {
            recorder.queue(step);
        }
    }

    /// Sends what is waiting, for no longer than `budget`.
    pub async fn end(&self, budget: std::time::Duration) {
        if let Some(recorder) = &self.0
            && tokio::time::timeout(budget, recorder.end()).await.is_err()
        {
            tracing::info!("[SHUTDOWN] traces: the collector does not take the last ones");
        }
    }
}

/// What every span says of this process.
pub fn resource(cluster: &config::Cluster) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "baton"),
            KeyValue::new("service.namespace", cluster.name.clone()),
            KeyValue::new("service.instance.id", cluster.member.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build()
}

/// The trace of a signal.
pub fn of_signal(signal: SignalId) -> TraceId {
    TraceId::from(signal.0.as_u128())
}

/// The trace of an order: its signal's, or its own.
pub fn of_order(intent: &OrderIntent) -> TraceId {
    TraceId::from(intent.signal.map_or(intent.id.0, |signal| signal.0).as_u128())
}

/// The span that stands for a row: the second half of its id, of which the variant bits are never all 0.
fn span_of(id: Uuid) -> SpanId {
    SpanId::from(id.as_u64_pair().1)
}

/// Reads a W3C `traceparent`; none when it is not one.
pub fn sender(traceparent: &str) -> Option<SpanContext> {
    let carrier = std::collections::HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context =
        TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &carrier);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// Which traces are written down: every instance says the same of one, because its id alone decides.
///
/// By the last 32 bits, which are random in each of our UUIDs. The sampler of the SDK looks at bits that hold the UUID's
/// variant: it would take all traces or none.
#[derive(Clone, Copy, Debug)]
struct Sampling(u64);

impl Sampling {
    fn new(percent: u8) -> Self {
        Self((u64::from(percent) << 32) / 100)
    }

    fn takes(self, trace: TraceId) -> bool {
        let bytes = trace.to_bytes();
        u64::from(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])) < self.0
    }
}

#[cfg(test)]
mod tests;
