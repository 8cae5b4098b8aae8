//! Rows to domain values, in one place, so that a column is read in one way only.

use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::cells::{Cells, UnreadableCell};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::{EntryPlan, OrderIntent};
use crate::domain::money::Quantity;
use crate::domain::order::{IntentState, OrderClass, OrderSpec, PriceType, Product, Side, UnknownName};
use crate::domain::position::{Position, PositionStatus};

pub(super) const POSITION_COLUMNS: &str = "id, instrument, label, strategy, symbol, exchange, product, status, \
    quantity, entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop, \
    take_profit, highest_close, exit_cause, realised, charges, entry_signal, entry_signal_seq, entry_bar_time, opened_at, version";

pub(super) fn position(row: &Row) -> Result<Position, Vec<UnreadableCell>> {
    let mut cells = Cells::keyed(row, "position");
    let position = Position {
        id: PositionId(cells.get("id")),
        instrument: cells.get("instrument"),
        label: cells.get("label"),
        strategy: cells.get("strategy"),
        symbol: cells.get("symbol"),
        exchange: cells.get("exchange"),
        product: cells.word("product", Product::Nrml),
        status: cells.word("status", PositionStatus::Open),
        quantity: Quantity(cells.get("quantity")),
        entry_quantity: Quantity(cells.get("entry_quantity")),
        entry_price: cells.get("entry_price"),
        lot_size: Quantity(cells.get("lot_size")),
        point_value: cells.get("point_value"),
        margin_per_lot: cells.get("margin_per_lot"),
        atr: cells.get("atr"),
        initial_stop: cells.get("initial_stop"),
        current_stop: cells.get("current_stop"),
        take_profit: cells.get("take_profit"),
        highest_close: cells.get("highest_close"),
        exit_cause: cause(&mut cells, "exit_cause"),
        realised: cells.get("realised"),
        charges: cells.get("charges"),
        entry_signal: SignalId(cells.get("entry_signal")),
        entry_signal_seq: cells.get("entry_signal_seq"),
        entry_bar_time: cells.get("entry_bar_time"),
        opened_at: cells.get("opened_at"),
        version: cells.get("version"),
    };
    cells.finish(position)
}

pub(super) const INTENT_COLUMNS: &str = "id, signal_id, leg, attempt, position_id, instrument, class, symbol, \
    exchange, side, quantity, price_type, product, price, trigger_price, plan, unwind, state, reason, \
    broker_order_id, filled_quantity, send_window_ms, order_watermark, epoch, cause, custody, incarnation, \
    trading_day";

pub(super) fn intent(row: &Row) -> Result<OrderIntent, Vec<UnreadableCell>> {
    let mut cells = Cells::keyed(row, "order_intent");
    let plan: Option<Json<EntryPlan>> = cells.get("plan");
    let intent = OrderIntent {
        id: IntentId(cells.get("id")),
        signal: cells.get::<Option<uuid::Uuid>>("signal_id").map(SignalId),
        leg: cells.get("leg"),
        attempt: cells.get("attempt"),
        position: PositionId(cells.get("position_id")),
        instrument: cells.get("instrument"),
        class: cells.word("class", OrderClass::Entry),
        cause: cause(&mut cells, "cause"),
        order: OrderSpec {
            symbol: cells.get("symbol"),
            exchange: cells.get("exchange"),
            side: cells.word("side", Side::Buy),
            quantity: Quantity(cells.get("quantity")),
            price_type: cells.word("price_type", PriceType::Market),
            product: cells.word("product", Product::Nrml),
            price: cells.get("price"),
            trigger_price: cells.get("trigger_price"),
        },
        plan: plan.map(|Json(plan)| plan),
        custody: cells.get("custody"),
        unwind: cells.get("unwind"),
        state: cells.word("state", IntentState::InDoubt),
        reason: cells.get("reason"),
        broker_order_id: cells.get("broker_order_id"),
        filled: Quantity(cells.get("filled_quantity")),
        send_window_ms: cells.get("send_window_ms"),
        watermark: cells.get("order_watermark"),
        epoch: cells.get("epoch"),
        incarnation: Some(cells.get("incarnation")),
        day: Some(cells.get("trading_day")),
    };
    cells.finish(intent)
}

/// Why something closes; a row of an older version says nothing.
fn cause(cells: &mut Cells<'_>, column: &'static str) -> Option<ExitCause> {
    let text: String = cells.get::<Option<String>>(column)?;
    text.parse().map_err(|error: UnknownName| cells.fault(column, error.to_string())).ok()
}
