//! Notifying while the database is away: each instance throttles for itself, and Redis says who is first.
//!
//! Without Redis, too, every instance tells once: three messages are better than none. What was told, and by whom, is
//! merged into the ledger with the occurrences when the database is back, so that it does not tell again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ha::Line;
use tokio::time::Instant;
use uuid::Uuid;

use super::channels::{Channel, Delivery, Message};
use super::event::{Key, Life};
use super::tally::Tally;
use super::{Settings, compose, sender};
use crate::ledger::outbox::{Composed, Item};
use crate::telemetry::metrics::Metrics;

/// How long Redis may take.
const REDIS_PATIENCE: Duration = Duration::from_millis(500);
/// Keys whose last notification is remembered.
const REMEMBERED: usize = 4096;
/// Attempts of one delivery: nobody else takes it over.
const ATTEMPTS: u32 = 12;

/// When a key was told without the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub at: Instant,
    /// By this instance.
    pub here: bool,
}

/// The local throttle.
pub(super) struct Away {
    settings: Arc<Settings>,
    channels: Arc<[Channel]>,
    metrics: Arc<Metrics>,
    /// None only for addresses that the configuration would have refused.
    redis: Option<Line>,
    /// What the database last said of each key.
    known: HashMap<Key, Instant>,
    /// What was told since it is away.
    told: HashMap<Key, Told>,
}

impl Away {
    pub fn new(settings: Arc<Settings>, channels: Arc<[Channel]>, metrics: Arc<Metrics>) -> Self {
        let redis = Line::new(&settings.redis, REDIS_PATIENCE, REDIS_PATIENCE).ok();
        Self { settings, channels, metrics, redis, known: HashMap::new(), told: HashMap::new() }
    }

    /// What has to be merged with a key's occurrences.
    pub fn told(&self, key: &Key) -> Option<Told> {
        self.told.get(key).copied()
    }

    /// The database has a key's occurrences, and notified it last `age_s` seconds ago.
    pub fn merged(&mut self, key: &Key, age_s: f64) {
        self.told.remove(key);
        if self.known.len() >= REMEMBERED {
            let settings = &self.settings;
            self.known.retain(|key, at| at.elapsed() < settings.window(key.kind));
        }
        let age = Duration::from_secs_f64(age_s.clamp(0.0, 1e9));
        if let Some(at) = Instant::now().checked_sub(age).filter(|_| self.known.len() < REMEMBERED) {
            self.known.insert(key.clone(), at);
        }
    }

    /// Notifies of what is due, once per key and window, all in one message.
    pub async fn tell(&mut self, pending: &BTreeMap<Key, Tally>) {
        let mut items = Vec::new();
        let due: Vec<_> = pending.iter().filter(|(key, tally)| self.is_due(key, tally)).collect();
        if due.is_empty() {
            return;
        }
        for (key, tally) in due {
            let first = match &self.redis {
                Some(redis) => claim(redis, &self.settings, key).await,
                None => true,
            };
            self.told.insert(key.clone(), Told { at: Instant::now(), here: first });
            if first {
                items.push(self.item(key, tally));
            }
        }
        if !items.is_empty() {
            let composed = compose::compose(&self.settings.cluster, &items, Utc::now());
            for index in (0..self.channels.len()).filter(|index| self.channels[*index].takes_notices()) {
                let (channels, settings) = (Arc::clone(&self.channels), Arc::clone(&self.settings));
                let metrics = Arc::clone(&self.metrics);
                tokio::spawn(deliver(channels, index, settings, metrics, composed.clone()));
            }
        }
    }

    fn is_due(&self, key: &Key, tally: &Tally) -> bool {
        let window = self.settings.window(key.kind);
        let told = self.told.get(key).map(|told| told.at).max(self.known.get(key).copied());
        let gathered = tally.span.is_some_and(|(first, _)| {
            (Utc::now() - first).to_std().unwrap_or_default() >= self.settings.gather(key.kind)
        });
        // What is over already can wait for the database.
        let holds = key.kind.life() == Life::Moment || !tally.raised.is_empty();
        holds && gathered && told.is_none_or(|at| at.elapsed() >= window)
    }

    fn item(&self, key: &Key, tally: &Tally) -> Item {
        let (since, at) = tally.span.unwrap_or((Utc::now(), Utc::now()));
        Item {
            error_type: key.kind.as_str().to_owned(),
            scope: key.scope.clone(),
            severity: key.kind.severity().as_str().to_owned(),
            message: tally.message.clone(),
            occurrences: tally.count,
            since,
            at,
            seen_by: self.settings.member.clone(),
            recovered: false,
        }
    }
}

/// True when this instance is the first within the window, or when Redis cannot say.
async fn claim(redis: &Line, settings: &Settings, key: &Key) -> bool {
    let name = format!("baton:{}:notified:{}:{}", settings.cluster, key.kind, key.scope);
    let window = u64::try_from(settings.window(key.kind).as_millis()).unwrap_or(u64::MAX);
    let mut set = redis::cmd("SET");
    set.arg(name).arg(&settings.member).arg("NX").arg("PX").arg(window.max(1));
    let answer: Result<Option<String>, _> = redis.ask(&set).await;
    answer.is_err() || answer.is_ok_and(|set| set.is_some())
}

/// Delivers a message that is in no outbox, with some patience.
async fn deliver(
    channels: Arc<[Channel]>,
    index: usize,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    composed: Composed,
) {
    let channel = &channels[index];
    let mut message = Message {
        id: Uuid::now_v7(),
        cluster: settings.cluster.clone(),
        subject: composed.subject,
        body: composed.body,
        severity: composed.severity.parse().unwrap_or(super::Severity::Error),
        types: composed.types,
        possible_repeat: false,
        created_at: Utc::now(),
        recipient: None,
    };
    for attempt in 1..=ATTEMPTS {
        match sender::attempt(channel, &message, settings.timeout).await {
            Delivery::Sent => {
                sender::count(&metrics, &channels, index, &message.types, "sent");
                return;
            }
            Delivery::Again { after, uncertain, why } => {
                tracing::warn!(channel = channel.name(), attempt, "[NOTIFICATION] not delivered: {why}");
                message.possible_repeat |= uncertain;
                tokio::time::sleep(after.unwrap_or_else(|| sender::backoff(attempt))).await;
            }
            Delivery::Refused { why } => {
                tracing::error!(channel = channel.name(), "[NOTIFICATION] refused: {why}");
                break;
            }
        }
    }
    sender::count(&metrics, &channels, index, &message.types, "failed");
}
