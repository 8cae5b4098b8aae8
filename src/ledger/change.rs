//! One state change, one transaction: an outcome, its fills, the position, the aggregates and the signal together.

use chrono::Utc;
use deadpool_postgres::Transaction;
use ha::Fence;
use serde_json::Value;

use super::inbox::SignalStatus;
use super::planned::Planned;
use super::wishes::{self, Wish};
use super::{Ledger, LedgerError, audit};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::IntentState;
use crate::domain::position::{Position, PositionStatus};
use crate::domain::pyramiding::PyramidingState;

/// What became of an intent.
#[derive(Clone, Debug, PartialEq)]
pub struct IntentUpdate {
    /// Which intent.
    pub id: IntentId,
    /// Its new state.
    pub state: IntentState,
    /// Why, when that needs saying.
    pub reason: Option<String>,
    /// The broker's id, once known.
    pub broker_order_id: Option<String>,
    /// Units filled in all.
    pub filled: Quantity,
    /// A late fill is to be closed at once.
    pub unwind: bool,
}

/// One execution, keyed by the order's cumulative quantity after it.
#[derive(Clone, Debug, PartialEq)]
pub struct FillRow {
    /// Whose fill.
    pub intent: IntentId,
    /// The order's filled quantity after this fill.
    pub cumulative: Quantity,
    /// This fill's units.
    pub quantity: Quantity,
    /// Its price.
    pub price: Price,
}

/// A signal's end, or its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalUpdate {
    /// Which signal.
    pub id: SignalId,
    /// Its new status.
    pub status: SignalStatus,
    /// `{code, sentence}` objects.
    pub reasons: Value,
    /// Sizing and gates, when there was a decision.
    pub decision: Option<Value>,
}

/// The portfolio's aggregates as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct PortfolioRow {
    /// The configured capital, plus deposits.
    pub capital: Rupees,
    /// Capital plus realised profit and loss.
    pub closed_equity: Rupees,
    /// High-water mark of closed equity.
    pub equity_high: Rupees,
    /// Σ position risk.
    pub risk: Rupees,
    /// Σ position volatility.
    pub volatility: Rupees,
    /// Σ position margin.
    pub margin_used: Rupees,
}

/// Where the pyramid of an instrument stands.
#[derive(Clone, Debug, PartialEq)]
pub enum PyramidWrite {
    /// Its state now.
    Set(PyramidingState),
    /// Nothing is held on this instrument any more.
    Clear(String),
}

/// Everything one state change writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Intents that moved.
    pub intents: Vec<IntentUpdate>,
    /// New executions.
    pub fills: Vec<FillRow>,
    /// Positions that came to be.
    pub opened: Vec<Position>,
    /// Positions that changed; each carries its new version, one above the stored one.
    pub positions: Vec<Position>,
    /// The aggregates after the change.
    pub portfolio: Option<PortfolioRow>,
    /// Pyramids that moved.
    pub pyramids: Vec<PyramidWrite>,
    /// Signals that ended or were explained.
    pub signals: Vec<SignalUpdate>,
    /// Positions that an operator wants closed.
    pub wishes: Vec<Wish>,
}

impl Change {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Ledger {
    /// Writes a change in one transaction, under the leadership row's lock.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] when the epoch no longer leads, [`LedgerError::Conflict`] when a position was
    /// changed by someone else; in both cases and on any refusal nothing was written. A lost connection during
    /// the commit leaves it unknown; repeating the change is then a conflict or a no-op, never a double.
    pub async fn commit(&self, fence: &Fence, change: &Change) -> Result<(), LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        lock_leadership(&tx, fence).await?;
        for fill in &change.fills {
            write_fill(&tx, fill).await?;
        }
        for intent in &change.intents {
            write_intent(&tx, intent).await?;
        }
        for position in &change.opened {
            open_position(&tx, position).await?;
        }
        for position in &change.positions {
            update_position(&tx, position).await?;
        }
        if let Some(portfolio) = &change.portfolio {
            write_portfolio(&tx, portfolio).await?;
        }
        for pyramid in &change.pyramids {
            write_pyramid(&tx, pyramid).await?;
        }
        for signal in &change.signals {
            write_signal(&tx, signal, fence).await?;
        }
        for wish in &change.wishes {
            wishes::write(&tx, wish).await?;
        }
        if let Some(told) = audit::of_change(change, fence.epoch().get()) {
            audit::append(&tx, "change", fence.instance().member.as_str(), &told).await?;
        }
        tx.commit().await.map_err(LedgerError::during("commit a state change"))
    }

    /// Remembers orders at the broker that no intent explains; returns the newest watermark.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub async fn remember_foreign_orders(
        &self,
        fence: &Fence,
        order_ids: &[String],
    ) -> Result<i64, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(LedgerError::during("begin a transaction"))?;
        lock_leadership(&tx, fence).await?;
        tx.run(
            "INSERT INTO broker_order_seen (order_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            &[&order_ids],
        )
        .await
        .map_err(LedgerError::during("remember foreign orders"))?;
        let row = tx
            .row("SELECT coalesce(max(seq), 0) FROM broker_order_seen", &[])
            .await
            .map_err(LedgerError::during("read the order watermark"))?;
        tx.commit().await.map_err(LedgerError::during("commit foreign orders"))?;
        Ok(row.get(0))
    }
}

/// Takes the row lock that a takeover waits for, and proves that the epoch still leads, through the session that this
/// term began with: after a repair, or a resumption, what an older term remembers is not written any more.
pub(super) async fn lock_leadership(tx: &Transaction<'_>, fence: &Fence) -> Result<(), LedgerError> {
    let row = tx
        .maybe_row(
            "SELECT backend_pid IS NOT DISTINCT FROM $3 FROM leadership
             WHERE epoch = $1 AND holder_incarnation = $2 FOR SHARE",
            &[&fence.epoch().get(), &fence.instance().incarnation.as_uuid(), &fence.backend_pid()],
        )
        .await
        .map_err(LedgerError::during("lock the leadership row"))?;
    let Some(row) = row else {
        fence.report_fenced("a state change found another epoch or holder in the leadership row");
        return Err(LedgerError::Fenced(fence.epoch()));
    };
    match row.get(0) {
        true => Ok(()),
        false => {
            Err(LedgerError::Conflict { what: "stored state, by a repair or a later term: it".to_owned() })
        }
    }
}

pub(super) async fn write_fill(tx: &Transaction<'_>, fill: &FillRow) -> Result<(), LedgerError> {
    tx.run(
        "INSERT INTO fill (intent_id, cumulative, quantity, price) VALUES ($1, $2, $3, $4)",
        &[&fill.intent.0, &fill.cumulative.0, &fill.quantity.0, &fill.price.0],
    )
    .await
    .map_err(LedgerError::during("record a fill"))?;
    Ok(())
}

async fn write_intent(tx: &Transaction<'_>, update: &IntentUpdate) -> Result<(), LedgerError> {
    let changed = tx
        .run(
            "UPDATE order_intent SET state = $2, reason = coalesce($3, reason),
                broker_order_id = coalesce($4, broker_order_id), filled_quantity = $5, unwind = unwind OR $6
             WHERE id = $1",
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
        "INSERT INTO position (id, instrument, label, strategy, symbol, exchange, product, status, quantity,
            entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop,
            highest_close, realised, entry_signal, entry_signal_seq, entry_bar_time,
            opened_at, version, take_profit, exit_cause)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
            $24, $25, $26)",
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
        ],
    )
    .await
    .map_err(LedgerError::during("open a position"))?;
    Ok(())
}

pub(super) async fn update_position(tx: &Transaction<'_>, p: &Position) -> Result<(), LedgerError> {
    let closed_at = (p.status == PositionStatus::Closed).then(Utc::now);
    let changed = tx
        .run(
            "UPDATE position SET status = $3, quantity = $4, entry_quantity = $5, entry_price = $6, current_stop = $7,
                highest_close = $8, realised = $9, closed_at = $10, exit_cause = coalesce($11, exit_cause), version = $2
             WHERE id = $1 AND version = $2::bigint - 1",
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
                &closed_at,
                &p.exit_cause.map(ExitCause::as_str),
            ],
        )
        .await
        .map_err(LedgerError::during("update a position"))?;
    one_row(changed, || format!("position {}", p.id))
}

pub(super) async fn write_portfolio(tx: &Transaction<'_>, row: &PortfolioRow) -> Result<(), LedgerError> {
    tx.run(
        "INSERT INTO portfolio_state (id, capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used)
         VALUES (1, $1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET capital = $1, closed_equity = $2, equity_high = $3, risk_amount = $4,
            volatility_amount = $5, margin_used = $6, version = portfolio_state.version + 1, updated_at = now()",
        &[
            &row.capital.0,
            &row.closed_equity.0,
            &row.equity_high.0,
            &row.risk.0,
            &row.volatility.0,
            &row.margin_used.0,
        ],
    )
    .await
    .map_err(LedgerError::during("write the portfolio's aggregates"))?;
    Ok(())
}

pub(super) async fn write_pyramid(tx: &Transaction<'_>, write: &PyramidWrite) -> Result<(), LedgerError> {
    let during = LedgerError::during("write a pyramiding state");
    match write {
        PyramidWrite::Set(state) => tx
            .run(
                "INSERT INTO pyramiding_state (instrument, base_position, last_pyramid_price, pyramid_count)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (instrument) DO UPDATE SET base_position = $2, last_pyramid_price = $3,
                    pyramid_count = $4, updated_at = now()",
                &[
                    &state.instrument,
                    &state.base_position.map(|id| id.0),
                    &state.last_pyramid_price.0,
                    &i32::try_from(state.count).unwrap_or(i32::MAX),
                ],
            )
            .await
            .map_err(during)?,
        PyramidWrite::Clear(instrument) => tx
            .run("DELETE FROM pyramiding_state WHERE instrument = $1", &[instrument])
            .await
            .map_err(during)?,
    };
    Ok(())
}

async fn write_signal(tx: &Transaction<'_>, update: &SignalUpdate, fence: &Fence) -> Result<(), LedgerError> {
    let changed = tx
        .run(
            "UPDATE signal SET status = $2, reasons = $3, decision = coalesce($4, decision),
                decided_epoch = coalesce(decided_epoch, $5), decided_at = coalesce(decided_at, now()),
                finished_at = CASE WHEN $2 IN ('pending', 'working') THEN NULL ELSE now() END
             WHERE id = $1",
            &[&update.id.0, &update.status.as_str(), &update.reasons, &update.decision, &fence.epoch().get()],
        )
        .await
        .map_err(LedgerError::during("update a signal"))?;
    one_row(changed, || format!("signal {}", update.id))
}

fn one_row(changed: u64, what: impl Fn() -> String) -> Result<(), LedgerError> {
    if changed == 1 { Ok(()) } else { Err(LedgerError::Conflict { what: what() }) }
}
