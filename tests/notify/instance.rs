//! One instance's notifications in this process, and what is waited for.

use std::sync::Arc;
use std::time::Duration;

use baton::config::{self, Inputs};
use baton::ledger::Ledger;
use baton::notify::{self, Channel, Notifier, Settings};
use baton::telemetry::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::double::Telegram;
use crate::support::database::Database;
use crate::support::wait;

/// How long anything that should take a second may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// One instance's notifications.
pub struct Instance {
    pub notifier: Notifier,
    pub metrics: Arc<Metrics>,
    pub stopped: CancellationToken,
    worker: JoinHandle<()>,
}

impl Instance {
    pub async fn start(
        database: &Database,
        telegram: &Telegram,
        member: &str,
        more: &[(&str, &str)],
    ) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut env = telegram.env();
        env.extend([
            ("BATON_CLUSTER__MEMBER", member.to_owned()),
            ("BATON_CLUSTER__NAME", "test".to_owned()),
            ("BATON_POSTGRES__URL", database.stores.database_url()),
            ("BATON_REDIS__URL", database.stores.redis_url()),
            ("BATON_BROKER__API_KEY", "k".to_owned()),
            ("BATON_TRADING__CAPITAL", "1".to_owned()),
            ("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "1".to_owned()),
            ("BATON_NOTIFY__NOTIFICATION_TIMEOUT", "1".to_owned()),
        ]);
        let mut inputs = Inputs::default();
        inputs.env.extend(env.into_iter().map(|(key, value)| (key.to_owned(), value)));
        inputs.env.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let config = config::load(&inputs).unwrap();
        let ledger = Ledger::new(&database.stores.database_url(), 3, member).unwrap();
        let (notifier, metrics) = (Notifier::new(), Arc::new(Metrics::new()));
        let stopped = CancellationToken::new();
        let channels = Channel::configured(&config.notify).unwrap();
        let running = notify::run(
            notifier.clone(),
            Settings::of(&config),
            ledger,
            channels,
            Arc::clone(&metrics),
            stopped.clone(),
        );
        let worker = tokio::spawn(running);
        Self { notifier, metrics, stopped, worker }
    }

    pub async fn end(self) {
        self.stopped.cancel();
        self.worker.await.unwrap();
    }

    /// Notifications of a kind with a result.
    pub fn counted(&self, kind: &str, result: &str) -> u64 {
        self.metrics.notifications.with_label_values(&[kind, result]).get()
    }
}

/// The messages with this in them, once there are so many.
pub async fn delivered(telegram: &Telegram, part: &str, count: usize) -> Vec<String> {
    wait::until(&format!("{count} messages with {part:?}"), PATIENCE, async || {
        let found = telegram.with(part);
        if found.len() >= count { Ok(found) } else { Err(telegram.delivered()) }
    })
    .await
}

/// Waits until nothing is under way, so that what did not come will not come.
pub async fn quiet(database: &Database) {
    wait::until("the outbox is empty", PATIENCE, async || {
        match database.ledger.outbox_depth().await.unwrap() {
            0 => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
}

/// The unresolved errors' kinds and scopes, once they are these.
pub async fn open(database: &Database, wanted: &[(&str, &str)]) {
    wait::until("the log is as wanted", PATIENCE, async || {
        let rows = database.ledger.errors(true, 10).await.map_err(|error| error.to_string())?;
        let mut open: Vec<_> = rows.iter().map(|row| (row.error_type.as_str(), row.scope.as_str())).collect();
        open.sort_unstable();
        if open == wanted { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
}
