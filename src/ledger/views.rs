//! What people and tools read: signals, orders, positions, the portfolio.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::change::PortfolioRow;
use super::rows::POSITION_COLUMNS;
use super::{Ledger, LedgerError, rows};
use crate::domain::ids::SignalId;
use crate::domain::position::Position;

/// A signal and what became of it, in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalRow {
    /// Its id.
    pub id: Uuid,
    /// Its place in the inbox.
    pub seq: i64,
    /// Its idempotency key.
    pub key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The strategy.
    pub strategy: String,
    /// The instrument.
    pub instrument: String,
    /// `pending`, `working`, `executed`, `refused`, `rejected`, `not_sent` or `abandoned`.
    pub status: String,
    /// `{code, sentence}` objects saying why.
    pub reasons: Value,
    /// When it was stored.
    pub received_at: DateTime<Utc>,
    /// Which member stored it.
    pub received_by: String,
    /// When it became final.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A signal with all that is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct SignalView {
    /// What a list shows of it.
    #[serde(flatten)]
    pub row: SignalRow,
    /// Sizing and gates.
    pub decision: Option<Value>,
    /// Its orders.
    pub orders: Vec<OrderView>,
}

/// What [`signal_row`] reads.
pub(super) const SIGNAL_COLUMNS: &str =
    "id, seq, key, type, strategy, instrument, status, reasons, received_at, received_by, finished_at";

pub(super) fn signal_row(row: &tokio_postgres::Row) -> SignalRow {
    SignalRow {
        id: row.get(0),
        seq: row.get(1),
        key: row.get(2),
        kind: row.get(3),
        strategy: row.get(4),
        instrument: row.get(5),
        status: row.get(6),
        reasons: row.get(7),
        received_at: row.get(8),
        received_by: row.get(9),
        finished_at: row.get(10),
    }
}

/// An order intent as people read it.
#[derive(Debug, Clone, Serialize)]
pub struct OrderView {
    /// Its id.
    pub id: Uuid,
    /// The strategy of its position, else of its signal.
    pub strategy: Option<String>,
    /// The signal's id.
    pub signal_id: Option<Uuid>,
    /// Which leg.
    pub leg: i32,
    /// Which try.
    pub attempt: i32,
    /// The position.
    pub position_id: Uuid,
    /// The instrument.
    pub instrument: String,
    /// Entry, exit, protective or operator.
    pub class: String,
    /// The tradable symbol.
    pub symbol: String,
    /// BUY or SELL.
    pub side: String,
    /// Units.
    pub quantity: i64,
    /// Its state.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// The broker's id.
    pub broker_order_id: Option<String>,
    /// Units filled.
    pub filled_quantity: i64,
    /// Average price of its fills.
    pub average_price: Option<Decimal>,
    /// The epoch it was journaled under.
    pub epoch: i64,
    /// When it was journaled.
    pub journaled_at: DateTime<Utc>,
    /// When its state last changed.
    pub state_at: DateTime<Utc>,
    /// MARKET, or SL for a stop that rests at the broker.
    pub price_type: String,
    /// Where a stop triggers: as it was put, or moved since.
    pub trigger_price: Option<Decimal>,
}

pub(super) const ORDER_SELECT: &str =
    "SELECT o.id, o.signal_id, o.leg, o.attempt, o.position_id, o.instrument, o.class, o.symbol,
    o.side, o.quantity, o.state, o.reason, o.broker_order_id, o.filled_quantity,
    (SELECT round(sum(f.price * f.quantity) / sum(f.quantity), 8) FROM fill f WHERE f.intent_id = o.id),
    o.epoch, o.journaled_at, o.state_at, o.price_type, nullif(greatest(o.trigger_price,
        (SELECT max(m.trigger_price) FROM order_modify m WHERE m.intent_id = o.id AND m.state IN ('acknowledged', 'applied'))), 0),
    coalesce(p.strategy, s.strategy)
    FROM order_intent o LEFT JOIN position p ON p.id = o.position_id LEFT JOIN signal s ON s.id = o.signal_id";

pub(super) fn order(row: &tokio_postgres::Row) -> OrderView {
    OrderView {
        id: row.get(0),
        signal_id: row.get(1),
        leg: row.get(2),
        attempt: row.get(3),
        position_id: row.get(4),
        instrument: row.get(5),
        class: row.get(6),
        symbol: row.get(7),
        side: row.get(8),
        quantity: row.get(9),
        state: row.get(10),
        reason: row.get(11),
        broker_order_id: row.get(12),
        filled_quantity: row.get(13),
        average_price: row.get(14),
        epoch: row.get(15),
        journaled_at: row.get(16),
        state_at: row.get(17),
        price_type: row.get(18),
        trigger_price: row.get(19),
        strategy: row.get(20),
    }
}

/// Which positions to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Open and closing ones.
    Unfinished,
    /// Closed ones, newest first.
    Closed,
}

impl Ledger {
    /// Reads one signal with its orders.
    ///
    /// # Errors
    /// Any database error.
    pub async fn signal(&self, id: SignalId) -> Result<Option<SignalView>, LedgerError> {
        let client = self.client().await?;
        let row = client
            .query_opt(&format!("SELECT {SIGNAL_COLUMNS}, decision FROM signal WHERE id = $1"), &[&id.0])
            .await
            .map_err(LedgerError::during("read a signal"))?;
        let Some(row) = row else { return Ok(None) };
        let orders = client
            .query(&format!("{ORDER_SELECT} WHERE o.signal_id = $1 ORDER BY o.leg, o.attempt"), &[&id.0])
            .await
            .map_err(LedgerError::during("read a signal's orders"))?;
        Ok(Some(SignalView {
            row: signal_row(&row),
            decision: row.get(11),
            orders: orders.iter().map(order).collect(),
        }))
    }

    /// Lists positions.
    ///
    /// # Errors
    /// Any database error, or a row that this version cannot read.
    pub async fn positions(&self, which: Which, limit: i64) -> Result<Vec<Position>, LedgerError> {
        let filter = match which {
            Which::Unfinished => "status <> 'closed' ORDER BY opened_at",
            Which::Closed => "status = 'closed' ORDER BY closed_at DESC",
        };
        let found = self
            .client()
            .await?
            .query(&format!("SELECT {POSITION_COLUMNS} FROM position WHERE {filter} LIMIT $1"), &[&limit])
            .await
            .map_err(LedgerError::during("list positions"))?;
        found.iter().map(|row| rows::position(row).map_err(LedgerError::Unreadable)).collect()
    }

    /// Reads the stored aggregates; none before the first leadership.
    ///
    /// # Errors
    /// Any database error.
    pub async fn portfolio(&self) -> Result<Option<PortfolioRow>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        super::snapshot::portfolio(&tx).await
    }

    /// Counts signals by type and status.
    ///
    /// # Errors
    /// Any database error.
    pub async fn signal_counts(&self) -> Result<Vec<(String, String, i64)>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query("SELECT type, status, count(*) FROM signal GROUP BY 1, 2 ORDER BY 1, 2", &[])
            .await
            .map_err(LedgerError::during("count signals"))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }
}
