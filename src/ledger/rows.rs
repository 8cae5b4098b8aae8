//! Rows to domain values, in one place, so that a column is read in one way only.

use rust_decimal::Decimal;
use tokio_postgres::Row;

use super::LedgerError;
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderSpec, UnknownName};
use crate::domain::position::Position;

pub(super) const POSITION_COLUMNS: &str = "id, instrument, label, strategy, symbol, exchange, product, status, \
    quantity, entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop, \
    highest_close, realised, entry_signal, entry_signal_seq, entry_bar_time, opened_at, version, take_profit, \
    exit_cause";

pub(super) fn position(row: &Row) -> Result<Position, LedgerError> {
    let id = PositionId(row.get("id"));
    let unreadable = LedgerError::unreadable("position", id);
    Ok(Position {
        id,
        instrument: row.get("instrument"),
        label: row.get("label"),
        strategy: row.get("strategy"),
        symbol: row.get("symbol"),
        exchange: row.get("exchange"),
        product: text(row, "product").parse().map_err(&unreadable)?,
        status: text(row, "status").parse().map_err(&unreadable)?,
        quantity: Quantity(row.get("quantity")),
        entry_quantity: Quantity(row.get("entry_quantity")),
        entry_price: Price(row.get("entry_price")),
        lot_size: Quantity(row.get("lot_size")),
        point_value: Rupees(row.get("point_value")),
        margin_per_lot: Rupees(row.get("margin_per_lot")),
        atr: Price(row.get("atr")),
        initial_stop: Price(row.get("initial_stop")),
        current_stop: Price(row.get("current_stop")),
        take_profit: row.get::<_, Option<Decimal>>("take_profit").map(Price),
        highest_close: Price(row.get("highest_close")),
        exit_cause: cause(row, "exit_cause").map_err(&unreadable)?,
        realised: Rupees(row.get("realised")),
        entry_signal: SignalId(row.get("entry_signal")),
        entry_signal_seq: row.get("entry_signal_seq"),
        entry_bar_time: row.get("entry_bar_time"),
        opened_at: row.get("opened_at"),
        version: row.get("version"),
    })
}

pub(super) const INTENT_COLUMNS: &str = "id, signal_id, leg, attempt, position_id, instrument, class, symbol, \
    exchange, side, quantity, price_type, product, price, trigger_price, plan, unwind, state, reason, \
    broker_order_id, filled_quantity, send_window_ms, order_watermark, epoch, cause";

pub(super) fn intent(row: &Row) -> Result<OrderIntent, LedgerError> {
    let id = IntentId(row.get("id"));
    let unreadable = LedgerError::unreadable("order_intent", id);
    let plan: Option<serde_json::Value> = row.get("plan");
    let plan = plan.map(serde_json::from_value).transpose().map_err(|source| LedgerError::Unreadable {
        table: "order_intent",
        row: id.to_string(),
        source: Box::new(source),
    })?;
    Ok(OrderIntent {
        id,
        signal: row.get::<_, Option<uuid::Uuid>>("signal_id").map(SignalId),
        leg: row.get("leg"),
        attempt: row.get("attempt"),
        position: PositionId(row.get("position_id")),
        instrument: row.get("instrument"),
        class: text(row, "class").parse().map_err(&unreadable)?,
        cause: cause(row, "cause").map_err(&unreadable)?,
        order: OrderSpec {
            symbol: row.get("symbol"),
            exchange: row.get("exchange"),
            side: text(row, "side").parse().map_err(&unreadable)?,
            quantity: Quantity(row.get("quantity")),
            price_type: text(row, "price_type").parse().map_err(&unreadable)?,
            product: text(row, "product").parse().map_err(&unreadable)?,
            price: Price(row.get("price")),
            trigger_price: Price(row.get("trigger_price")),
        },
        plan,
        unwind: row.get("unwind"),
        state: text(row, "state").parse().map_err(&unreadable)?,
        reason: row.get("reason"),
        broker_order_id: row.get("broker_order_id"),
        filled: Quantity(row.get("filled_quantity")),
        send_window_ms: row.get("send_window_ms"),
        watermark: row.get("order_watermark"),
        epoch: row.get("epoch"),
    })
}

/// Why something closes; a row of an older version says nothing.
fn cause(row: &Row, column: &str) -> Result<Option<ExitCause>, UnknownName> {
    row.get::<_, Option<String>>(column).map(|text| text.parse()).transpose()
}

pub(super) fn text(row: &Row, column: &str) -> String {
    row.get(column)
}
