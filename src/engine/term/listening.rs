//! Hears of new signals.

use std::time::Duration;

use super::{LEDGER_PATIENCE, Term};

/// Between two tries to listen for new signals.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

impl Term<'_> {
    /// Keeps a session that hears of new signals; without it the sweep finds them. The loop never waits for it: where
    /// new sessions hang, stops would be looked at once in seconds.
    pub(in crate::engine) async fn listen(&mut self) {
        if self.listener.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return;
        }
        match self.listening.take_if(|task| task.is_finished()) {
            Some(task) => match task.await {
                Ok(Ok(Ok(listener))) => self.listener = Some(listener),
                failed => tracing::debug!(?failed, "not listening for signals"),
            },
            None if self.listening.is_none() && self.fence().now() >= self.next_listen => {
                self.next_listen = self.fence().now().plus(LISTEN_AGAIN);
                let (ledger, heard) = (self.engine.ledger.clone(), self.heard());
                self.listening = Some(tokio::spawn(async move {
                    tokio::time::timeout(LEDGER_PATIENCE, ledger.listen(heard)).await
                }));
            }
            None => {}
        }
    }
}
