//! Orders that the ledger takes for open, against the broker's order book: for people, who act on it or wait.

use serde::Serialize;
use uuid::Uuid;

use crate::broker::{BrokerOrder, OrderStatus};
use crate::domain::order::IntentState;
use crate::ledger::views::OrderView;

/// An open order of the ledger's, and what the book says of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OrderRow {
    /// The intent's id.
    pub id: Uuid,
    /// Tradable symbol.
    pub symbol: String,
    /// BUY or SELL.
    pub side: String,
    /// Units.
    pub quantity: i64,
    /// Its state in the ledger.
    pub state: String,
    /// The broker's id, once it is known.
    pub broker_order_id: Option<String>,
    /// The book's word for it; none when it is not in the book.
    pub broker_status: Option<String>,
    /// What the two come to.
    pub verdict: OrderVerdict,
}

/// How an open order stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderVerdict {
    /// Open on both sides.
    Agrees,
    /// On its way, or it moved while the book was read.
    UnderWay,
    /// The book shows its end, which the next reading books.
    Ended,
    /// Nobody heard what became of it.
    InDoubt,
    /// The broker gave it an id that its book does not show.
    Absent,
}

/// Compares the open orders, as they were before and after the book was read, with the book.
pub(super) fn orders(before: &[OrderView], book: &[BrokerOrder], after: &[OrderView]) -> Vec<OrderRow> {
    before.iter().map(|order| row(order, book, after)).collect()
}

fn row(order: &OrderView, book: &[BrokerOrder], after: &[OrderView]) -> OrderRow {
    let shown = book.iter().find(|shown| order.broker_order_id.as_ref() == Some(&shown.order_id));
    let stands = after.iter().any(|later| later.id == order.id && later.state == order.state);
    let verdict = match shown.map(|shown| &shown.status) {
        _ if !stands => OrderVerdict::UnderWay,
        _ if order.state == IntentState::InDoubt.as_str() => OrderVerdict::InDoubt,
        Some(OrderStatus::Complete | OrderStatus::Rejected | OrderStatus::Cancelled) => OrderVerdict::Ended,
        Some(_) => OrderVerdict::Agrees,
        None if order.broker_order_id.is_none() => OrderVerdict::UnderWay,
        None => OrderVerdict::Absent,
    };
    OrderRow {
        id: order.id,
        symbol: order.symbol.clone(),
        side: order.side.clone(),
        quantity: order.quantity,
        state: order.state.clone(),
        broker_order_id: order.broker_order_id.clone(),
        broker_status: shown.map(|shown| word(&shown.status).to_owned()),
        verdict,
    }
}

fn word(status: &OrderStatus) -> &str {
    match status {
        OrderStatus::Open => "open",
        OrderStatus::TriggerPending => "trigger pending",
        OrderStatus::Complete => "complete",
        OrderStatus::Rejected => "rejected",
        OrderStatus::Cancelled => "cancelled",
        OrderStatus::Other(word) => word,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::money::{Price, Quantity};
    use crate::domain::order::{PriceType, Product, Side};

    fn open(state: IntentState, order_id: Option<&str>) -> OrderView {
        OrderView {
            id: Uuid::from_u128(7),
            strategy: None,
            signal_id: None,
            leg: 0,
            attempt: 0,
            position_id: Uuid::nil(),
            instrument: "GOLD_MINI".to_owned(),
            class: "entry".to_owned(),
            symbol: "GOLDM05DEC25FUT".to_owned(),
            side: "BUY".to_owned(),
            quantity: 100,
            state: state.as_str().to_owned(),
            reason: None,
            broker_order_id: order_id.map(str::to_owned),
            filled_quantity: 0,
            average_price: None,
            epoch: 1,
            journaled_at: DateTime::UNIX_EPOCH,
            state_at: DateTime::UNIX_EPOCH,
            price_type: "MARKET".to_owned(),
            trigger_price: None,
        }
    }

    fn shown(order_id: &str, status: OrderStatus) -> BrokerOrder {
        BrokerOrder {
            order_id: order_id.to_owned(),
            symbol: "GOLDM05DEC25FUT".to_owned(),
            exchange: "MCX".to_owned(),
            side: Side::Buy,
            quantity: Quantity(100),
            price_type: PriceType::Market,
            product: Product::Nrml,
            price: Price(0.into()),
            trigger_price: Price(0.into()),
            status,
            may_inherit: false,
            strategy: None,
            filled_quantity: None,
            average_price: None,
            rejection_reason: None,
            timestamp: String::new(),
        }
    }

    fn verdict(order: &OrderView, book: &[BrokerOrder], after: &[OrderView]) -> OrderVerdict {
        orders(std::slice::from_ref(order), book, after)[0].verdict
    }

    #[test]
    fn an_open_order_is_called_what_the_book_makes_of_it() {
        let acknowledged = open(IntentState::Acknowledged, Some("A1"));
        let same = std::slice::from_ref(&acknowledged);
        for (status, wanted) in [
            (OrderStatus::Open, OrderVerdict::Agrees),
            (OrderStatus::TriggerPending, OrderVerdict::Agrees),
            (OrderStatus::Other("put order req received".to_owned()), OrderVerdict::Agrees),
            (OrderStatus::Complete, OrderVerdict::Ended),
            (OrderStatus::Rejected, OrderVerdict::Ended),
            (OrderStatus::Cancelled, OrderVerdict::Ended),
        ] {
            assert_eq!(verdict(&acknowledged, &[shown("A1", status.clone())], same), wanted, "{status:?}");
        }
        assert_eq!(verdict(&acknowledged, &[shown("B2", OrderStatus::Open)], same), OrderVerdict::Absent);
        // It ended, or went on, while the book was read.
        assert_eq!(verdict(&acknowledged, &[], &[]), OrderVerdict::UnderWay);
        let filling = open(IntentState::PartiallyFilled, Some("A1"));
        assert_eq!(verdict(&acknowledged, &[], &[filling]), OrderVerdict::UnderWay);

        let journaled = open(IntentState::Journaled, None);
        assert_eq!(verdict(&journaled, &[], std::slice::from_ref(&journaled)), OrderVerdict::UnderWay);
        for id in [None, Some("A1")] {
            let doubted = open(IntentState::InDoubt, id);
            let book = [shown("A1", OrderStatus::Complete)];
            assert_eq!(verdict(&doubted, &book, std::slice::from_ref(&doubted)), OrderVerdict::InDoubt);
        }
    }
}
