//! One step of a signal's way, as a span.

use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use uuid::Uuid;

use super::{of_order, of_signal, span_of};
use crate::domain::ids::SignalId;
use crate::domain::intent::OrderIntent;

/// A step that is over: what is said of it before it is written down.
#[derive(Debug)]
pub struct Step {
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    remote: bool,
    kind: SpanKind,
    name: &'static str,
    begun: SystemTime,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
    status: Status,
}

impl Step {
    fn new(trace: TraceId, parent: SpanId, name: &'static str) -> Self {
        Self {
            trace,
            id: span_of(Uuid::now_v7()),
            parent,
            // Perhaps another process's: whoever journaled the order need not be who reads of its fill.
            remote: true,
            kind: SpanKind::Internal,
            name,
            begun: SystemTime::now(),
            attributes: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
        }
    }

    /// The beginning of a signal's trace: all its other steps hang from it.
    pub fn first(signal: SignalId, name: &'static str) -> Self {
        let step = Self::new(of_signal(signal), SpanId::INVALID, name);
        Self { id: span_of(signal.0), remote: false, kind: SpanKind::Server, ..step }
    }

    /// A step in the trace of whoever sent the signal.
    pub fn of_sender(sender: &SpanContext, name: &'static str) -> Self {
        Self { kind: SpanKind::Server, ..Self::new(sender.trace_id(), sender.span_id(), name) }
    }

    /// A step of a signal.
    pub fn of_signal(signal: SignalId, name: &'static str) -> Self {
        Self::new(of_signal(signal), span_of(signal.0), name).with("baton.signal", signal.to_string())
    }

    /// The step that makes an order: all that becomes of the order hangs from it.
    pub fn order(intent: &OrderIntent, name: &'static str) -> Self {
        let parent = intent.signal.map_or(SpanId::INVALID, |signal| span_of(signal.0));
        Self { id: span_of(intent.id.0), ..Self::new(of_order(intent), parent, name) }.told(intent)
    }

    /// A step of an order.
    pub fn of_order(intent: &OrderIntent, name: &'static str) -> Self {
        Self::new(of_order(intent), span_of(intent.id.0), name).told(intent)
    }

    fn told(self, intent: &OrderIntent) -> Self {
        self.with("baton.intent", intent.id.to_string())
            .with("baton.class", intent.class.as_str())
            .with("baton.symbol", intent.order.symbol.clone())
            .with("baton.side", intent.order.side.as_str())
            .with("baton.quantity", intent.order.quantity.0)
    }

    /// It asks something of another system.
    pub fn calls(self) -> Self {
        Self { kind: SpanKind::Client, ..self }
    }

    /// When it began; else it took no time.
    pub fn since(self, begun: SystemTime) -> Self {
        Self { begun, ..self }
    }

    /// Something to know about it.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Another span that has to do with it.
    pub fn linked(mut self, span: SpanContext) -> Self {
        self.links.push(Link::with_context(span));
        self
    }

    /// It came to nothing.
    pub fn failed(self, why: String) -> Self {
        Self { status: Status::error(why), ..self }
    }

    /// This step, for another one to link.
    pub fn context(&self) -> SpanContext {
        SpanContext::new(self.trace, self.id, TraceFlags::SAMPLED, false, TraceState::default())
    }

    pub(super) fn trace(&self) -> TraceId {
        self.trace
    }

    /// The span, ended now.
    pub(super) fn ended(self, scope: &InstrumentationScope) -> SpanData {
        let mut links = SpanLinks::default();
        let span_context = self.context();
        links.links = self.links;
        SpanData {
            span_context,
            parent_span_id: self.parent,
            parent_span_is_remote: self.remote && self.parent != SpanId::INVALID,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: self.begun,
            end_time: SystemTime::now().max(self.begun),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.status,
            instrumentation_scope: scope.clone(),
        }
    }
}
