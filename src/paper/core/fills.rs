//! When and at what price an order fills. Pure functions over one order and one quote.
//!
//! Market orders fill at ask or bid; a limit order that is marketable on arrival fills at the last price, one that
//! rested fills at its own price; a triggered SL-M fills at the last price, a triggered SL becomes a limit order.
//! These are the sandbox's rules; partial fills and latency, which it lacks, come from the fill model.

use super::market::Quote;
use super::order::Order;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{PriceType, Side};

/// What the market does to an order now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Nothing yet.
    Rest,
    /// Its trigger is reached; look again.
    Trigger,
    /// Fills at this price.
    Fill(Price),
}

/// Decides for one live order.
pub(super) fn decide(order: &Order, quote: Quote) -> Decision {
    let spec = &order.spec;
    let is_stop = matches!(spec.price_type, PriceType::StopLimit | PriceType::StopMarket);
    if is_stop && !order.triggered {
        let reached = match spec.side {
            Side::Buy => quote.ltp >= spec.trigger_price,
            Side::Sell => quote.ltp <= spec.trigger_price,
        };
        return if reached { Decision::Trigger } else { Decision::Rest };
    }
    match spec.price_type {
        PriceType::Market => Decision::Fill(match spec.side {
            Side::Buy => quote.ask,
            Side::Sell => quote.bid,
        }),
        PriceType::StopMarket => Decision::Fill(quote.ltp),
        PriceType::Limit | PriceType::StopLimit => {
            let marketable = match spec.side {
                Side::Buy => quote.ltp <= spec.price,
                Side::Sell => quote.ltp >= spec.price,
            };
            match (marketable, order.rested) {
                (false, _) => Decision::Rest,
                (true, true) => Decision::Fill(spec.price),
                (true, false) => Decision::Fill(quote.ltp),
            }
        }
    }
}

/// The next part of an order, for `slices` parts in whole lots; never more than what is pending.
pub(super) fn slice(order: &Order, lot_size: Quantity, slices: u32) -> Quantity {
    let lot = lot_size.0.max(1);
    let lots = (order.spec.quantity.0 + lot - 1) / lot;
    let slices = i64::from(slices.max(1));
    let part = ((lots + slices - 1) / slices) * lot;
    Quantity(part.min(order.pending().0))
}
