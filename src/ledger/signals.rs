//! Signals for operators: listed page by page, and put into the inbox once more.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tokio_postgres::Transaction;

use super::books::{Filter, Page, Place};
use super::inbox::{NewSignal, Receipt};
use super::repair::Operator;
use super::views::{SIGNAL_COLUMNS, SignalRow, signal_row};
use super::{Ledger, LedgerError, audit};
use crate::domain::ids::{SignalId, SignalKey};
use crate::domain::refusal::Refusal;

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

    /// Says why a refused signal may not be put in again; nothing of one that was put in already, which gives that one's
    /// receipt.
    ///
    /// # Errors
    /// Any database error.
    pub async fn against_replay(&self, id: SignalId) -> Result<Option<Refusal>, LedgerError> {
        if self.delivered(&replay_key(id)).await?.is_some() {
            return Ok(None);
        }
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        perhaps_acted(&tx, id).await
    }

    /// Stores a signal for an operator, once, with the audit row that says who wanted `original` put in again and why; or
    /// stores nothing, because `original` may have acted.
    ///
    /// # Errors
    /// Any database error; then nothing is known to be stored, and storing it again is safe.
    pub async fn replay(
        &self,
        signal: &NewSignal<'_>,
        original: SignalId,
        operator: Operator<'_>,
    ) -> Result<Result<Receipt, Refusal>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        let receipt = super::inbox::store(&tx, signal).await?;
        if receipt.fresh {
            if let Some(refusal) = perhaps_acted(&tx, original).await? {
                tx.rollback().await.map_err(LedgerError::during("take a signal back"))?;
                return Ok(Err(refusal));
            }
            let told = json!({ "signal": original, "as": receipt.id, "why": operator.reason });
            audit::append(&tx, "replay", operator.name, &told).await?;
        }
        tx.commit().await.map_err(LedgerError::during("commit a signal that is put in again"))?;
        Ok(Ok(receipt))
    }
}

/// What speaks against it that a refused signal never had an order: its orders; an end that says nothing of them; a restore
/// or a failover after it came, which may have lost its orders, or the signal that it was put in again as. A failover that
/// no promotion has seen yet shows in the timeline.
const PERHAPS_ACTED: &str = "
SELECT (SELECT o.state FROM order_intent o WHERE o.signal_id = s.id AND o.state <> 'not_sent' LIMIT 1),
    jsonb_path_query_first(s.reasons, '$[*].code ? (@ == \"RESTORED\" || @ == \"UNREADABLE\")') #>> '{}',
    s.received_at <= (SELECT max(started_at) FROM leadership_history WHERE reason = 'restored'),
    s.received_at <= (SELECT max(at) FROM switch_history
        WHERE switch = 'reduce_only' AND value AND why LIKE 'PostgreSQL failed over%'),
    l.system_identifier IS NOT NULL AND (l.system_identifier, l.timeline)
        IS DISTINCT FROM (c.system_identifier, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))
  FROM signal s, leadership l, pg_control_system() c WHERE s.id = $1";

/// Why a refused signal may have an order at the broker all the same.
async fn perhaps_acted(tx: &Transaction<'_>, id: SignalId) -> Result<Option<Refusal>, LedgerError> {
    let found = tx.query_one(PERHAPS_ACTED, &[&id.0]).await;
    let row = found.map_err(LedgerError::during("see whether a signal may have acted"))?;
    if let Some(state) = row.get::<_, Option<String>>(0) {
        let sentence = format!(
            "an order of the signal is {state}: `baton signals show {id}` has it; close what it bought with `baton close`, or \
             have a new signal sent"
        );
        return Ok(Some(Refusal::new("SIGNAL_HAD_ORDER", sentence)));
    }
    let says = |place| row.get::<_, Option<bool>>(place).unwrap_or(false);
    let why = if let Some(code) = row.get::<_, Option<String>>(1) {
        format!("it was ended as {code}, which does not say that it never acted")
    } else if says(2) {
        "the ledger was restored after the signal came, and may have lost its order".to_owned()
    } else if says(3) || says(4) {
        "PostgreSQL failed over after the signal came, and may have lost its order".to_owned()
    } else {
        return Ok(None);
    };
    let sentence = format!(
        "{why}: look for its order in the broker's books, and have a new signal sent if there is none"
    );
    Ok(Some(Refusal::new("SIGNAL_MAY_HAVE_ACTED", sentence)))
}
