//! A session kept open ahead of time, so that a takeover does not wait for a connection to be made (a fork on
//! the server, authentication, TLS). It holds nothing until it is used.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};

use crate::config::Config;
use crate::pin::{self, PinError};
use crate::session::{AbortOnDrop, Session, sentence};

/// Keeps one session open ahead of time, so that a takeover does not wait for a connection to be made.
pub(crate) struct WarmPin {
    home: Handle,
    config: Arc<Config>,
    slot: Arc<Mutex<Option<Session>>>,
    wanted: Arc<Notify>,
    _task: AbortOnDrop,
}

impl WarmPin {
    /// Starts keeping one session open, on `home`.
    pub(crate) fn start(home: Handle, config: Arc<Config>) -> Self {
        let slot = Arc::new(Mutex::new(None));
        let wanted = Arc::new(Notify::new());
        let keeping = keep_one_open(home.clone(), config.clone(), slot.clone(), wanted.clone());
        let task = tokio::spawn(keeping);
        Self { home, config, slot, wanted, _task: AbortOnDrop::new(task.abort_handle()) }
    }

    /// The session in store, or else one that is opened now, each of its steps within `patience`.
    pub(crate) async fn session(&self, patience: Duration) -> Result<Session, PinError> {
        let in_store = self.slot.lock().await.take();
        match in_store.filter(|session| !session.is_over()) {
            Some(session) => Ok(session),
            None => pin::open(&self.home, &self.config, patience).await,
        }
    }

    /// Asks for the next one.
    pub(crate) fn refill(&self) {
        self.wanted.notify_one();
    }
}

async fn keep_one_open(
    home: Handle,
    config: Arc<Config>,
    slot: Arc<Mutex<Option<Session>>>,
    wanted: Arc<Notify>,
) {
    let patience = config.timing.idle_in_transaction();
    loop {
        let in_store = slot.lock().await.as_ref().filter(|session| !session.is_over()).map(Session::over);
        if let Some(over) = in_store {
            tokio::select! {
                () = over => {}
                () = wanted.notified() => {}
            }
            continue;
        }
        // Opened outside the lock: a takeover must not wait for it.
        match pin::open(&home, &config, patience).await {
            Ok(session) => *slot.lock().await = Some(session),
            Err(error) => {
                tracing::debug!(error = sentence(&error), "no warm session yet");
                let _ = tokio::time::timeout(config.timing.renew, wanted.notified()).await;
            }
        }
    }
}
