//! The orders that this agent makes, each as the intent that the ledger is to take.

use super::book::Book;
use super::decide::{Rules, freeze_of};
use crate::domain::cause::ExitCause;
use crate::domain::execution::Bidding;
use crate::domain::freeze::slice;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::instrument::Instrument;
use crate::domain::intent::{EntryPlan, OrderIntent};
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{IntentState, OrderClass, OrderSpec, PriceType, Side};
use crate::domain::position::{HoldingKey, Position};
use crate::domain::resting::{Level, stop_order};

/// A purchase of `quantity` units, at the market or at its first bid.
pub(super) fn entry_order(
    rules: &Rules,
    book: &Book,
    instrument: &Instrument,
    quantity: Quantity,
    bidding: Option<&Bidding>,
) -> OrderIntent {
    let bid = bidding.and_then(Bidding::first);
    let order = OrderSpec {
        symbol: instrument.symbol.clone(),
        exchange: instrument.exchange.clone(),
        side: Side::Buy,
        quantity,
        price_type: if bid.is_some() { PriceType::Limit } else { PriceType::Market },
        product: instrument.product,
        price: bid.unwrap_or(Price::ZERO),
        trigger_price: Price::ZERO,
    };
    intent(rules, book, OrderClass::Entry, PositionId::new(), &instrument.name, order)
}

/// One more order of an entry whose last one has ended: `units` of it, as `bidding` says.
pub fn rest_order(
    rules: &Rules,
    book: &Book,
    last: &OrderIntent,
    units: Quantity,
    bidding: Bidding,
) -> OrderIntent {
    let price = bidding.first().unwrap_or(last.order.price);
    let order = OrderSpec { quantity: units, price, ..last.order.clone() };
    let rest = intent(rules, book, OrderClass::Entry, last.position, &last.instrument, order);
    let plan = last.plan.clone().map(|plan| EntryPlan { bidding: Some(bidding), ..plan });
    OrderIntent { signal: last.signal, leg: last.leg, attempt: last.attempt + 1, plan, ..rest }
}

/// A market sale of `quantity` units of a position, or of as many of them as one order may have: what is left is due when they
/// are sold.
pub fn exit_order(
    rules: &Rules,
    book: &Book,
    position: &Position,
    quantity: Quantity,
    cause: ExitCause,
) -> OrderIntent {
    let order = OrderSpec {
        symbol: position.symbol.clone(),
        exchange: position.exchange.clone(),
        side: Side::Sell,
        quantity: slice(quantity, freeze_of(rules, book, position), position.lot_size),
        price_type: PriceType::Market,
        product: position.product,
        price: Price::ZERO,
        trigger_price: Price::ZERO,
    };
    let exit = intent(rules, book, cause.class(), position.id, &position.instrument, order);
    OrderIntent { cause: Some(cause), ..exit }
}

/// A stop over `units` of a position that rests at the broker.
pub fn resting_stop(
    rules: &Rules,
    book: &Book,
    position: &Position,
    units: Quantity,
    level: Level,
) -> OrderIntent {
    let cause = ExitCause::StopLoss;
    let order = stop_order(position, units, level);
    let stop = intent(rules, book, cause.class(), position.id, &position.instrument, order);
    OrderIntent { cause: Some(cause), ..stop }
}

/// A market sale of `units` of a contract by the broker's verified book, of no position of the ledger.
pub fn custody_order(
    rules: &Rules,
    book: &Book,
    instrument: &str,
    contract: &HoldingKey,
    units: Quantity,
) -> OrderIntent {
    let order = OrderSpec {
        symbol: contract.symbol.clone(),
        exchange: contract.exchange.clone(),
        side: Side::Sell,
        quantity: units,
        price_type: PriceType::Market,
        product: contract.product,
        price: Price::ZERO,
        trigger_price: Price::ZERO,
    };
    let sale = intent(rules, book, OrderClass::Operator, PositionId::new(), instrument, order);
    OrderIntent { cause: Some(ExitCause::Operator), custody: true, ..sale }
}

fn intent(
    rules: &Rules,
    book: &Book,
    class: OrderClass,
    position: PositionId,
    instrument: &str,
    order: OrderSpec,
) -> OrderIntent {
    OrderIntent {
        id: IntentId::new(),
        signal: None,
        leg: 0,
        attempt: 0,
        position,
        instrument: instrument.to_owned(),
        class,
        cause: None,
        order,
        plan: None,
        custody: false,
        unwind: false,
        state: IntentState::Journaled,
        reason: None,
        broker_order_id: None,
        filled: Quantity::ZERO,
        send_window_ms: rules.send_window_ms,
        watermark: book.watermark,
        epoch: 0,
        incarnation: None,
        day: None,
    }
}
