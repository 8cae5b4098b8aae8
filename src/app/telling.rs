//! The notifications' place in one instance: started before anything can fail, ended after everything is said.

use std::sync::Arc;
use std::time::Duration;

use ha::Handle;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::notices;
use crate::config::Config;
use crate::health::operational::Operational;
use crate::ledger::Ledger;
use crate::notify::{self, Channel, Notifier, Settings, heartbeat};
use crate::telemetry::metrics::Metrics;

/// Connections of its own: neither errors nor a hanging channel may hold up orders or requests.
const POOL: usize = 3;
/// How long a stop waits for the last messages.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Everything that tells.
pub(super) struct Telling {
    pub notifier: Notifier,
    pub live: watch::Sender<Option<Vec<String>>>,
    worker: JoinHandle<()>,
    stopped: CancellationToken,
}

impl Telling {
    /// Starts recording and delivering; the database need not be there yet.
    ///
    /// # Errors
    /// A channel cannot work as configured.
    pub fn start(config: &Config, application: &str, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let ledger = Ledger::new(config.postgres.url.expose_secret(), POOL, application)?;
        let channels = Channel::configured(&config.notify)?;
        let (live, receiver) = watch::channel(None);
        let (notifier, stopped) = (Notifier::new(), CancellationToken::new());
        let worker = tokio::spawn(notify::run(
            notifier.clone(),
            Settings::of(config),
            ledger,
            channels,
            receiver,
            metrics,
            stopped.clone(),
        ));
        Ok(Self { notifier, live, worker, stopped })
    }

    /// Watches what the instance does from now on, and tells of it.
    pub fn joined(&self, config: &Config, handle: &Arc<Handle>, state: watch::Receiver<Operational>) {
        let health = &config.health;
        let every = health.waiting_mode_send_hourly_status.then_some(health.waiting_mode_status_interval);
        let tasks = self.stopped.clone();
        let (one, other, notifier) = (Arc::clone(handle), Arc::clone(handle), self.notifier.clone());
        let states = notices::tell_state(one, state, notifier.clone(), every);
        let cluster = notices::tell_cluster(other, notifier);
        tokio::spawn(async move { tasks.run_until_cancelled(async { tokio::join!(states, cluster) }).await });
        if let Some(url) = &config.notify.heartbeat_url {
            let notify = &config.notify;
            let beat = heartbeat::beat(url.clone(), notify.heartbeat_interval, notify.timeout, handle.role());
            let stopped = self.stopped.clone();
            tokio::spawn(async move { stopped.run_until_cancelled(beat).await });
        }
        if config.notify.start_stop {
            let event = notices::started(&config.cluster.member, config.broker.mode.as_str());
            self.notifier.raise(event);
        }
    }

    /// Tells of a stop.
    pub fn stopping(&self, config: &Config, signal: &str, led: bool) {
        if config.notify.start_stop {
            self.notifier.raise(notices::stopped(&config.cluster.member, signal, led));
        }
    }

    /// Records what was raised last and delivers what is due, if that is quick.
    pub async fn end(self) {
        self.stopped.cancel();
        if tokio::time::timeout(LAST_WORDS, self.worker).await.is_err() {
            tracing::warn!("[SHUTDOWN] notifications are left to the other instances");
        }
    }
}
