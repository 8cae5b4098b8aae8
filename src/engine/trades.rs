//! The trade book, summed by order: the only source of fills.

use std::collections::{HashMap, HashSet};

use rust_decimal::Decimal;

use crate::broker::BrokerTrade;
use crate::domain::money::Quantity;
use crate::domain::order::Side;

/// What an order's trade rows add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traded {
    pub quantity: Quantity,
    pub value: Decimal,
}

impl Traded {
    fn with(self, trade: &BrokerTrade) -> Option<Self> {
        let value = trade.average_price.0.checked_mul(trade.quantity.decimal())?;
        Some(Self {
            quantity: Quantity(self.quantity.0.checked_add(trade.quantity.0)?),
            value: self.value.checked_add(value)?,
        })
    }

    /// More than was ordered is no fill of ours to book: `most` units at the average price are.
    pub fn at_most(self, most: Quantity) -> Self {
        if self.quantity <= most {
            return self;
        }
        let value = self.value / self.quantity.decimal() * most.decimal();
        Self { quantity: most, value }
    }
}

/// Whose trades: a broker's order ids may come again another day, for another order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Trades<'a> {
    pub order_id: &'a str,
    pub symbol: &'a str,
    pub side: Side,
}

/// Sums the trade rows by order; none where they leave the range of the numbers. A row repeated under its own trade
/// id counts once.
pub(super) fn sum_trades(trades: &[BrokerTrade]) -> HashMap<Trades<'_>, Option<Traded>> {
    let mut sums = HashMap::new();
    let mut seen = HashSet::new();
    for trade in trades {
        let order_id = trade.order_id.as_str();
        if trade.trade_id.as_deref().is_some_and(|id| !seen.insert((order_id, id))) {
            continue;
        }
        let key = Trades { order_id, symbol: &trade.symbol, side: trade.side };
        let sum = sums.entry(key).or_insert(Some(Traded::default()));
        *sum = sum.and_then(|sum| sum.with(trade));
    }
    sums
}
