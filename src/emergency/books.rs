//! What the broker's books say: how much of a contract may be sold, and what became of an emergency order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rust_decimal::Decimal;

use super::journal::{End, Record};
use crate::broker::matching::{Unresolved, match_orders};
use crate::broker::{Books, BridgeMode, Broker, BrokerError, BrokerOrder, OrderStatus};
use crate::domain::ids::IntentId;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::Side;
use crate::domain::position::HoldingKey;
use crate::recovery::reconcile::held_by_broker;

/// What the broker shows, verified and read for one purpose.
pub struct VerifiedBook {
    /// Net units by contract.
    pub held: BTreeMap<HoldingKey, Quantity>,
    /// The day's orders.
    pub orders: Vec<BrokerOrder>,
}

impl VerifiedBook {
    /// Reads mode, session, orders, and only then positions, so that what fills between the two is counted twice rather
    /// than not at all. What is not verified is an error, never flat.
    ///
    /// # Errors
    /// What could not be read, or a bridge in the other mode.
    pub async fn read(broker: Arc<dyn Broker>, armed: BridgeMode) -> Result<Self, BrokerError> {
        let found = broker.mode().await?;
        if found != armed {
            return Err(BrokerError::WrongMode { expected: armed, found });
        }
        // A bridge whose session is dead may answer empty books; funds without data give it away.
        broker.funds().await?;
        let orders = broker.orders().await?;
        let positions = broker.positions().await?;
        Ok(Self { held: held_by_broker(&positions), orders })
    }

    /// Net units of a contract.
    pub fn of(&self, contract: &HoldingKey) -> Quantity {
        self.held.get(contract).copied().unwrap_or(Quantity::ZERO)
    }

    /// Sales of a contract that still work at the broker, whoever sent them. One that is filled in part counts whole:
    /// the positions may or may not show the part.
    pub fn working(&self, contract: &HoldingKey) -> Quantity {
        let sales = self
            .orders
            .iter()
            .filter(|order| order.side == Side::Sell && !is_over(&order.status) && is_of(order, contract));
        Quantity(sales.fold(0, |sum: i64, order| sum.saturating_add(order.quantity.0.max(0))))
    }

    /// Purchases of a contract that still work at the broker, whoever sent them: what they buy, nobody watches.
    pub fn buying<'a>(&'a self, contract: &'a HoldingKey) -> impl Iterator<Item = &'a BrokerOrder> {
        self.orders
            .iter()
            .filter(move |order| order.side == Side::Buy && !is_over(&order.status) && is_of(order, contract))
    }
}

fn is_of(order: &BrokerOrder, contract: &HoldingKey) -> bool {
    (&order.symbol, &order.exchange, order.product)
        == (&contract.symbol, &contract.exchange, contract.product)
}

fn is_over(status: &OrderStatus) -> bool {
    matches!(status, OrderStatus::Complete | OrderStatus::Rejected | OrderStatus::Cancelled)
}

/// What the books say of an emergency order.
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    /// Its end.
    Ended(End),
    /// It works.
    Working(String),
    /// It is not there. Proves nothing before it must show.
    Nothing,
    /// More orders look like it than there can be.
    Ambiguous(Vec<String>),
}

/// Looks an order up; `complete` counts only with its trades.
pub fn look_up(record: &Record, books: &Books) -> Said {
    let entry = &record.entry;
    let order_id = match &record.order_id {
        Some(order_id) => order_id.clone(),
        None => {
            let known: HashSet<String> = entry.known.iter().cloned().collect();
            let unresolved =
                Unresolved { intent: IntentId(entry.id), spec: entry.order(), strategy: entry.tag() };
            let matching = match_orders(&[unresolved], &books.orders, &known);
            match (matching.found.into_iter().next(), matching.ambiguous.into_iter().next()) {
                (Some(found), _) => found.order_id,
                (None, Some(ambiguous)) => return Said::Ambiguous(ambiguous.order_ids),
                (None, None) => return Said::Nothing,
            }
        }
    };
    let trades = books.trades.iter().filter(|trade| trade.order_id == order_id);
    let (sold, value) = trades.fold((0i64, Decimal::ZERO), |(units, value), trade| {
        let worth = trade.average_price.0.checked_mul(trade.quantity.decimal()).unwrap_or_default();
        (units.saturating_add(trade.quantity.0), value.saturating_add(worth))
    });
    let sold = Quantity(sold.min(entry.quantity.0));
    let price = if sold > Quantity::ZERO { value / sold.decimal() } else { Decimal::ZERO };
    let ended = |order_id| {
        let price = Price(price.round_dp(8));
        Said::Ended(End::Sold { order_id, quantity: sold, price })
    };
    if sold == entry.quantity {
        return ended(order_id);
    }
    match books.orders.iter().find(|order| order.order_id == order_id).map(|order| &order.status) {
        Some(OrderStatus::Rejected | OrderStatus::Cancelled) => ended(order_id),
        Some(_) => Said::Working(order_id),
        None => Said::Nothing,
    }
}
