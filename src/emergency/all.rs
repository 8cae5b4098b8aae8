//! Everything that the broker holds of what is traded, one contract after another and slice by slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::books::VerifiedBook;
use super::close::{Closed, Closer, NotClosed};
use super::journal::End;
use crate::broker::BrokerOrder;
use crate::domain::money::Quantity;
use crate::domain::position::HoldingKey;

/// What the broker's verified book holds.
#[derive(Default)]
pub struct Holdings {
    /// Net units of the contracts that are traded.
    pub ours: BTreeMap<HoldingKey, Quantity>,
    /// Purchases of the contracts that are traded which still work: what they buy is not sold.
    pub buying: Vec<BrokerOrder>,
    /// Net units of what is not configured, and is left alone. Below zero, here as there: sold short.
    pub foreign: BTreeMap<HoldingKey, Quantity>,
}

/// What became of one contract.
pub struct Outcome {
    /// Of what.
    pub contract: HoldingKey,
    /// The orders, each cut to the freeze quantity.
    pub orders: Vec<Closed>,
    /// Why it was not gone on with; none where the last order tells it all.
    pub stopped: Option<NotClosed>,
}

impl Outcome {
    /// Units sold, as the books tell.
    pub fn sold(&self) -> Quantity {
        Quantity(self.orders.iter().map(|order| order.sold().0).sum())
    }

    /// Nothing of it is left to sell.
    pub fn is_flat(&self) -> bool {
        self.stopped.is_none() && self.orders.last().is_some_and(|last| last.sold() == last.held)
    }
}

/// What `held` shows of contracts that the outcomes call sold, or do not know: bought meanwhile, or a book that lags.
pub fn unexplained<'a>(
    held: &'a BTreeMap<HoldingKey, Quantity>,
    outcomes: &[Outcome],
) -> Vec<(&'a HoldingKey, Quantity)> {
    let told = |contract: &HoldingKey| outcomes.iter().any(|of| of.contract == *contract && !of.is_flat());
    held.iter().filter(|(contract, _)| !told(contract)).map(|(contract, units)| (contract, *units)).collect()
}

impl Closed {
    /// Units sold, as the books tell; zero while the order works.
    pub fn sold(&self) -> Quantity {
        match &self.end {
            Some(End::Sold { quantity, .. }) => *quantity,
            _ => Quantity::ZERO,
        }
    }
}

impl Closer<'_> {
    /// What the broker holds of what is traded, and of other contracts.
    ///
    /// # Errors
    /// The book could not be verified.
    pub async fn holdings(&self) -> Result<Holdings, NotClosed> {
        let book = VerifiedBook::read(Arc::clone(&self.broker), self.armed).await;
        let book = book.map_err(NotClosed::Unverified)?;
        let traded: BTreeSet<HoldingKey> = self
            .catalog
            .iter()
            .map(|of| HoldingKey {
                symbol: of.symbol.clone(),
                exchange: of.exchange.clone(),
                product: of.product,
            })
            .collect();
        let buying = traded.iter().flat_map(|contract| book.buying(contract)).cloned().collect();
        let held = book.held.into_iter().filter(|(_, held)| *held != Quantity::ZERO);
        let (ours, foreign) = held.partition(|(contract, _)| traded.contains(contract));
        Ok(Holdings { ours, buying, foreign })
    }

    /// Closes a contract until nothing of it is held, an order does not sell what it should, or there is a reason not to.
    pub async fn close_whole(&self, contract: &HoldingKey) -> Outcome {
        let mut outcome = Outcome { contract: contract.clone(), orders: Vec::new(), stopped: None };
        let mut left = None;
        loop {
            match self.close_contract(contract, left, |_| Ok(())).await {
                Ok(closed) => {
                    let goes_on = closed.sold() == closed.quantity && closed.quantity < closed.held;
                    left = Some(closed.held - closed.sold());
                    outcome.orders.push(closed);
                    if !goes_on {
                        return outcome;
                    }
                }
                Err(why) => {
                    outcome.stopped = Some(why);
                    return outcome;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;
    use uuid::Uuid;

    use super::*;
    use crate::domain::money::Price;
    use crate::domain::order::Product;

    fn contract(symbol: &str) -> HoldingKey {
        HoldingKey { symbol: symbol.to_owned(), exchange: "MCX".to_owned(), product: Product::Nrml }
    }

    fn sold(symbol: &str, held: i64, quantity: i64) -> Outcome {
        let (contract, held, quantity) = (contract(symbol), Quantity(held), Quantity(quantity));
        let end = End::Sold { order_id: "1".to_owned(), quantity, price: Price(dec!(1)) };
        let (end, order_id) = (Some(end), None);
        let order = Closed { id: Uuid::nil(), contract: contract.clone(), held, quantity, end, order_id };
        Outcome { contract, orders: vec![order], stopped: None }
    }

    #[test]
    fn what_is_held_after_all_was_sold_is_not_passed_over() {
        let outcomes = [sold("FLAT", 100, 100), sold("PART", 100, 40)];
        let held = |symbols: &[&str]| symbols.iter().map(|of| (contract(of), Quantity(5))).collect();
        let left = |held: &BTreeMap<HoldingKey, Quantity>| {
            let left = unexplained(held, &outcomes).into_iter();
            left.map(|(of, _)| of.symbol.clone()).collect::<Vec<_>>()
        };
        assert_eq!(left(&held(&[])), Vec::<String>::new());
        assert_eq!(left(&held(&["PART"])), Vec::<String>::new(), "its outcome says so");
        assert_eq!(left(&held(&["FLAT", "NEW", "PART"])), ["FLAT", "NEW"]);
    }
}
