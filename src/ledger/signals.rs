//! Signals for operators: listed page by page, and put into the inbox once more.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::books::{Filter, Page, Place};
use super::inbox::{NewSignal, Receipt};
use super::repair::Operator;
use super::views::{SIGNAL_COLUMNS, SignalRow, signal_row};
use super::{Ledger, LedgerError, audit};
use crate::domain::ids::{SignalId, SignalKey};

/// A page of signals: walks the index of the times of receipt from where the page begins.
pub static SIGNALS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SIGNAL_COLUMNS} FROM signal
         WHERE ($1::text IS NULL OR instrument = $1) AND ($2::text IS NULL OR strategy = $2)
            AND ($3::timestamptz IS NULL OR received_at >= $3) AND ($4::timestamptz IS NULL OR received_at < $4)
            AND ($5::timestamptz IS NULL OR (received_at, id) < ($5, $6::uuid))
            AND ($8::text[] IS NULL OR status = ANY ($8))
         ORDER BY received_at DESC, id DESC LIMIT $7"
    )
});

/// A signal as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSignal {
    /// What became of it.
    pub status: String,
    /// The parsed signal.
    pub payload: Value,
    /// The body as received, without secrets.
    pub raw_body: Vec<u8>,
}

/// The key of a signal that is put in once more. One a signal: whoever asks twice gets the same receipt. No sender's key
/// looks like it, since strategies' names have no colon.
pub fn replay_key(id: SignalId) -> SignalKey {
    SignalKey(format!("replay:{id}"))
}

impl Ledger {
    /// Lists signals by when they were stored, the newest first, below `after` if that is given.
    ///
    /// # Errors
    /// Any database error.
    pub async fn signals(
        &self,
        filter: &Filter,
        after: Option<Place>,
        limit: i64,
    ) -> Result<Page<SignalRow>, LedgerError> {
        let rows = self.page(&SIGNALS, "list signals", filter, after, limit, &[&filter.states]).await?;
        let place = |signal: &SignalRow| Place { at: signal.received_at, id: signal.id };
        Ok(Page::cut(rows.iter().map(signal_row).collect(), limit, place))
    }

    /// Reads a signal as it was stored; none if there is no such signal.
    ///
    /// # Errors
    /// Any database error.
    pub async fn stored_signal(&self, id: SignalId) -> Result<Option<StoredSignal>, LedgerError> {
        let client = self.client().await?;
        let found =
            client.query_opt("SELECT status, payload, raw_body FROM signal WHERE id = $1", &[&id.0]).await;
        let row = found.map_err(LedgerError::during("read a stored signal"))?;
        Ok(row.map(|row| StoredSignal { status: row.get(0), payload: row.get(1), raw_body: row.get(2) }))
    }

    /// Stores a signal for an operator, once, with the audit row that says who wanted `original` put in again and why.
    ///
    /// # Errors
    /// Any database error; then nothing is known to be stored, and storing it again is safe.
    pub async fn replay(
        &self,
        signal: &NewSignal<'_>,
        original: SignalId,
        operator: Operator<'_>,
    ) -> Result<Receipt, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        let receipt = super::inbox::store(&tx, signal).await?;
        if receipt.fresh {
            let told = json!({ "signal": original, "as": receipt.id, "why": operator.reason });
            audit::append(&tx, "replay", operator.name, &told).await?;
        }
        tx.commit().await.map_err(LedgerError::during("commit a signal that is put in again"))?;
        Ok(receipt)
    }
}
