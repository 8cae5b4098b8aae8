//! The single writes that a state change is made of; each within a transaction that holds the leadership row.

use deadpool_postgres::Transaction;
use ha::Fence;

use super::change::{FillRow, IntentUpdate, PortfolioRow, PyramidWrite, SignalUpdate};
use super::planned::Planned;
use super::{LedgerError, audit, cash, wishes};
use crate::domain::cause::ExitCause;
use crate::domain::money::Rupees;
use crate::domain::position::Position;

/// What a change may run, in the order in which it does.
pub(super) const STATEMENTS: [&str; 11] = [
    FILL,
    INTENT,
    OPEN_POSITION,
    POSITION,
    PORTFOLIO,
    cash::CASH,
    PYRAMID,
    NO_PYRAMID,
    SIGNAL,
    wishes::WISH,
    audit::APPEND,
];

const FILL: &str = "
INSERT INTO fill (intent_id, cumulative, quantity, price, charges) VALUES ($1, $2, $3, $4, $5)";

const INTENT: &str = "
UPDATE order_intent SET state = $2, reason = coalesce($3, reason),
    broker_order_id = coalesce($4, broker_order_id), filled_quantity = $5, unwind = unwind OR $6
    WHERE id = $1";

const OPEN_POSITION: &str = "
INSERT INTO position (id, instrument, label, strategy, symbol, exchange, product, status, quantity,
    entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop,
    highest_close, realised, entry_signal, entry_signal_seq, entry_bar_time,
    opened_at, version, take_profit, exit_cause, charges)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
    $24, $25, $26, $27)";

/// Closed by the clock that records the sale.
const POSITION: &str = "
UPDATE position SET status = $3, quantity = $4, entry_quantity = $5, entry_price = $6, current_stop = $7,
    highest_close = $8, realised = $9, closed_at = CASE WHEN $3 = 'closed' THEN now() END,
    exit_cause = coalesce($10, exit_cause), charges = $11, version = $2
    WHERE id = $1 AND version = $2::bigint - 1";

/// The capital moves with a deposit or withdrawal and no other way: what a term remembers that has not seen one is refused.
const PORTFOLIO: &str = "
INSERT INTO portfolio_state (id, capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used, charges)
    VALUES (1, $1, $2, $3, $4, $5, $6, $8)
    ON CONFLICT (id) DO UPDATE SET capital = $1, closed_equity = $2, equity_high = $3, risk_amount = $4,
    volatility_amount = $5, margin_used = $6, charges = $8, version = portfolio_state.version + 1, updated_at = now()
    WHERE $7::numeric IS NULL OR portfolio_state.capital = $1 - $7";

const PYRAMID: &str = "
INSERT INTO pyramiding_state (instrument, base_position, last_pyramid_price, pyramid_count)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (instrument) DO UPDATE SET base_position = $2, last_pyramid_price = $3,
    pyramid_count = $4, updated_at = now()";

const NO_PYRAMID: &str = "
DELETE FROM pyramiding_state WHERE instrument = $1";

const SIGNAL: &str = "
UPDATE signal SET status = $2, reasons = $3, decision = coalesce($4, decision),
    decided_epoch = coalesce(decided_epoch, $5), decided_at = coalesce(decided_at, now()),
    finished_at = CASE WHEN $2 IN ('pending', 'working') THEN NULL ELSE now() END
    WHERE id = $1";

pub(super) async fn write_fill(tx: &Transaction<'_>, fill: &FillRow) -> Result<(), LedgerError> {
    let charges = fill.charges.map(|charges| charges.0);
    tx.run(FILL, &[&fill.intent.0, &fill.cumulative.0, &fill.quantity.0, &fill.price.0, &charges])
        .await
        .map_err(LedgerError::during("record a fill"))?;
    Ok(())
}

pub(super) async fn write_intent(tx: &Transaction<'_>, update: &IntentUpdate) -> Result<(), LedgerError> {
    let changed = tx
        .run(
            INTENT,
            &[
                &update.id.0,
                &update.state.as_str(),
                &update.reason,
                &update.broker_order_id,
                &update.filled.0,
                &update.unwind,
            ],
        )
        .await
        .map_err(LedgerError::during("update an order intent"))?;
    one_row(changed, || format!("order intent {}", update.id))
}

pub(super) async fn open_position(tx: &Transaction<'_>, p: &Position) -> Result<(), LedgerError> {
    tx.run(
        OPEN_POSITION,
        &[
            &p.id.0,
            &p.instrument,
            &p.label,
            &p.strategy,
            &p.symbol,
            &p.exchange,
            &p.product.as_str(),
            &p.status.as_str(),
            &p.quantity.0,
            &p.entry_quantity.0,
            &p.entry_price.0,
            &p.lot_size.0,
            &p.point_value.0,
            &p.margin_per_lot.0,
            &p.atr.0,
            &p.initial_stop.0,
            &p.current_stop.0,
            &p.highest_close.0,
            &p.realised.0,
            &p.entry_signal.0,
            &p.entry_signal_seq,
            &p.entry_bar_time,
            &p.opened_at,
            &p.version,
            &p.take_profit.map(|price| price.0),
            &p.exit_cause.map(ExitCause::as_str),
            &p.charges.0,
        ],
    )
    .await
    .map_err(LedgerError::during("open a position"))?;
    Ok(())
}

pub(super) async fn update_position(tx: &Transaction<'_>, p: &Position) -> Result<(), LedgerError> {
    let changed = tx
        .run(
            POSITION,
            &[
                &p.id.0,
                &p.version,
                &p.status.as_str(),
                &p.quantity.0,
                &p.entry_quantity.0,
                &p.entry_price.0,
                &p.current_stop.0,
                &p.highest_close.0,
                &p.realised.0,
                &p.exit_cause.map(ExitCause::as_str),
                &p.charges.0,
            ],
        )
        .await
        .map_err(LedgerError::during("update a position"))?;
    one_row(changed, || format!("position {}", p.id))
}

/// Writes the aggregates over those whose capital is `moved` less; over any for a repair, which gives none.
pub(super) async fn write_portfolio(
    tx: &Transaction<'_>,
    row: &PortfolioRow,
    moved: Option<Rupees>,
) -> Result<(), LedgerError> {
    let changed = tx
        .run(
            PORTFOLIO,
            &[
                &row.capital.0,
                &row.closed_equity.0,
                &row.equity_high.0,
                &row.risk.0,
                &row.volatility.0,
                &row.margin_used.0,
                &moved.map(|moved| moved.0),
                &row.charges.0,
            ],
        )
        .await
        .map_err(LedgerError::during("write the portfolio's aggregates"))?;
    one_row(changed, || "the capital".to_owned())
}

pub(super) async fn write_pyramid(tx: &Transaction<'_>, write: &PyramidWrite) -> Result<(), LedgerError> {
    let during = LedgerError::during("write a pyramiding state");
    match write {
        PyramidWrite::Set(state) => tx
            .run(
                PYRAMID,
                &[
                    &state.instrument,
                    &state.base_position.map(|id| id.0),
                    &state.last_pyramid_price.0,
                    &i32::try_from(state.count).unwrap_or(i32::MAX),
                ],
            )
            .await
            .map_err(during)?,
        PyramidWrite::Clear(instrument) => tx.run(NO_PYRAMID, &[instrument]).await.map_err(during)?,
    };
    Ok(())
}

pub(super) async fn write_signal(
    tx: &Transaction<'_>,
    update: &SignalUpdate,
    fence: &Fence,
) -> Result<(), LedgerError> {
    let changed = tx
        .run(
            SIGNAL,
            &[&update.id.0, &update.status.as_str(), &update.reasons, &update.decision, &fence.epoch().get()],
        )
        .await
        .map_err(LedgerError::during("update a signal"))?;
    one_row(changed, || format!("signal {}", update.id))
}

pub(super) fn one_row(changed: u64, what: impl Fn() -> String) -> Result<(), LedgerError> {
    if changed == 1 { Ok(()) } else { Err(LedgerError::Conflict { what: what() }) }
}
