//! What became of positions that are being closed: read back from the ledger, which holds evidence only.

use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::{Ledger, LedgerError};
use crate::domain::ids::{IntentId, PositionId};

/// How far a close is, by the evidence; from the best to the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is held any more.
    Filled,
    /// The broker has the order; it is not filled, or not wholly.
    Submitted,
    /// No order was sent yet, or the next part of a sale that is more than one order takes.
    Pending,
    /// The broker refused the last order; another follows until it is flat.
    Refused,
    /// What became of the order is not known; nothing more is sent before it is.
    InDoubt,
}

/// One position on its way out.
#[derive(Clone, Debug, Serialize)]
pub struct ExitView {
    /// The position.
    pub position: Uuid,
    /// Its tradable symbol.
    pub symbol: String,
    /// Its configured instrument.
    pub instrument: String,
    /// Its label.
    pub label: String,
    /// How far it is.
    pub outcome: Outcome,
    /// Units still held.
    pub held: i64,
    /// Units sold by exits so far.
    pub sold: i64,
    /// Their average price.
    pub average_price: Option<Decimal>,
    /// The last order's intent.
    pub intent: Option<Uuid>,
    /// Its class.
    pub class: Option<String>,
    /// The broker's id of it.
    pub broker_order_id: Option<String>,
    /// Why it is where it is.
    pub reason: Option<String>,
}

impl Ledger {
    /// Reads how far the exits of some positions are.
    ///
    /// # Errors
    /// Any database error.
    pub async fn exits_of(&self, positions: &[PositionId]) -> Result<Vec<ExitView>, LedgerError> {
        let ids: Vec<Uuid> = positions.iter().map(|id| id.0).collect();
        let rows = self
            .client()
            .await?
            .query(
                "SELECT p.id, p.symbol, p.instrument, p.label, p.quantity, coalesce(f.sold, 0)::bigint, f.price,
                    o.id, o.class, o.state, o.broker_order_id, o.reason
                 FROM position p
                 LEFT JOIN LATERAL (
                    SELECT * FROM order_intent o WHERE o.position_id = p.id AND o.class <> 'entry'
                      AND o.price_type NOT IN ('SL', 'SL-M')
                    ORDER BY o.journaled_at DESC, o.id DESC LIMIT 1) o ON true
                 LEFT JOIN LATERAL (
                    SELECT sum(f.quantity) AS sold, round(sum(f.price * f.quantity) / sum(f.quantity), 8) AS price
                    FROM fill f JOIN order_intent x ON x.id = f.intent_id
                    WHERE x.position_id = p.id AND x.class <> 'entry') f ON true
                 WHERE p.id = ANY ($1) ORDER BY p.opened_at, p.id",
                &[&ids],
            )
            .await
            .map_err(LedgerError::during("read exits"))?;
        Ok(rows.iter().map(view).collect())
    }
}

impl Ledger {
    /// Reads how far a custodian's sales are; each is of no position.
    ///
    /// # Errors
    /// Any database error.
    pub async fn sales_beside(&self, orders: &[IntentId]) -> Result<Vec<ExitView>, LedgerError> {
        let ids: Vec<Uuid> = orders.iter().map(|id| id.0).collect();
        let rows = self
            .client()
            .await?
            .query(
                "SELECT o.position_id, o.symbol, o.instrument, '-', o.quantity - o.filled_quantity, o.filled_quantity,
                    (SELECT round(sum(f.price * f.quantity) / sum(f.quantity), 8) FROM fill f WHERE f.intent_id = o.id),
                    o.id, o.class, o.state, o.broker_order_id, o.reason
                 FROM order_intent o WHERE o.id = ANY ($1) ORDER BY o.journaled_at, o.id",
                &[&ids],
            )
            .await
            .map_err(LedgerError::during("read a custodian's sales"))?;
        Ok(rows.iter().map(view).collect())
    }
}

fn view(row: &tokio_postgres::Row) -> ExitView {
    let held: i64 = row.get(4);
    let state: Option<String> = row.get(9);
    let outcome = match state.as_deref() {
        _ if held == 0 => Outcome::Filled,
        None | Some("filled") => Outcome::Pending,
        Some("journaled" | "acknowledged" | "partially_filled") => Outcome::Submitted,
        Some("in_doubt") => Outcome::InDoubt,
        Some(_) => Outcome::Refused,
    };
    ExitView {
        position: row.get(0),
        symbol: row.get(1),
        instrument: row.get(2),
        label: row.get(3),
        outcome,
        held,
        sold: row.get(5),
        average_price: row.get(6),
        intent: row.get(7),
        class: row.get(8),
        broker_order_id: row.get(10),
        reason: row.get(11),
    }
}
