//! From decided items to delivered messages: the composer makes messages, a sender a channel claims and delivers them.
//!
//! Every instance runs them, so notifications leave whoever leads, and whoever is dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::channels::{Channel, Delivery, Message};
use super::event::{Event, Kind, Severity};
use super::{Notifier, Settings, compose};
use crate::failpoint;
use crate::ledger::outbox::{Attempt, Claimed};
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::metrics::Metrics;

/// How often the outbox is looked at without being asked to: another instance may have put something there.
const LOOK: Duration = Duration::from_secs(1);
/// How often gauges are read and what is owed is told.
const GAUGES: Duration = Duration::from_secs(5);
/// How often what has expired is ended.
const EXPIRE: Duration = Duration::from_secs(60);
/// A claim outlives the longest attempt by this much; after that another instance may take the message.
pub(super) const LEASE_SLACK: Duration = Duration::from_secs(10);
/// The longest wait between two attempts.
const BACKOFF_AT_MOST: Duration = Duration::from_secs(300);

/// Makes messages of items.
pub(super) struct Composer {
    /// All of them, and those that take what is composed.
    pub channels: Vec<&'static str>,
    pub noticed: Vec<&'static str>,
    pub ledger: Ledger,
    pub settings: Arc<Settings>,
    pub metrics: Arc<Metrics>,
    /// One a channel, in the same order.
    pub wakes: Vec<Arc<Notify>>,
}

impl Composer {
    /// Composes until `stopped`, then once more.
    pub async fn run(self, decided: Arc<Notify>, stopped: CancellationToken) {
        let (mut gauges, mut expire) = (Instant::now(), Instant::now());
        let mut opened = false;
        loop {
            // Before the look: what is decided while one is under way is not in it.
            let last = stopped.is_cancelled();
            let now = Instant::now();
            let looked = async {
                if !opened {
                    self.ledger.open_channels(&self.channels).await?;
                    opened = true;
                }
                if now >= gauges {
                    gauges = now + GAUGES;
                    self.ledger.tell_owed().await?;
                    self.gauges().await?;
                }
                if now >= expire {
                    expire = now + EXPIRE;
                    self.expire().await?;
                }
                self.compose().await
            };
            if let Err(error) = looked.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "[NOTIFICATION] the outbox cannot be read"
                );
            }
            if last {
                return;
            }
            tokio::select! {
                () = decided.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stopped.cancelled() => {}
            }
        }
    }

    async fn compose(&self) -> Result<(), LedgerError> {
        let expiry = self.settings.expiry.as_secs_f64();
        let cluster = &self.settings.cluster;
        let composing = self
            .ledger
            .compose_due(&self.noticed, expiry, |items, now| compose::compose(cluster, items, now));
        let items = composing.await?;
        if items.is_empty() {
            return Ok(());
        }
        if items.len() > 1 {
            for item in &items {
                self.metrics.notifications.with_label_values(&[&item.error_type, "aggregated"]).inc();
            }
        }
        self.wakes.iter().for_each(|wake| wake.notify_one());
        Ok(())
    }

    async fn gauges(&self) -> Result<(), LedgerError> {
        self.metrics.outbox_depth.set(self.ledger.outbox_depth().await?);
        let open = self.ledger.unresolved_errors().await?;
        for kind in Kind::ALL {
            let count = open.iter().find(|(name, _)| name == kind.as_str()).map_or(0, |(_, count)| *count);
            self.metrics.unresolved_errors.with_label_values(&[kind.as_str()]).set(count);
        }
        Ok(())
    }

    async fn expire(&self) -> Result<(), LedgerError> {
        for (channel, types) in self.ledger.expire_notifications().await? {
            tracing::error!(channel, types = types.join(","), "[NOTIFICATION] expired undelivered");
            for kind in types {
                self.metrics.notifications.with_label_values(&[&kind, "failed"]).inc();
            }
        }
        Ok(())
    }
}

/// Delivers one channel's messages.
pub(super) struct Sender {
    pub channels: Arc<[Channel]>,
    pub index: usize,
    pub ledger: Ledger,
    pub settings: Arc<Settings>,
    pub notifier: Notifier,
    pub metrics: Arc<Metrics>,
}

impl Sender {
    /// Delivers until `stopped`, and then what is still there.
    pub async fn run(self, wake: Arc<Notify>, stopped: CancellationToken) {
        loop {
            let last = stopped.is_cancelled();
            match self.next().await {
                Ok(true) => continue,
                _ if last => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "[NOTIFICATION] the outbox cannot be read"
                    );
                }
            }
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stopped.cancelled() => {}
            }
        }
    }

    fn channel(&self) -> &Channel {
        &self.channels[self.index]
    }

    /// Claims and delivers one message; false when there is none.
    async fn next(&self) -> Result<bool, LedgerError> {
        let channel = self.channel();
        let lease = (self.settings.timeout + LEASE_SLACK).as_secs_f64();
        let claiming = self.ledger.claim(channel.name(), &self.settings.member, lease, channel.per_minute());
        let Some(claimed) = claiming.await? else { return Ok(false) };
        let armed = !matches!(channel, Channel::Log);
        if armed {
            failpoint::hit("after_notification_claim");
        }
        let message = message(&self.settings, &claimed);
        let delivery = attempt(channel, &message, self.settings.timeout).await;
        if armed {
            failpoint::hit("after_notification_send");
        }
        self.note(&claimed, delivery).await?;
        Ok(true)
    }

    async fn note(&self, claimed: &Claimed, delivery: Delivery) -> Result<(), LedgerError> {
        let name = self.channel().name();
        let attempt = match delivery {
            Delivery::Sent => Attempt::Sent,
            Delivery::Again { after, uncertain, why } => {
                let wait = after.unwrap_or_else(|| backoff(claimed.attempts.unsigned_abs()));
                tracing::warn!(
                    channel = name, id = %claimed.id, attempt = claimed.attempts,
                    "[NOTIFICATION] not delivered, again in {} ms: {why}", wait.as_millis()
                );
                let whole_channel = after.is_some();
                Attempt::Again { after_s: wait.as_secs_f64(), uncertain, whole_channel, why }
            }
            Delivery::Refused { why } => {
                tracing::error!(channel = name, id = %claimed.id, "[NOTIFICATION] refused: {why}");
                let about =
                    Event::about(Kind::NotificationFailed, name, format!("{name} refuses messages: {why}"));
                self.notifier.raise(about);
                Attempt::Dead { why }
            }
        };
        match &attempt {
            Attempt::Sent => count(&self.metrics, &self.channels, self.index, &claimed.types, "sent"),
            Attempt::Dead { .. } => {
                count(&self.metrics, &self.channels, self.index, &claimed.types, "failed")
            }
            Attempt::Again { .. } => {}
        }
        // Until this is stored the message stays claimed; then another instance sends it as a possible repeat.
        if !self.ledger.attempted(claimed.id, &self.settings.member, &attempt).await? {
            tracing::warn!(channel = name, id = %claimed.id, "[NOTIFICATION] the claim had lapsed");
        }
        Ok(())
    }
}

fn message(settings: &Settings, claimed: &Claimed) -> Message {
    Message {
        id: claimed.id,
        cluster: settings.cluster.clone(),
        subject: claimed.subject.clone(),
        body: claimed.body.clone(),
        severity: claimed.severity.parse().unwrap_or(Severity::Error),
        types: claimed.types.clone(),
        possible_repeat: claimed.uncertain,
        created_at: claimed.created_at,
        recipient: claimed.recipient.clone(),
    }
}

/// One attempt, however the channel hangs.
pub(super) async fn attempt(channel: &Channel, message: &Message, timeout: Duration) -> Delivery {
    // A channel's own time-outs come first and know more.
    match tokio::time::timeout(timeout + Duration::from_secs(1), channel.deliver(message)).await {
        Ok(delivery) => delivery,
        Err(_) => Delivery::Again {
            after: None,
            uncertain: true,
            why: format!("no answer within {} s", timeout.as_secs()),
        },
    }
}

/// The wait after this attempt: 1, 2, 4 … s.
pub(super) fn backoff(attempt: u32) -> Duration {
    Duration::from_secs(1 << attempt.saturating_sub(1).min(16)).min(BACKOFF_AT_MOST)
}

/// Counts a message's end; the log counts only where nothing else is configured.
pub(super) fn count(
    metrics: &Metrics,
    channels: &[Channel],
    index: usize,
    types: &[String],
    result: &'static str,
) {
    if !is_read(channels, index) {
        return;
    }
    for kind in types {
        metrics.notifications.with_label_values(&[kind, result]).inc();
    }
}

/// Whether what this channel has the operator has: not the log, where anything else is configured.
pub(super) fn is_read(channels: &[Channel], index: usize) -> bool {
    let others = channels.iter().any(|channel| channel.takes_notices() && !matches!(channel, Channel::Log));
    !(matches!(channels[index], Channel::Log) && others)
}
