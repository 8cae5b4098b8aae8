//! The reads that make the engine's memory.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Faults, FilledSoFar, each, each_of};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;
use crate::ledger::LedgerError;
use crate::ledger::cells::{Cells, UnreadableCell};
use crate::ledger::change::PortfolioRow;
use crate::ledger::rows::{self, INTENT_COLUMNS, POSITION_COLUMNS};
use crate::ledger::switches::Switches;
use crate::ledger::wishes::Wish;

/// What the engine's memory is made of; the fields are those of the [`Snapshot`](super::Snapshot), but what closed positions
/// realised.
pub(super) struct State {
    pub positions: Vec<Position>,
    pub intents: Vec<OrderIntent>,
    pub filled: HashMap<IntentId, FilledSoFar>,
    pub portfolio: Option<PortfolioRow>,
    pub moved: Option<Rupees>,
    pub closed: Closed,
    pub pyramids: Vec<PyramidingState>,
    pub switches: Switches,
    pub claimed_orders: Vec<String>,
    pub foreign_orders: HashMap<String, i64>,
    pub wishes: Vec<Wish>,
}

impl State {
    /// All of them to their end: the first error tells which table it was, those after it only that the transaction
    /// is broken.
    pub async fn read(tx: &Transaction<'_>, faults: &Faults) -> Result<Self, LedgerError> {
        let (
            positions,
            intents,
            portfolio,
            moved,
            closed,
            pyramids,
            switches,
            claimed_orders,
            foreign_orders,
            wishes,
        ) = tokio::join!(
            positions(tx, faults),
            intents_with_fills(tx, faults),
            stored_portfolio(tx, faults),
            moved(tx, faults),
            closed(tx, faults),
            pyramids(tx, faults),
            switches(tx, faults),
            claimed(tx, faults),
            foreign(tx, faults),
            wishes(tx, faults),
        );
        let (intents, filled) = intents?;
        Ok(Self {
            positions: positions?,
            intents,
            filled: filled.into_iter().collect(),
            portfolio: portfolio?,
            moved: moved?,
            closed: closed?,
            pyramids: pyramids?,
            switches: switches?,
            claimed_orders: claimed_orders?,
            foreign_orders: foreign_orders?.into_iter().collect(),
            wishes: wishes?,
        })
    }
}

pub(super) async fn positions(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Position>, LedgerError> {
    let sql = format!("SELECT {POSITION_COLUMNS} FROM position WHERE status <> 'closed'");
    let mut positions = each(tx, &sql, "fetch open positions", faults, rows::position).await?;
    // Keys are sorted in place of positions, which are large to move about.
    positions.sort_by_cached_key(|position| (position.opened_at, position.id));
    Ok(positions)
}

/// Intents that the engine keeps in mind: what may still change, what the books may still unsay (see
/// `Book::forget_finished`), what a working signal's end is judged by, and what was tried to close a position; and with an
/// entry's order all others of the entry.
///
/// Each part has an index of its own: a ledger holds years of orders, of which these are few.
const KEPT: &str = "
    WITH kept AS (
        SELECT id, class, position_id FROM order_intent
            WHERE state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
        UNION SELECT id, class, position_id FROM order_intent WHERE journaled_at > now() - interval '1 day'
            AND state IN ('abandoned', 'cancelled', 'rejected') AND (state = 'abandoned' OR broker_order_id IS NOT NULL)
        UNION SELECT o.id, o.class, o.position_id FROM signal s JOIN order_intent o ON o.signal_id = s.id
            WHERE s.status = 'working'
        UNION SELECT o.id, o.class, o.position_id FROM position p JOIN order_intent o ON o.position_id = p.id
            WHERE p.status = 'closing'
    )
    SELECT id FROM kept
    UNION SELECT o.id FROM kept k CROSS JOIN LATERAL (
        SELECT id FROM order_intent WHERE position_id = k.position_id AND class = 'entry' OFFSET 0
    ) o WHERE k.class = 'entry'";

pub(super) async fn intents(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<OrderIntent>, LedgerError> {
    let sql =
        format!("SELECT {INTENT_COLUMNS} FROM order_intent WHERE id IN ({KEPT}) ORDER BY journaled_at, id");
    each(tx, &sql, "fetch open order intents", faults, rows::intent).await
}

/// What the fills of `intents` add up to.
pub(super) async fn fills(
    tx: &Transaction<'_>,
    intents: &[OrderIntent],
    faults: &Faults,
) -> Result<Vec<(IntentId, FilledSoFar)>, LedgerError> {
    let sql = "SELECT f.intent_id, sum(f.quantity)::bigint AS quantity, sum(f.quantity * f.price) AS price,
            coalesce(sum(f.charges), 0) AS charges FROM fill f WHERE f.intent_id = ANY($1) GROUP BY f.intent_id";
    let ids: Vec<Uuid> = intents.iter().map(|intent| intent.id.0).collect();
    each_of(tx, sql, &[&ids], "fetch fills", faults, |row| {
        let mut cells = Cells::keyed(row, "fill");
        let id = IntentId(cells.get("intent_id"));
        let sum = FilledSoFar {
            quantity: Quantity(cells.get("quantity")),
            value: cells.get("price"),
            charges: cells.get("charges"),
        };
        cells.finish((id, sum))
    })
    .await
}

/// Intents, and what the fills of each add up to.
type WithFills = (Vec<OrderIntent>, Vec<(IntentId, FilledSoFar)>);

async fn intents_with_fills(tx: &Transaction<'_>, faults: &Faults) -> Result<WithFills, LedgerError> {
    let intents = intents(tx, faults).await?;
    let filled = fills(tx, &intents, faults).await?;
    Ok((intents, filled))
}

const PORTFOLIO: &str =
    "SELECT capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used, charges
    FROM portfolio_state";

fn portfolio_row(row: &Row) -> Result<PortfolioRow, Vec<UnreadableCell>> {
    let mut cells = Cells::new(row, "portfolio_state", 1);
    let portfolio = PortfolioRow {
        capital: cells.get("capital"),
        closed_equity: cells.get("closed_equity"),
        equity_high: cells.get("equity_high"),
        risk: cells.get("risk_amount"),
        volatility: cells.get("volatility_amount"),
        margin_used: cells.get("margin_used"),
        charges: cells.get("charges"),
    };
    cells.finish(portfolio)
}

pub(super) async fn stored_portfolio(
    tx: &Transaction<'_>,
    faults: &Faults,
) -> Result<Option<PortfolioRow>, LedgerError> {
    let rows = each(tx, PORTFOLIO, "fetch the portfolio's aggregates", faults, portfolio_row).await?;
    Ok(rows.into_iter().next())
}

/// The stored aggregates, for people.
pub(in crate::ledger) async fn portfolio(tx: &Transaction<'_>) -> Result<Option<PortfolioRow>, LedgerError> {
    let faults = Faults::default();
    let row = stored_portfolio(tx, &faults).await;
    if let Some(cause) = faults.cause() {
        return Err(cause);
    }
    faults.none()?;
    row
}

/// What the account was opened with, and all that was paid in and out since.
pub(super) async fn moved(tx: &Transaction<'_>, faults: &Faults) -> Result<Option<Rupees>, LedgerError> {
    let sums = each(
        tx,
        "SELECT sum(amount) AS amount FROM cash_movement",
        "sum deposits and withdrawals",
        faults,
        |row| {
            let mut cells = Cells::new(row, "cash_movement", "(all)");
            let sum: Option<Rupees> = cells.get("amount");
            cells.finish(sum)
        },
    )
    .await?;
    Ok(sums.into_iter().flatten().next())
}

/// What closed positions add up to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Closed {
    /// What they realised.
    pub realised: Rupees,
    /// What they were charged.
    pub charges: Rupees,
}

/// Adds closed positions up; the open ones are read anyway.
pub(super) async fn closed(tx: &Transaction<'_>, faults: &Faults) -> Result<Closed, LedgerError> {
    let sql =
        "SELECT coalesce(sum(realised), 0) AS realised, coalesce(sum(charges), 0) AS charges FROM position
        WHERE status = 'closed'";
    let sums = each(tx, sql, "sum realised profit and loss", faults, |row| {
        let mut cells = Cells::new(row, "position", "(all)");
        let sums = Closed { realised: cells.get("realised"), charges: cells.get("charges") };
        cells.finish(sums)
    })
    .await?;
    Ok(sums.into_iter().next().unwrap_or_default())
}

pub(super) async fn pyramids(
    tx: &Transaction<'_>,
    faults: &Faults,
) -> Result<Vec<PyramidingState>, LedgerError> {
    let sql = "SELECT instrument, base_position, last_pyramid_price, pyramid_count FROM pyramiding_state";
    let mut states = each(tx, sql, "fetch pyramiding states", faults, |row| {
        let key: String = row.try_get(0).unwrap_or_else(|_| "?".to_owned());
        let mut cells = Cells::new(row, "pyramiding_state", key);
        let count: i32 = cells.get("pyramid_count");
        let state = PyramidingState {
            instrument: cells.get("instrument"),
            base_position: cells.get::<Option<Uuid>>("base_position").map(PositionId),
            last_pyramid_price: cells.get("last_pyramid_price"),
            count: u32::try_from(count).unwrap_or_else(|_| {
                cells.fault("pyramid_count", format!("{count} is below zero"));
                0
            }),
        };
        cells.finish(state)
    })
    .await?;
    states.sort_unstable_by(|a: &PyramidingState, b| a.instrument.cmp(&b.instrument));
    Ok(states)
}

pub(super) async fn switches(tx: &Transaction<'_>, faults: &Faults) -> Result<Switches, LedgerError> {
    let sql = "SELECT halted, halt_all, reduce_only FROM leadership";
    let rows = each(tx, sql, "read the switches", faults, |row| {
        let mut cells = Cells::new(row, "leadership", 1);
        let switches = Switches {
            halted: cells.get("halted"),
            halt_all: cells.get("halt_all"),
            reduce_only: cells.get("reduce_only"),
        };
        cells.finish(switches)
    })
    .await?;
    // Without its row nobody leads and nothing can be journaled.
    Ok(rows.into_iter().next().unwrap_or(Switches { halted: true, halt_all: true, reduce_only: true }))
}

/// As one value: thousands of short rows take as long to send and to take apart as the positions.
pub(super) async fn claimed(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<String>, LedgerError> {
    let sql = "SELECT array(SELECT broker_order_id FROM order_intent
            WHERE broker_order_id IS NOT NULL AND journaled_at > now() - interval '2 days')
        || array(SELECT order_id FROM broker_order_seen WHERE booked_at > now() - interval '2 days') AS claimed";
    let claimed = each(tx, sql, "fetch claimed broker orders", faults, |row| {
        let mut cells = Cells::new(row, "order_intent", "(all)");
        let claimed: Vec<String> = cells.get("claimed");
        cells.finish(claimed)
    })
    .await?;
    Ok(claimed.into_iter().flatten().collect())
}

pub(super) async fn foreign(
    tx: &Transaction<'_>,
    faults: &Faults,
) -> Result<Vec<(String, i64)>, LedgerError> {
    let sql = "SELECT order_id, seq FROM broker_order_seen
        WHERE first_seen_at > now() - interval '2 days' AND booked_at IS NULL";
    each(tx, sql, "fetch foreign orders", faults, |row| {
        let key: String = row.try_get(0).unwrap_or_else(|_| "?".to_owned());
        let mut cells = Cells::new(row, "broker_order_seen", key);
        let seen = (cells.get("order_id"), cells.get("seq"));
        cells.finish(seen)
    })
    .await
}

pub(super) async fn wishes(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Wish>, LedgerError> {
    let sql = "SELECT id, close_by, close_why FROM position WHERE status <> 'closed' AND close_at IS NOT NULL ORDER BY id";
    each(tx, sql, "fetch what operators want closed", faults, |row| {
        let mut cells = Cells::keyed(row, "position");
        let wish = Wish {
            position: PositionId(cells.get("id")),
            by: cells.get("close_by"),
            why: cells.get("close_why"),
        };
        cells.finish(wish)
    })
    .await
}
