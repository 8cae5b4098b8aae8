//! The queue of spans and the thread that sends them by OTLP over HTTP.
//!
//! A collector that is slow, hangs or is gone costs spans and nothing else: the queue is bounded, whoever writes into it
//! never waits, nothing is sent twice, and only this thread ever waits for the collector. It is a thread and no task,
//! because the exporter's client blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::watch;

use super::{Sampling, Step};
use crate::telemetry::Metrics;

/// Spans that may wait: some megabytes at most.
pub(super) const QUEUE: usize = 2048;
/// Spans of one request.
const BATCH: usize = 512;
/// How long the first span of a request waits for others.
const DELAY: Duration = Duration::from_millis(200);
/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(2);

enum Message {
    Span(Box<SpanData>),
    /// Nothing more will come.
    End,
}

/// The queue's near end.
#[derive(Debug)]
pub(super) struct Recorder {
    queue: SyncSender<Message>,
    sampling: Sampling,
    scope: InstrumentationScope,
    ending: Arc<AtomicBool>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// Starts the thread; `endpoint` is the collector's base URL.
    pub fn start(
        endpoint: &str,
        sampling: Sampling,
        resource: Resource,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (queue, spans) = sync_channel(QUEUE);
        let (alive, ended) = watch::channel(());
        let ending = Arc::new(AtomicBool::new(false));
        let mut sender = Sender {
            spans,
            ending: Arc::clone(&ending),
            metrics: Arc::clone(&metrics),
            reached: true,
            _alive: alive,
        };
        let url = format!("{endpoint}/v1/traces");
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            // Built here, because the client that blocks must not be made by a task.
            let builder = SpanExporter::builder().with_http().with_endpoint(url).with_timeout(REQUEST);
            match builder.with_retry_policy(RetryPolicy::default().with_max_retries(0)).build() {
                Ok(mut exporter) => {
                    exporter.set_resource(&resource);
                    sender.run(&exporter);
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no traces: look at traces.endpoint and at the OTEL_EXPORTER_OTLP_ variables"
                ),
            }
        })?;
        let scope = InstrumentationScope::builder("baton").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { queue, sampling, scope, ending, ended, metrics })
    }

    pub fn record(&self, step: Step) {
        if self.sampling.takes(step.trace()) {
            self.queue(step);
        }
    }

    pub fn queue(&self, step: Step) {
        let why = match self.queue.try_send(Message::Span(Box::new(step.ended(&self.scope)))) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "full",
            Err(TrySendError::Disconnected(_)) => "failed",
        };
        self.metrics.traces_dropped.with_label_values(&[why]).inc();
    }

    /// Has everything sent that is in the queue; returns when the thread has ended.
    pub async fn end(&self) {
        self.ending.store(true, Ordering::Release);
        // A full queue wakes it as well.
        let _ = self.queue.try_send(Message::End);
        let _ = self.ended.clone().changed().await;
    }
}

/// The thread's own.
struct Sender {
    spans: Receiver<Message>,
    ending: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The collector took the last request.
    reached: bool,
    _alive: watch::Sender<()>,
}

impl Sender {
    fn run(&mut self, exporter: &SpanExporter) {
        while let Some(batch) = self.batch() {
            self.send(exporter, batch);
        }
    }

    /// The next spans to send together; none when all are sent and no more will come.
    fn batch(&self) -> Option<Vec<SpanData>> {
        let mut batch = Vec::new();
        let mut due = None;
        while batch.len() < BATCH {
            let ending = self.ending.load(Ordering::Acquire);
            let message = match due {
                _ if ending => self.spans.try_recv().ok(),
                None => self.spans.recv().ok(),
                Some(due) => {
                    self.spans.recv_timeout(Instant::saturating_duration_since(&due, Instant::now())).ok()
                }
            };
            match message {
                Some(Message::Span(span)) => {
                    due = due.or_else(|| Some(Instant::now() + DELAY));
                    batch.push(*span);
                }
                Some(Message::End) => {}
                None if batch.is_empty() => return None,
                None => break,
            }
        }
        Some(batch)
    }

    fn send(&mut self, exporter: &SpanExporter, batch: Vec<SpanData>) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let reached = match block_on(exporter.export(batch)) {
            Ok(()) => {
                self.metrics.traces_exported.inc_by(spans);
                if !self.reached {
                    tracing::info!("the collector takes traces again");
                }
                true
            }
            Err(error) => {
                self.metrics.traces_dropped.with_label_values(&["failed"]).inc_by(spans);
                if self.reached {
                    tracing::warn!(
                        "[FALLBACK] traces are dropped, the collector does not take them: {error}"
                    );
                }
                false
            }
        };
        self.reached = reached;
    }
}
