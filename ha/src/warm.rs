//! A session kept open ahead of time, so that a takeover does not wait for a connection to be made (a fork on
//! the server, authentication, TLS). It holds nothing until it is used.

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use crate::config::Config;
use crate::pin;
use crate::session::{AbortOnDrop, Session, sentence};

/// Keeps one session open ahead of time, so that a takeover does not wait for a connection to be made.
pub(crate) struct WarmPin {
    slot: Arc<Mutex<Option<Session>>>,
    wanted: Arc<Notify>,
    _task: AbortOnDrop,
}

impl WarmPin {
    /// Starts keeping one session open.
    pub(crate) fn start(config: Arc<Config>) -> Self {
        let slot = Arc::new(Mutex::new(None));
        let wanted = Arc::new(Notify::new());
        wanted.notify_one();
        let task = tokio::spawn(keep_one_open(config, slot.clone(), wanted.clone()));
        Self { slot, wanted, _task: AbortOnDrop::new(task.abort_handle()) }
    }

    /// Takes the session if one is open.
    pub(crate) async fn take(&self) -> Option<Session> {
        self.slot.lock().await.take().filter(|session| !session.is_over())
    }

    /// Asks for the next one.
    pub(crate) fn refill(&self) {
        self.wanted.notify_one();
    }
}

async fn keep_one_open(config: Arc<Config>, slot: Arc<Mutex<Option<Session>>>, wanted: Arc<Notify>) {
    let patience = config.timing.idle_in_transaction();
    loop {
        // Asked, or after a while in case the one in store has ended meanwhile.
        let _ = tokio::time::timeout(config.timing.renew, wanted.notified()).await;
        if slot.lock().await.as_ref().is_some_and(|session| !session.is_over()) {
            continue;
        }
        // Opened outside the lock: a takeover must not wait for it.
        match pin::open(&config, patience).await {
            Ok(session) => *slot.lock().await = Some(session),
            Err(error) => {
                tracing::debug!(error = sentence(&error), "no warm session yet");
            }
        }
    }
}
