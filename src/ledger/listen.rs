//! Hearing of new signals at once. Nothing is lost if a notification is: the leader also sweeps the inbox.

use futures_util::StreamExt;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;

use super::connect::connect;
use super::{Ledger, LedgerError};
use crate::domain::ids::SignalId;
use crate::domain::signal::SignalType;

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

/// What a notification says of a signal that was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored<'a> {
    /// Its id.
    pub id: SignalId,
    /// Its type.
    pub kind: SignalType,
    /// The member that received it.
    pub received_by: &'a str,
    /// Its instrument.
    pub instrument: &'a str,
}

impl<'a> Stored<'a> {
    /// Reads a notification as the inbox's insert makes it; none for an older version's, which says nothing.
    fn read(payload: &'a str) -> Option<Self> {
        let mut words = payload.splitn(4, ' ');
        let (id, kind) = (SignalId(words.next()?.parse().ok()?), words.next()?.parse().ok()?);
        let (received_by, instrument) = (words.next()?, words.next()?);
        Some(Self { id, kind, received_by, instrument })
    }
}

impl Ledger {
    /// Listens on a session of its own, and calls `heard` for each new signal, on whichever instance it arrived, with what is
    /// said of it.
    ///
    /// # Errors
    /// The failed connection or `LISTEN`.
    pub async fn listen(
        &self,
        heard: impl Fn(Option<Stored<'_>>) + Send + 'static,
    ) -> Result<Listener, LedgerError> {
        let (client, mut messages) =
            connect(&self.config, &self.tls, "connect to listen for signals").await?;
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(stored) = message {
                    heard(Stored::read(stored.payload()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_version_says_is_nothing() {
        let id = SignalId::new();
        let said = Stored { id, kind: SignalType::BaseEntry, received_by: "b1", instrument: "GOLD MINI" };
        assert_eq!(Stored::read(&format!("{id} BASE_ENTRY b1 GOLD MINI")), Some(said));
        assert_eq!(Stored::read(""), None);
        assert_eq!(Stored::read(&format!("{id} b1 BASE_ENTRY GOLD_MINI")), None);
    }
}
