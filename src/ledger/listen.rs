//! Hearing of new signals at once. Nothing is lost if a notification is: the leader also sweeps the inbox.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;

use super::connect::connect;
use super::{Ledger, LedgerError};

/// A session that listens for new signals; ends when dropped.
#[derive(Debug)]
pub struct Listener {
    driver: JoinHandle<()>,
    _client: tokio_postgres::Client,
}

impl Listener {
    /// True once its session is gone; listen again then.
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Ledger {
    /// Listens on a session of its own and wakes `arrivals` for each new signal, on whichever instance it arrived.
    ///
    /// # Errors
    /// The failed connection or `LISTEN`.
    pub async fn listen(&self, arrivals: Arc<Notify>) -> Result<Listener, LedgerError> {
        let (client, mut messages) = connect(&self.config, &self.tls)
            .await
            .map_err(LedgerError::during("connect to listen for signals"))?;
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    arrivals.notify_one();
                }
            }
        });
        client
            .batch_execute("LISTEN baton_signal")
            .await
            .map_err(LedgerError::during("listen for signals"))?;
        Ok(Listener { driver, _client: client })
    }
}
