//! Notifications: the operator hears of trouble once, and of its end once, whichever instances live.
//!
//! ```text
//! any room ─ raise / resolve ─▶ tallies (by key, in memory, bounded)
//!                                  │ recorder: one statement records, decides, queues
//!                                  ▼
//!   error_notifications_log ─▶ notification_item ─ composer (60 s) ─▶ notification_outbox
//!                                                                        │ sender, one a channel: claim, deliver
//!                                                                        ▼
//!                                                    Telegram, webhooks, mail, log
//! ```
//!
//! Four decisions. **The key is a kind and a scope, never the text**, which varies. **The database decides**: the
//! upsert of the key's row is what serialises three instances that see the same fault, and it survives restarts.
//! **Deciding is not delivering**: a failed delivery stays in the outbox and is tried again by whoever lives; what may
//! have arrived already is marked. **Without the database** each instance throttles for itself, asks Redis who is first,
//! and when the database is back merges what it told, and hands over what it could not deliver (`away`).
//!
//! Nothing stays open because somebody died. What lasts per instance ends when nobody who is there reports it any more
//! (`presence`); what holds in the ledger is compared with it by whoever leads ([`Notifier::census`]).

mod away;
pub mod channels;
pub mod compose;
pub mod event;
pub mod heartbeat;
mod presence;
mod recorder;
mod sender;
pub mod tally;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use channels::Channel;
pub use channels::bot::{Bot, BotError};
pub use event::{Event, Key, Kind, Life, Severity};
pub use tally::Census;

use crate::config::{self, Throttle};
use crate::ledger::Ledger;
use crate::telemetry::metrics::Metrics;
use tally::Tallies;

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Tells the operator; cheap to clone, never waits, usable from any room.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
    source: &'static str,
}

struct Shared {
    tallies: Mutex<Tallies>,
    raised: Notify,
    /// Wakes the sender of replies.
    replied: Arc<Notify>,
}

/// What notifications work with.
pub struct Settings {
    /// The cluster's name, in every message.
    pub cluster: String,
    /// This member's name.
    pub member: String,
    /// Windows.
    pub throttle: Throttle,
    /// How often "still waiting" may be said.
    pub status_interval: Duration,
    /// How long a decided notification waits for others.
    pub aggregation: Duration,
    /// How long one is worth delivering.
    pub expiry: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Redis, for who is first while the database is away.
    pub redis: ha::Redis,
}

// === impl Notifier ===

impl Notifier {
    /// A notifier whose events wait until [`run`] fetches them.
    pub fn new() -> Self {
        let shared = Shared { tallies: Mutex::default(), raised: Notify::new(), replied: Arc::default() };
        Self { shared: Arc::new(shared), source: "" }
    }

    /// The same notifier for another part of the program: trouble that several parts report is over when each of
    /// them has taken it back.
    pub fn from(&self, source: &'static str) -> Self {
        Self { shared: Arc::clone(&self.shared), source }
    }

    /// Something happened.
    pub fn raise(&self, event: Event) {
        self.shared.lock().raise(event, self.source, Utc::now());
        self.shared.raised.notify_one();
    }

    /// A reply was queued: whoever asked waits for it.
    pub fn replied(&self) {
        self.shared.replied.notify_one();
    }

    /// This part of this instance stands: what an earlier process of the member reported from here is over.
    pub fn fresh(&self) {
        self.shared.lock().begin(self.source);
        self.shared.raised.notify_one();
    }

    /// All that holds now of a kind that holds in the ledger: what is open beside it is over, and what is not open is told.
    /// Whoever leads says so, since the instance that raised or saw the end of something may have died before it was stored.
    pub fn census(&self, kind: Kind, census: Census) {
        self.shared.lock().count_all(kind, self.source, census);
        self.shared.raised.notify_one();
    }

    fn say_again(&self) {
        self.shared.lock().say_again(Utc::now());
        self.shared.raised.notify_one();
    }

    /// What was raised under this key is over, as far as this part of this instance sees.
    pub fn resolve(&self, key: Key) {
        self.shared.lock().withdraw(key, self.source);
        self.shared.raised.notify_one();
    }
}

#[cfg(test)]
impl Notifier {
    /// Takes everything that waits to be recorded.
    pub(crate) fn taken(&self) -> std::collections::BTreeMap<Key, tally::Tally> {
        self.shared.lock().take().keys
    }

    /// Takes the last message raised under a kind.
    pub(crate) fn message_of(&self, kind: Kind) -> Option<String> {
        self.taken()
            .into_iter()
            .find(|(key, tally)| key.kind == kind && tally.count > 0)
            .map(|(_, t)| t.message)
    }

    /// Says whether an end was noted under a kind.
    pub(crate) fn withdrew(&self, kind: Kind) -> bool {
        self.taken().iter().any(|(key, tally)| key.kind == kind && !tally.withdrawn.is_empty())
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tallies> {
        // A panic while counting leaves a count that is off by one at most.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Settings ===

impl Settings {
    /// Takes them from the configuration.
    pub fn of(config: &config::Config) -> Self {
        Self {
            cluster: config.cluster.name.clone(),
            member: config.cluster.member.clone(),
            throttle: config.notify.throttle,
            status_interval: config.health.waiting_mode_status_interval,
            aggregation: config.notify.aggregation,
            expiry: config.notify.expiry,
            timeout: config.notify.timeout,
            redis: config.redis.access(),
        }
    }

    /// The window of a kind.
    pub fn window(&self, kind: Kind) -> Duration {
        match kind {
            Kind::StartupError => self.throttle.startup,
            Kind::WebsocketError => self.throttle.websocket,
            Kind::BrokerError | Kind::BrokerSession => self.throttle.broker,
            Kind::DatabaseError => self.throttle.database,
            // Said on purpose at this pace by whoever waits; a little less, so that it is not one late each time.
            Kind::StillWaiting => self.status_interval.mul_f64(0.9),
            // Once a day, whoever leads; a little less, since days are not begun at the same minute.
            Kind::ContractExpiring => self.throttle.default.max(A_DAY.mul_f64(0.8)),
            _ => self.throttle.default,
        }
    }

    /// How long a notification of this kind waits for others.
    pub fn gather(&self, kind: Kind) -> Duration {
        match kind.severity() {
            Severity::Critical => Duration::ZERO,
            // Whoever stops has no minute to wait.
            _ if kind == Kind::Stopped => Duration::ZERO,
            _ => self.aggregation,
        }
    }
}

/// Records, composes and delivers until `stopped`; then takes one last look at what was raised.
pub async fn run(
    notifier: Notifier,
    settings: Settings,
    ledger: Ledger,
    channels: Vec<Channel>,
    metrics: Arc<Metrics>,
    stopped: CancellationToken,
) {
    let settings = Arc::new(settings);
    let channels: Arc<[Channel]> = channels.into();
    // They end one after the other, so that what is raised last still gets as far as it can.
    let (composing, sending) = (CancellationToken::new(), CancellationToken::new());
    let (composers, senders) = (TaskTracker::new(), TaskTracker::new());
    let wake = |channel: &Channel| match channel {
        Channel::Replies(_) => Arc::clone(&notifier.shared.replied),
        _ => Arc::default(),
    };
    let wakes: Vec<Arc<Notify>> = channels.iter().map(wake).collect();
    for (index, wake) in wakes.iter().enumerate() {
        let sender = sender::Sender {
            channels: Arc::clone(&channels),
            index,
            ledger: ledger.clone(),
            settings: Arc::clone(&settings),
            notifier: notifier.from("notify"),
            metrics: Arc::clone(&metrics),
        };
        senders.spawn(sender.run(Arc::clone(wake), sending.clone()));
    }
    let decided = Arc::new(Notify::new());
    let composer = sender::Composer {
        channels: channels.iter().map(Channel::name).collect(),
        noticed: channels.iter().filter(|channel| channel.takes_notices()).map(Channel::name).collect(),
        ledger: ledger.clone(),
        settings: Arc::clone(&settings),
        metrics: Arc::clone(&metrics),
        wakes,
    };
    composers.spawn(composer.run(Arc::clone(&decided), composing.clone()));
    let presence = presence::Presence {
        notifier: notifier.clone(),
        ledger: ledger.clone(),
        member: settings.member.clone(),
        decided: Arc::clone(&decided),
    };
    composers.spawn(presence.run(composing.clone()));
    let away = away::Away::new(Arc::clone(&settings), channels, Arc::clone(&metrics));
    recorder::Recorder { notifier, ledger, settings, metrics, decided, away }.run(stopped).await;
    for (tasks, end) in [(composers, composing), (senders, sending)] {
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
