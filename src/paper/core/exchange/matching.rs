//! Triggering, filling and announcing.

use std::time::Duration;

use super::{Due, Event, Exchange};
use crate::domain::money::{Price, Quantity};
use crate::paper::SymbolKey;
use crate::paper::core::fills::{self, Decision};
use crate::paper::core::market::Listing;
use crate::paper::core::order::{OrderStatus, Trade};
use crate::paper::core::position::Holding;

impl Exchange {
    pub(super) fn match_all(&mut self, now: Duration) {
        for index in self.live.iter().copied().collect::<Vec<_>>() {
            self.consider(index, now);
        }
    }

    /// Triggers an order or schedules its fill, if the market allows it.
    pub(super) fn consider(&mut self, index: usize, now: Duration) {
        let order = &self.orders[index];
        if self.held || order.working || !order.status.is_live() || !order.is_visible(now) {
            return;
        }
        let Some(quote) = self.market.get(&order.key()).map(Listing::quote) else { return };
        match fills::decide(order, quote) {
            Decision::Rest => self.orders[index].rested = true,
            Decision::Trigger => {
                let order = &mut self.orders[index];
                order.triggered = true;
                order.rested = false;
                order.status = OrderStatus::Open;
                order.updated_at = now;
                self.announce(index, now);
                self.consider(index, now);
            }
            Decision::Fill(_) => {
                let delay = Duration::from_millis(self.fill.latency_ms) + order.extra_latency;
                self.orders[index].working = true;
                self.schedule(now + delay, Due::Fill(index));
            }
        }
    }

    pub(super) fn fill_once(&mut self, index: usize, now: Duration) {
        self.orders[index].working = false;
        let order = &self.orders[index];
        if self.held || !order.status.is_live() {
            return;
        }
        let key = order.key();
        let Some(listing) = self.market.get(&key) else { return };
        let price = match fills::decide(order, listing.quote()) {
            Decision::Fill(price) => price,
            // The price went away during the latency.
            Decision::Rest | Decision::Trigger => {
                self.orders[index].rested = true;
                return;
            }
        };
        let quantity = fills::slice(order, listing.spec.lot_size, self.fill.slices);
        self.book(index, key, quantity, price, now);
        if self.orders[index].status.is_live() {
            self.orders[index].working = true;
            self.schedule(now + Duration::from_millis(self.fill.slice_delay_ms), Due::Fill(index));
        }
    }

    fn book(&mut self, index: usize, key: SymbolKey, quantity: Quantity, price: Price, now: Duration) {
        let order = &mut self.orders[index];
        order.filled = order.filled + quantity;
        order.value += price.0 * quantity.decimal();
        order.updated_at = now;
        if order.pending() == Quantity::ZERO {
            order.status = OrderStatus::Complete;
            self.live.remove(&index);
        }
        let product = order.spec.product;
        self.holdings
            .entry((key.clone(), product.as_str()))
            .or_insert_with(|| Holding::flat(key.clone(), product))
            .book(order.spec.side, quantity, price);
        let trade =
            Trade { id: format!("T{:08}", self.trades.len() + 1), order: index, quantity, price, at: now };
        self.trades.push(trade);
        self.market.add_volume(&key, quantity);
        self.events.push(Event::Fill(self.trades.len() - 1));
        self.announce(index, now);
    }

    pub(super) fn announce(&mut self, index: usize, now: Duration) {
        let order = &self.orders[index];
        let (update, copies, delay) = (Box::new(order.update()), order.update_copies, order.update_delay);
        if delay.is_zero() {
            self.events.push(Event::Update { update, copies, is_late: false });
        } else {
            self.schedule(now + delay, Due::Update(update, copies));
        }
    }
}
