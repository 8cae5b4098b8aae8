//! Profit, funds and margin, in rupees.

use std::collections::BTreeMap;

use super::Exchange;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::order::{OrderSpec, Product, Side};
use crate::paper::SymbolKey;
use crate::paper::core::market::Listing;
use crate::paper::core::position::{Funds, Holding};
use crate::paper::core::rules::Refusal;

impl Exchange {
    /// Rupees that a position has realised and would realise at the last price.
    pub fn profit(&self, holding: &Holding) -> (Rupees, Rupees) {
        let Some(listing) = self.market.get(&holding.key) else { return (Rupees::ZERO, Rupees::ZERO) };
        let unit = listing.spec.rupees_per_point_per_unit();
        (Rupees(holding.realised_points * unit), Rupees(holding.unrealised_points(listing.ltp) * unit))
    }

    /// The account now.
    pub fn funds(&self) -> Funds {
        let (mut realised, mut unrealised, mut utilised) = (Rupees::ZERO, Rupees::ZERO, Rupees::ZERO);
        for holding in self.holdings.values() {
            let (won, open) = self.profit(holding);
            realised += won;
            unrealised += open;
            if let Some(listing) = self.market.get(&holding.key) {
                utilised += margin(listing, holding.quantity);
            }
        }
        Funds { available: self.capital + realised - utilised, utilised, realised, unrealised }
    }

    /// Only what adds exposure needs margin.
    pub(super) fn margin_check(&self, spec: &OrderSpec, listing: &Listing) -> Result<(), Refusal> {
        let held = self.held_quantity(&listing.spec.key, spec.product);
        let after = match spec.side {
            Side::Buy => held + spec.quantity,
            Side::Sell => held - spec.quantity,
        };
        let required = margin(listing, after) - margin(listing, held);
        let available = self.funds().available;
        if required > Rupees::ZERO && required > available {
            return Err(Refusal::Margin { required, available });
        }
        Ok(())
    }

    /// What is delivered must be held.
    pub(super) fn delivery_check(&self, spec: &OrderSpec) -> Result<(), Refusal> {
        let key = SymbolKey::new(&spec.symbol, &spec.exchange);
        let held = self.held_quantity(&key, spec.product);
        if (spec.product, spec.side) == (Product::Cnc, Side::Sell) && spec.quantity > held {
            return Err(Refusal::ShortSell { quantity: spec.quantity, held });
        }
        Ok(())
    }

    /// Rupees that orders would block by themselves; of one contract's only what is left of them.
    pub fn margin_of(&self, orders: &[OrderSpec]) -> Rupees {
        let mut net: BTreeMap<SymbolKey, Quantity> = BTreeMap::new();
        for order in orders {
            let quantity = net.entry(SymbolKey::new(&order.symbol, &order.exchange)).or_default();
            *quantity = match order.side {
                Side::Buy => *quantity + order.quantity,
                Side::Sell => *quantity - order.quantity,
            };
        }
        let listed = net.iter().filter_map(|(key, quantity)| Some((self.market.get(key)?, *quantity)));
        listed.fold(Rupees::ZERO, |sum, (listing, quantity)| sum + margin(listing, quantity))
    }
}

fn margin(listing: &Listing, quantity: Quantity) -> Rupees {
    Rupees(listing.spec.margin_per_lot.0 * quantity.in_lots(listing.spec.lot_size).abs())
}
