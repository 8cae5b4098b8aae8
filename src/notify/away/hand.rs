//! One message on its way without the outbox: a task a channel, tried again until it is delivered or let go of.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::channels::{Channel, Delivery, Message};
use super::super::event::{Key, Severity};
use super::super::{Settings, sender};
use crate::ledger::outbox::{Composed, Unsent};
use crate::telemetry::metrics::Metrics;

/// Between two looks at one hand.
const LOOK: Duration = Duration::from_secs(1);

/// A message and its deliveries.
pub(super) struct Hand {
    /// What it tells of; empty when that was told.
    pub keys: Vec<Key>,
    /// Since when.
    pub at: Instant,
    composed: Composed,
    created_at: DateTime<Utc>,
    deliveries: Vec<On>,
    next_look: Instant,
}

/// A delivery on one channel.
struct On {
    channel: usize,
    id: Uuid,
    progress: Arc<Mutex<Progress>>,
    task: JoinHandle<()>,
}

/// How far it has got.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    sent: bool,
    /// An attempt is under way.
    trying: bool,
    /// An earlier one may have arrived.
    uncertain: bool,
}

impl Hand {
    /// Begins to deliver on every channel that takes notifications.
    pub fn new(
        keys: Vec<Key>,
        composed: Composed,
        channels: &Arc<[Channel]>,
        settings: &Arc<Settings>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (now, created_at) = (Instant::now(), Utc::now());
        let mut hand = Self { keys, at: now, composed, created_at, deliveries: Vec::new(), next_look: now };
        for index in (0..channels.len()).filter(|index| channels[*index].takes_notices()) {
            hand.begin(index, Uuid::now_v7(), false, channels, settings, metrics);
        }
        hand
    }

    /// Goes on with what did not get into the outbox. It tells of nothing that is not noted as told.
    pub fn again(
        unsent: Unsent,
        channels: &Arc<[Channel]>,
        settings: &Arc<Settings>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let Unsent { id, channel, composed, uncertain } = unsent;
        let (now, keys, deliveries) = (Instant::now(), Vec::new(), Vec::new());
        let mut hand = Self { keys, at: now, composed, created_at: Utc::now(), deliveries, next_look: now };
        if let Some(index) = channels.iter().position(|one| one.name() == channel) {
            hand.begin(index, id, uncertain, channels, settings, metrics);
        }
        hand
    }

    fn begin(
        &mut self,
        channel: usize,
        id: Uuid,
        uncertain: bool,
        channels: &Arc<[Channel]>,
        settings: &Arc<Settings>,
        metrics: &Arc<Metrics>,
    ) {
        let progress = Arc::new(Mutex::new(Progress { uncertain, ..Progress::default() }));
        let message = Message {
            id,
            cluster: settings.cluster.clone(),
            subject: self.composed.subject.clone(),
            body: self.composed.body.clone(),
            severity: self.composed.severity.parse().unwrap_or(Severity::Error),
            types: self.composed.types.clone(),
            possible_repeat: uncertain,
            created_at: self.created_at,
            recipient: None,
        };
        let delivery = Deliver {
            channels: Arc::clone(channels),
            index: channel,
            timeout: settings.timeout,
            metrics: Arc::clone(metrics),
            progress: Arc::clone(&progress),
        };
        let task = tokio::spawn(delivery.run(message));
        self.deliveries.push(On { channel, id, progress, task });
    }

    /// True once a second.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next_look;
        if due {
            self.next_look = now + LOOK;
        }
        due
    }

    /// True when a channel has it that the operator reads.
    pub fn is_told(&self, channels: &[Channel]) -> bool {
        self.deliveries.iter().any(|on| on.progress().sent && sender::is_read(channels, on.channel))
    }

    /// True when every channel has it.
    pub fn is_done(&self) -> bool {
        self.keys.is_empty() && self.deliveries.iter().all(|on| on.progress().sent)
    }

    /// Waits until every delivery has ended.
    pub async fn finish(&mut self) {
        for on in &mut self.deliveries {
            // A panic in a channel is its own end.
            let _ = (&mut on.task).await;
        }
    }

    /// Stops, and gives what no channel is known to have.
    pub async fn let_go(self, channels: &[Channel]) -> Vec<Unsent> {
        let mut unsent = Vec::new();
        for on in self.deliveries {
            on.task.abort();
            // Once it has ended, what it says of itself is final.
            let _ = on.task.await;
            let progress = lock(&on.progress);
            if !progress.sent {
                unsent.push(Unsent {
                    id: on.id,
                    channel: channels[on.channel].name(),
                    composed: self.composed.clone(),
                    uncertain: progress.uncertain || progress.trying,
                });
            }
        }
        unsent
    }
}

impl On {
    fn progress(&self) -> Progress {
        *lock(&self.progress)
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Delivers one message on one channel.
struct Deliver {
    channels: Arc<[Channel]>,
    index: usize,
    timeout: Duration,
    metrics: Arc<Metrics>,
    progress: Arc<Mutex<Progress>>,
}

impl Deliver {
    async fn run(self, mut message: Message) {
        let channel = &self.channels[self.index];
        for attempt in 1.. {
            lock(&self.progress).trying = true;
            let delivery = sender::attempt(channel, &message, self.timeout).await;
            let mut progress = *lock(&self.progress);
            progress.trying = false;
            let wait = match delivery {
                Delivery::Sent => {
                    progress.sent = true;
                    sender::count(&self.metrics, &self.channels, self.index, &message.types, "sent");
                    None
                }
                Delivery::Again { after, uncertain, why } => {
                    tracing::warn!(channel = channel.name(), attempt, "[NOTIFICATION] not delivered: {why}");
                    progress.uncertain |= uncertain;
                    Some(after.unwrap_or_else(|| sender::backoff(attempt)))
                }
                Delivery::Refused { why } => {
                    tracing::error!(channel = channel.name(), "[NOTIFICATION] refused: {why}");
                    None
                }
            };
            message.possible_repeat = progress.uncertain;
            *lock(&self.progress) = progress;
            let Some(wait) = wait else { return };
            tokio::time::sleep(wait).await;
        }
    }
}
