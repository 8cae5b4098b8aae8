//! The notifications' place in one instance: started before anything can fail, ended after everything is said.

use std::sync::Arc;
use std::time::Duration;

use ha::{Handle, Line};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::night::Night;
use super::parting::Parting;
use super::{armed, notices};
use crate::broker::Broker;
use crate::config::Config;
use crate::engine::command::Desk;
use crate::failpoint;
use crate::feed::Feeds;
use crate::health::checks::Checks;
use crate::health::operational::Operational;
use crate::health::rounds::{self, Rounds};
use crate::ledger::Ledger;
use crate::notify::{self, Bot, Channel, Event, Kind, Notifier, Settings, heartbeat};
use crate::telegram::Commander;
use crate::telemetry::metrics::Metrics;

/// Connections of its own: neither errors nor a hanging channel may hold up orders or requests.
const POOL: usize = 4;

/// Everything that tells.
pub(super) struct Telling {
    pub notifier: Notifier,
    pub rounds: Rounds,
    /// The same connections, for whoever tells something else.
    pub ledger: Ledger,
    following: watch::Sender<bool>,
    worker: JoinHandle<()>,
    stopped: CancellationToken,
}

impl Telling {
    /// Starts recording and delivering; the database need not be there yet.
    ///
    /// # Errors
    /// A channel cannot work as configured.
    pub fn start(
        config: &Config,
        application: &str,
        broker: Arc<dyn Broker>,
        feeds: &Feeds,
        state: watch::Receiver<Operational>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let postgres = &config.postgres;
        let ledger = Ledger::open(postgres.session.clone(), postgres.tls.clone(), POOL, application)?;
        let channels = Channel::configured(&config.notify)?;
        let (notifier, stopped) = (Notifier::new(), CancellationToken::new());
        let worker = tokio::spawn(notify::run(
            notifier.clone(),
            Settings::of(config),
            ledger.clone(),
            channels,
            Arc::clone(&metrics),
            stopped.clone(),
        ));
        let rounds =
            rounds::start(checks(config, broker, feeds, ledger.clone())?, config.health.clone(), metrics);
        let exchanges = config.instruments.iter().map(|instrument| instrument.exchange.clone()).collect();
        let night = Night::by(feeds.hours.clone(), exchanges, feeds.session.clone());
        let (following, follows) = watch::channel(false);
        let health = &config.health;
        let every = health.waiting_mode_send_hourly_status.then_some(health.waiting_mode_status_interval);
        let states =
            notices::tell_state(state, follows, rounds.clone(), notifier.clone(), every, night.clone());
        let checks = notices::tell_checks(rounds.watch(), notifier.clone(), night);
        let login = notices::look_with_session(feeds.session.clone(), rounds.clone());
        let token = stopped.clone();
        let all = async { tokio::join!(states, checks, login) };
        tokio::spawn(async move { token.run_until_cancelled(all).await });
        if failpoint::errors_a_second().is_some() {
            let (storm, token) = (storm(notifier.clone()), stopped.clone());
            tokio::spawn(async move { token.run_until_cancelled(storm).await });
        }
        Ok(Self { notifier, rounds, ledger, following, worker, stopped })
    }

    /// Watches the instance's part in the cluster from now on, and tells of it.
    pub fn joined(&self, config: &Config, handle: &Arc<Handle>) {
        let cluster = notices::tell_cluster(
            Arc::clone(handle),
            self.following.clone(),
            self.rounds.clone(),
            self.notifier.clone(),
        );
        let stopped = self.stopped.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(cluster).await });
        if let Some(url) = &config.notify.heartbeat_url {
            let notify = &config.notify;
            let beat = heartbeat::beat(url.clone(), notify.heartbeat_interval, notify.timeout, handle.role());
            let stopped = self.stopped.clone();
            tokio::spawn(async move { stopped.run_until_cancelled(beat).await });
        }
        if config.notify.start_stop {
            let event = notices::started(config);
            self.notifier.raise(event);
        }
    }

    /// Listens to the bot from now on, whenever this instance leads, if anybody may command it.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn listen(
        &self,
        config: &Config,
        handle: &Arc<Handle>,
        desk: Desk,
        operational: watch::Receiver<Operational>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<()> {
        let Some(policy) = config.notify.commands.clone() else { return Ok(()) };
        let Some(bot) = Bot::configured(&config.notify)? else { return Ok(()) };
        let commander = Commander {
            bot,
            policy,
            cluster: config.cluster.name.clone(),
            mode: config.broker.mode.as_str(),
            handle: Arc::clone(handle),
            ledger: self.ledger.clone(),
            desk,
            operational,
            notifier: self.notifier.from("telegram"),
            metrics,
        };
        tokio::spawn(commander.run(self.stopped.clone()));
        Ok(())
    }

    /// Tells of a stop and what became of it; of positions that nobody watches, whatever the configuration says.
    pub fn stopped(&self, config: &Config, signal: &str, parting: &Parting) {
        if config.notify.start_stop || matches!(parting, Parting::Unwatched(_)) {
            self.notifier.raise(notices::stopped(&config.cluster.member, signal, parting));
        }
    }

    /// Notes that this start ended cleanly, records what was raised last and delivers what is due, within `budget`.
    pub async fn end(self, start: Uuid, budget: Duration) {
        self.stopped.cancel();
        let words = async {
            let (noted, _) = tokio::join!(self.ledger.process_stopped(start), self.worker);
            if let Err(error) = noted {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "[SHUTDOWN] the clean stop was not noted: it will count as a crash");
            }
        };
        if tokio::time::timeout(budget, words).await.is_err() {
            tracing::warn!("[SHUTDOWN] notifications are left to the other instances");
        }
    }
}

/// Raises errors as fast as a test wants, of several kinds, each text another: only in builds with fail points.
async fn storm(notifier: Notifier) {
    const TICK: Duration = Duration::from_millis(5);
    const KINDS: [Kind; 4] =
        [Kind::BrokerError, Kind::WebsocketError, Kind::RedisDegraded, Kind::NotificationFailed];
    let (notifier, mut ticks) = (notifier.from("storm"), tokio::time::interval(TICK));
    loop {
        ticks.tick().await;
        let now = failpoint::errors_a_second().unwrap_or(0) / 200;
        for number in 0..now {
            let kind = KINDS[number as usize % KINDS.len()];
            let scope = (number % 5).to_string();
            notifier.raise(Event::about(kind, scope, format!("storm {}", Uuid::now_v7())));
        }
    }
}

fn checks(config: &Config, broker: Arc<dyn Broker>, feeds: &Feeds, ledger: Ledger) -> anyhow::Result<Checks> {
    let health = &config.health;
    Ok(Checks {
        ledger,
        redis: Line::new(&config.redis.access(), health.check_timeout, health.check_timeout)?,
        broker,
        live: feeds.live.clone(),
        feed_url: config.feed.url.clone(),
        armed: armed(config),
        timeout: health.check_timeout,
        max_clock_skew: health.max_clock_skew,
        disk_path: health.disk_path.clone(),
        min_disk_free_mb: health.min_disk_free_mb,
    })
}
