//! The signal inbox: durable and idempotent on every instance, read by the leader only.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::Transaction;
use ha::Fence;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::cells::Cells;
use super::planned::Planned;
use super::{Ledger, LedgerError};
use crate::domain::ids::{SignalId, SignalKey};
use crate::domain::order::{UnknownName, named};
use crate::mutant::Mutant;

/// A validated signal on its way into the inbox.
#[derive(Debug)]
pub struct NewSignal<'a> {
    /// Its idempotency key.
    pub key: &'a SignalKey,
    /// `BASE_ENTRY`, `PYRAMID`, `EXIT`, `MARKET_DATA` or `EOD_MONITOR`.
    pub kind: &'a str,
    /// The sender's strategy.
    pub strategy: &'a str,
    /// The configured instrument.
    pub instrument: &'a str,
    /// The parsed signal.
    pub payload: &'a Value,
    /// The body as received.
    pub raw_body: &'a [u8],
    /// The member that received it.
    pub received_by: &'a str,
    /// W3C trace context of the delivery, if it had one.
    pub traceparent: Option<&'a str>,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The row's id: the first delivery's, for a repeat.
    pub id: SignalId,
    /// The row's status now.
    pub status: String,
    /// False for a repeat.
    pub fresh: bool,
}

impl Receipt {
    /// A lie, for [`Mutant::AcknowledgesUnstored`].
    pub fn unstored() -> Self {
        Self { id: SignalId::new(), status: SignalStatus::Pending.as_str().to_owned(), fresh: true }
    }
}

/// An inbox row that a leader has to work on.
#[derive(Debug, Clone)]
pub struct PendingSignal {
    /// Its id.
    pub id: SignalId,
    /// Its place in the inbox.
    pub seq: i64,
    /// `pending`, or `working` when a former leader began it.
    pub status: SignalStatus,
    /// The parsed signal.
    pub payload: Value,
    /// How long ago the database received it, by its own clock, in milliseconds.
    pub age_ms: i64,
    /// How many intents its first leg has had.
    pub attempts: i32,
    /// Every one of its intents provably never left, and no EXIT has called it off.
    pub unsent: bool,
}

impl PendingSignal {
    /// One that was stored a moment ago, and that nobody has begun.
    pub fn fresh(id: SignalId, seq: i64, payload: Value) -> Self {
        Self { id, seq, status: SignalStatus::Pending, payload, age_ms: 0, attempts: 0, unsent: true }
    }
}

/// What is known of a new row as soon as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its place in the inbox.
    pub seq: i64,
    /// Nothing before it on its instrument is unfinished: whoever decides it at once comes before nobody's turn.
    pub first: bool,
}

/// A signal's status. All but the first two are final.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalStatus {
    /// Durable, not yet decided.
    Pending,
    /// Its orders are out.
    Working,
    /// Its orders filled, wholly or in part.
    Executed,
    /// Validation, a gate, sizing, its age or a switch said no; the reasons say which.
    Refused,
    /// The broker refused its order.
    Rejected,
    /// Its order provably never left.
    NotSent,
    /// Its order was in doubt and is proven absent at the broker.
    Abandoned,
}
named!(SignalStatus {
    Pending = "pending",
    Working = "working",
    Executed = "executed",
    Refused = "refused",
    Rejected = "rejected",
    NotSent = "not_sent",
    Abandoned = "abandoned",
});

impl SignalStatus {
    /// Nothing more will become of it by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Working)
    }
}

/// Stores a signal once, and gives its receipt: the first one's, for a repeat. With `$10` nobody waits until a new row is on
/// disk: others see it at once, and whatever is committed after it puts it there, too. A new one's place is told,
/// and whether it is the first of its instrument: the statement's snapshot has every signal that was answered before it came.
/// Of a long backlog that is not looked for.
const STORE: &str = "
WITH fresh AS (
    INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, traceparent)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (key) DO NOTHING RETURNING id, status, seq)
SELECT id, status, true, seq,
    (SELECT count(*) < 64 AND bool_and(u.instrument <> $5) IS NOT FALSE FROM (
        SELECT instrument FROM signal WHERE status IN ('pending', 'working') ORDER BY seq LIMIT 64) u),
    pg_notify('baton_signal', concat_ws(' ', $1::uuid, $3::text, $8::text, $5::text))::text,
    CASE WHEN $10 THEN set_config('synchronous_commit', 'off', true) END
FROM fresh
UNION ALL
SELECT id, status, false, seq, false, NULL, NULL FROM signal WHERE key = $2 AND NOT EXISTS (SELECT 1 FROM fresh)";

/// For so long a sender's answer waits for the commit of what the signal decides. A flush of its own would be in that one's
/// way: the disk takes one after the other.
const RIDE: Duration = Duration::from_millis(3);

/// The same under an epoch (`$10`) and its holder (`$11`), with the leadership row locked as the journal locks it: nothing of
/// an old epoch is stored after a takeover's commit. No row when the epoch is another. Public for the test that plays the
/// leader of an old one.
pub const STORE_UNDER: &str = "
WITH l AS (
    SELECT 1 FROM leadership WHERE epoch = $10 AND holder_incarnation = $11 FOR SHARE
), fresh AS (
    INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, traceparent)
    SELECT $1::uuid, $2::text, $3::text, $4::text, $5::text, $6::jsonb, $7::bytea, $8::text, $9::text FROM l
    ON CONFLICT (key) DO NOTHING RETURNING id, status)
SELECT id, status, true, pg_notify('baton_signal', concat_ws(' ', $1::uuid, $3::text, $8::text, $5::text))::text FROM fresh
UNION ALL
SELECT id, status, false, NULL FROM signal, l WHERE key = $2 AND NOT EXISTS (SELECT 1 FROM fresh)";

/// Stores a signal within a transaction, with which it becomes durable.
pub(super) async fn store(tx: &Transaction<'_>, signal: &NewSignal<'_>) -> Result<Receipt, LedgerError> {
    let id = SignalId::new();
    let mut values = signal.values(&id, &signal.key.0);
    values.push(&false);
    let found = look_twice(tx, STORE, &values).await?;
    found.map(|row| receipt(&row)).ok_or_else(|| lost(signal))
}

/// A repeat that raced the first delivery's commit sees neither the row nor a conflict in its snapshot: the second look does.
async fn look_twice(
    client: &impl Planned,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, LedgerError> {
    for _ in 0..2 {
        let row = client.maybe_row(sql, values).await.map_err(LedgerError::during("store a signal"))?;
        if row.is_some() {
            return Ok(row);
        }
    }
    Ok(None)
}

/// The receipt in a row of [`STORE`] or [`STORE_UNDER`].
fn receipt(row: &Row) -> Receipt {
    Receipt { id: SignalId(row.get(0)), status: row.get(1), fresh: row.get(2) }
}

fn lost(signal: &NewSignal<'_>) -> LedgerError {
    LedgerError::Conflict { what: format!("signal {}", signal.key) }
}

/// The key of a new row.
fn new_key(signal: &NewSignal<'_>, id: SignalId) -> String {
    match Mutant::ForgetsDeliveries.is_on() {
        true => format!("{}/{id}", signal.key),
        false => signal.key.0.clone(),
    }
}

impl NewSignal<'_> {
    /// What [`STORE`] and [`STORE_UNDER`] take first.
    fn values<'v>(&'v self, id: &'v SignalId, key: &'v String) -> Vec<&'v (dyn ToSql + Sync)> {
        vec![
            &id.0,
            key,
            &self.kind,
            &self.strategy,
            &self.instrument,
            self.payload,
            &self.raw_body,
            &self.received_by,
            &self.traceparent,
        ]
    }
}

impl Ledger {
    /// Says of signals that wait why they do; they stay pending.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or any database error.
    pub async fn note_waiting(
        &self,
        fence: &Fence,
        signals: &[SignalId],
        reasons: &Value,
    ) -> Result<(), LedgerError> {
        let ids: Vec<Uuid> = signals.iter().map(|id| id.0).collect();
        let row = self
            .client()
            .await?
            .query_one(
                "WITH l AS (SELECT 1 FROM leadership WHERE epoch = $1 AND holder_incarnation = $2 FOR SHARE), u AS (
                    UPDATE signal SET reasons = $4 FROM l WHERE id = ANY ($3) AND status = 'pending')
                 SELECT EXISTS (SELECT 1 FROM l)",
                &[&fence.epoch().get(), &fence.instance().incarnation.as_uuid(), &ids, &reasons],
            )
            .await
            .map_err(LedgerError::during("say why signals wait"))?;
        if row.get(0) { Ok(()) } else { Err(LedgerError::Fenced(fence.epoch())) }
    }

    /// Stores a signal once, as `id` if it is new; a repeat of its key gets the first one's receipt. Returns when it is durable.
    ///
    /// A new one is `stored` before that: the leader may read and decide it from then on, while its sender still waits. It can
    /// act on nothing that a crash of the database forgets, for what it commits, an intent or a refusal, makes the row durable
    /// first.
    ///
    /// # Errors
    /// Any database error; then nothing is known to be stored, and sending it again is safe.
    pub async fn accept(
        &self,
        id: SignalId,
        signal: &NewSignal<'_>,
        stored: impl FnOnce(Placed),
    ) -> Result<Receipt, LedgerError> {
        let key = new_key(signal, id);
        let mut values = signal.values(&id, &key);
        values.push(&true);
        let row = look_twice(&*self.client().await?, STORE, &values).await?.ok_or_else(|| lost(signal))?;
        let receipt = receipt(&row);
        if receipt.fresh {
            stored(Placed { seq: row.get(3), first: row.get(4) });
            tokio::time::sleep(RIDE).await;
        }
        // A repeat may find a row that its first delivery still waits for.
        self.durable(receipt.id).await?;
        Ok(receipt)
    }

    /// Stores a signal that a strategy of the leader decided, once, and only while `fence` is the epoch in force.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or any database error; then nothing is known to be stored, and storing it again is safe.
    pub async fn accept_under(&self, fence: &Fence, signal: &NewSignal<'_>) -> Result<Receipt, LedgerError> {
        let client = self.client().await?;
        let id = SignalId::new();
        let key = new_key(signal, id);
        let (epoch, incarnation) = (fence.epoch().get(), fence.instance().incarnation.as_uuid());
        let mut values = signal.values(&id, &key);
        values.extend([&epoch as &(dyn ToSql + Sync), &incarnation]);
        let found = look_twice(&*client, STORE_UNDER, &values).await?;
        found.map(|row| receipt(&row)).ok_or(LedgerError::Fenced(fence.epoch()))
    }

    /// The signal that a delivery of this key would be a repeat of.
    ///
    /// # Errors
    /// Any database error.
    pub async fn delivered(&self, key: &SignalKey) -> Result<Option<Receipt>, LedgerError> {
        let client = self.client().await?;
        let found = client.maybe_row("SELECT id, status FROM signal WHERE key = $1", &[&key.0]).await;
        let row = found.map_err(LedgerError::during("look a signal up by its key"))?;
        Ok(row.map(|row| Receipt { id: SignalId(row.get(0)), status: row.get(1), fresh: false }))
    }

    /// Keeps a body that is no valid signal, with every fault found in it.
    ///
    /// # Errors
    /// Any database error.
    pub async fn keep_rejection(
        &self,
        raw_body: &[u8],
        http_status: u16,
        faults: &Value,
        received_by: &str,
    ) -> Result<SignalId, LedgerError> {
        let id = SignalId::new();
        let status = i16::try_from(http_status).unwrap_or(i16::MAX);
        self.client()
            .await?
            .execute(
                "INSERT INTO signal_rejection (id, received_by, http_status, faults, raw_body) VALUES ($1, $2, $3, $4, $5)",
                &[&id.0, &received_by, &status, faults, &raw_body],
            )
            .await
            .map_err(LedgerError::during("keep a rejected signal"))?;
        Ok(id)
    }

    /// Reads up to `limit` unfinished signals in inbox order, those that a former term began first, leaving out those
    /// in `known`.
    ///
    /// # Errors
    /// Any database error.
    pub async fn unfinished_signals(
        &self,
        known: &[uuid::Uuid],
        limit: i64,
    ) -> Result<Vec<PendingSignal>, LedgerError> {
        let client = self.client().await?;
        let statement = client
            .prepare_cached(
                "SELECT id, seq, status, payload,
                        (extract(epoch FROM clock_timestamp() - received_at) * 1000)::bigint AS age_ms,
                        (SELECT count(*)::int FROM order_intent WHERE signal_id = signal.id AND leg = 0) AS attempts,
                        NOT EXISTS (SELECT 1 FROM order_intent
                            WHERE signal_id = signal.id AND (state <> 'not_sent' OR unwind)) AS unsent
                 FROM signal WHERE status IN ('pending', 'working') AND id <> ALL ($1)
                 ORDER BY status = 'working' DESC, seq LIMIT $2",
            )
            .await
            .map_err(LedgerError::during("prepare the inbox read"))?;
        let rows = client
            .query(&statement, &[&known, &limit])
            .await
            .map_err(LedgerError::during("read the inbox"))?;
        rows.iter().map(pending_signal).collect()
    }
}

fn pending_signal(row: &Row) -> Result<PendingSignal, LedgerError> {
    let mut cells = Cells::keyed(row, "signal");
    let pending = PendingSignal {
        id: SignalId(cells.get("id")),
        seq: cells.get("seq"),
        status: cells.word("status", SignalStatus::Pending),
        payload: cells.get("payload"),
        age_ms: cells.get("age_ms"),
        attempts: cells.get("attempts"),
        unsent: cells.get("unsent"),
    };
    cells.finish(pending).map_err(LedgerError::Unreadable)
}
