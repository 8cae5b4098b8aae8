//! All open state in one consistent snapshot: what recovery rebuilds the engine from.

use std::collections::HashMap;

use ha::Fence;
use rust_decimal::Decimal;
use tokio_postgres::{IsolationLevel, Transaction};
use uuid::Uuid;

use super::change::PortfolioRow;
use super::rows::{INTENT_COLUMNS, POSITION_COLUMNS};
use super::switches::Switches;
use super::{Ledger, LedgerError, rows};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;

/// What an intent's fill rows add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FilledSoFar {
    /// Units.
    pub quantity: Quantity,
    /// Σ price · quantity, in rupees per quoted unit times units.
    pub value: Decimal,
}

/// Everything unfinished, as of one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Positions that are not closed.
    pub positions: Vec<Position>,
    /// Intents that may still change; of the last day, those that were abandoned, cancelled or rejected at the broker
    /// (they may appear or fill after all); and all intents of signals still being worked on and of closing positions.
    pub intents: Vec<OrderIntent>,
    /// For those of them that have fills, what the fill rows add up to.
    pub filled: HashMap<IntentId, FilledSoFar>,
    /// The stored aggregates; none before the first trade.
    pub portfolio: Option<PortfolioRow>,
    /// Realised profit and loss by every position ever, open ones included.
    pub realised: Rupees,
    /// The stored pyramids.
    pub pyramids: Vec<PyramidingState>,
    /// The operator's switches.
    pub switches: Switches,
    /// Broker order ids that intents of the last two days claim.
    pub claimed_orders: Vec<String>,
    /// Foreign orders at the broker: id and watermark.
    pub foreign_orders: HashMap<String, i64>,
}

impl Ledger {
    /// Reads all open state at REPEATABLE READ.
    ///
    /// # Errors
    /// Any database error, or [`LedgerError::Unreadable`] for a row that this version does not understand.
    pub async fn snapshot(&self) -> Result<Snapshot, LedgerError> {
        let mut client = self.client().await?;
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(LedgerError::during("begin the recovery snapshot"))?;
        let (positions, intents, fills, portfolio, realised, pyramids, switches, claimed, foreign) = tokio::try_join!(
            positions(&tx),
            intents(&tx),
            fills(&tx),
            portfolio(&tx),
            realised(&tx),
            pyramids(&tx),
            switches(&tx),
            claimed(&tx),
            foreign(&tx),
        )?;
        tx.commit().await.map_err(LedgerError::during("end the recovery snapshot"))?;
        Ok(Snapshot {
            positions,
            intents,
            filled: fills,
            portfolio,
            realised,
            pyramids,
            switches,
            claimed_orders: claimed,
            foreign_orders: foreign,
        })
    }

    /// A term's first act: every intent left journaled, by an older epoch or by a term of this one that ended early,
    /// is in doubt. Returns their ids.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or any database error.
    pub async fn doubt_unfinished(&self, fence: &Fence) -> Result<Vec<IntentId>, LedgerError> {
        // On the pinned session, behind any journal statement of an earlier term that was given up but still runs.
        let rows = fence
            .session()
            .query(
                "WITH l AS (SELECT 1 FROM leadership WHERE epoch = $1 FOR SHARE)
                 UPDATE order_intent SET state = 'in_doubt',
                    reason = 'journaled under epoch ' || epoch || '; that term ended before the outcome was recorded'
                 FROM l WHERE state = 'journaled' AND epoch <= $1 RETURNING id",
                &[&fence.epoch().get()],
            )
            .await
            .map_err(LedgerError::during("put unfinished intents in doubt"))?;
        Ok(rows.iter().map(|row| IntentId(row.get(0))).collect())
    }
}

async fn positions(tx: &Transaction<'_>) -> Result<Vec<Position>, LedgerError> {
    let sql =
        format!("SELECT {POSITION_COLUMNS} FROM position WHERE status <> 'closed' ORDER BY opened_at, id");
    let found = tx.query(&sql, &[]).await.map_err(LedgerError::during("fetch open positions"))?;
    found.iter().map(rows::position).collect()
}

/// Intents that the engine keeps in mind: what may still change, what the books may still unsay (see
/// `Book::forget_finished`), what a working signal's end is judged by, and what was tried to close a position.
const KEPT: &str = "(state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
    OR (journaled_at > now() - interval '1 day'
        AND (state = 'abandoned' OR (state IN ('cancelled', 'rejected') AND broker_order_id IS NOT NULL)))
    OR signal_id IN (SELECT s.id FROM signal s WHERE s.status = 'working')
    OR position_id IN (SELECT p.id FROM position p WHERE p.status = 'closing'))";

async fn intents(tx: &Transaction<'_>) -> Result<Vec<OrderIntent>, LedgerError> {
    let sql = format!("SELECT {INTENT_COLUMNS} FROM order_intent WHERE {KEPT} ORDER BY journaled_at, id");
    let found = tx.query(&sql, &[]).await.map_err(LedgerError::during("fetch open order intents"))?;
    found.iter().map(rows::intent).collect()
}

async fn fills(tx: &Transaction<'_>) -> Result<HashMap<IntentId, FilledSoFar>, LedgerError> {
    let sql = format!(
        "SELECT f.intent_id, sum(f.quantity)::bigint, sum(f.quantity * f.price) FROM fill f
         WHERE f.intent_id IN (SELECT id FROM order_intent WHERE {KEPT}) GROUP BY f.intent_id"
    );
    let found = tx.query(&sql, &[]).await.map_err(LedgerError::during("fetch fills"))?;
    let sum = |row: &tokio_postgres::Row| FilledSoFar { quantity: Quantity(row.get(1)), value: row.get(2) };
    Ok(found.iter().map(|row| (IntentId(row.get::<_, Uuid>(0)), sum(row))).collect())
}

pub(super) async fn portfolio(tx: &Transaction<'_>) -> Result<Option<PortfolioRow>, LedgerError> {
    let row = tx
        .query_opt(
            "SELECT capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used FROM portfolio_state",
            &[],
        )
        .await
        .map_err(LedgerError::during("fetch the portfolio's aggregates"))?;
    Ok(row.map(|row| PortfolioRow {
        capital: Rupees(row.get(0)),
        closed_equity: Rupees(row.get(1)),
        equity_high: Rupees(row.get(2)),
        risk: Rupees(row.get(3)),
        volatility: Rupees(row.get(4)),
        margin_used: Rupees(row.get(5)),
    }))
}

async fn realised(tx: &Transaction<'_>) -> Result<Rupees, LedgerError> {
    let row = tx
        .query_one("SELECT coalesce(sum(realised), 0) FROM position", &[])
        .await
        .map_err(LedgerError::during("sum realised profit and loss"))?;
    Ok(Rupees(row.get(0)))
}

async fn pyramids(tx: &Transaction<'_>) -> Result<Vec<PyramidingState>, LedgerError> {
    let found = tx
        .query(
            "SELECT instrument, base_position, last_pyramid_price, pyramid_count FROM pyramiding_state",
            &[],
        )
        .await
        .map_err(LedgerError::during("fetch pyramiding states"))?;
    Ok(found
        .iter()
        .map(|row| PyramidingState {
            instrument: row.get(0),
            base_position: row.get::<_, Option<Uuid>>(1).map(PositionId),
            last_pyramid_price: Price(row.get(2)),
            count: u32::try_from(row.get::<_, i32>(3)).unwrap_or(0),
        })
        .collect())
}

async fn switches(tx: &Transaction<'_>) -> Result<Switches, LedgerError> {
    let row = tx
        .query_one("SELECT halted, halt_all, reduce_only FROM leadership", &[])
        .await
        .map_err(LedgerError::during("read the switches"))?;
    Ok(Switches { halted: row.get(0), halt_all: row.get(1), reduce_only: row.get(2) })
}

async fn claimed(tx: &Transaction<'_>) -> Result<Vec<String>, LedgerError> {
    let found = tx
        .query(
            "SELECT broker_order_id FROM order_intent
             WHERE broker_order_id IS NOT NULL AND journaled_at > now() - interval '2 days'",
            &[],
        )
        .await
        .map_err(LedgerError::during("fetch claimed broker orders"))?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

async fn foreign(tx: &Transaction<'_>) -> Result<HashMap<String, i64>, LedgerError> {
    let found = tx
        .query(
            "SELECT order_id, seq FROM broker_order_seen WHERE first_seen_at > now() - interval '2 days'",
            &[],
        )
        .await
        .map_err(LedgerError::during("fetch foreign orders"))?;
    Ok(found.iter().map(|row| (row.get(0), row.get(1))).collect())
}
