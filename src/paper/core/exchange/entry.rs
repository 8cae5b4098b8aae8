//! Taking, changing and cancelling orders.

use std::time::Duration;

use rust_decimal::Decimal;

use super::{Due, Exchange, Handling};
use crate::domain::money::Quantity;
use crate::domain::order::{OrderSpec, PriceType};
use crate::paper::core::order::{Order, OrderRequest, OrderStatus};
use crate::paper::core::rules::{self, Refusal};
use crate::paper::{BridgeMode, SymbolKey};

impl Exchange {
    /// Takes an order, or refuses it as the given shape of the bridge would.
    /// In live shape an order that breaks the broker's rules is accepted and shown as rejected; in analyze shape some are, too.
    pub fn place(
        &mut self,
        request: OrderRequest,
        mode: BridgeMode,
        handling: Handling,
        arrival: Option<u64>,
        now: Duration,
    ) -> Result<&Order, Refusal> {
        self.advance(now);
        let key = SymbolKey::new(&request.spec.symbol, &request.spec.exchange);
        let listing = self.market.get(&key).ok_or(Refusal::UnknownSymbol(key))?;
        if self.orders.len() >= self.max_orders {
            return Err(Refusal::Full(self.max_orders));
        }
        let verdict = match mode {
            BridgeMode::Analyze => rules::sandbox_check(&request.spec, listing),
            BridgeMode::Live => rules::broker_check(&request.spec, listing),
        }
        .and_then(|()| self.margin_check(&request.spec, listing))
        .and_then(|()| self.delivery_check(&request.spec))
        .and(if handling.refuse { Err(Refusal::RiskControl) } else { Ok(()) });
        let rejection_reason = match verdict {
            Ok(()) => String::new(),
            Err(refusal) if mode == BridgeMode::Analyze && !refusal.is_booked() => return Err(refusal),
            Err(refusal) => refusal.to_string(),
        };
        let is_stop = matches!(request.spec.price_type, PriceType::StopLimit | PriceType::StopMarket);
        let status = match (rejection_reason.is_empty(), is_stop) {
            (false, _) => OrderStatus::Rejected,
            (true, true) => OrderStatus::TriggerPending,
            (true, false) => OrderStatus::Open,
        };
        let index = self.orders.len();
        let order = Order {
            id: self.new_id(now),
            arrival,
            spec: request.spec,
            strategy: request.strategy,
            status,
            filled: Quantity::ZERO,
            value: Decimal::ZERO,
            rejection_reason,
            placed_at: now,
            updated_at: now,
            visible_at: now + handling.hide,
            extra_latency: handling.extra_latency,
            update_copies: handling.update_copies,
            update_delay: handling.update_delay,
            triggered: false,
            rested: false,
            working: false,
        };
        self.by_id.insert(order.id.clone(), index);
        self.orders.push(order);
        if status.is_live() {
            self.live.insert(index);
        }
        if handling.hide.is_zero() {
            self.run(now, Due::Reveal(index));
        } else {
            self.schedule(now + handling.hide, Due::Reveal(index));
        }
        self.advance(now);
        Ok(&self.orders[index])
    }

    /// Changes a live order's price, trigger, quantity or type. In live shape the broker's rules hold for what is new.
    pub fn modify(
        &mut self,
        id: &str,
        change: &OrderSpec,
        mode: BridgeMode,
        now: Duration,
    ) -> Result<&Order, Refusal> {
        self.advance(now);
        let index = self.live_order(id, "modify", now)?;
        let filled = self.orders[index].filled;
        if change.quantity <= filled {
            return Err(Refusal::BelowFilled { quantity: change.quantity, filled });
        }
        let key = self.orders[index].key();
        if let Some(listing) = self.market.get(&key) {
            let changed = OrderSpec { symbol: key.symbol, exchange: key.exchange, ..change.clone() };
            match mode {
                BridgeMode::Live if !self.orders[index].triggered => rules::broker_check(&changed, listing)?,
                BridgeMode::Live | BridgeMode::Analyze => rules::sandbox_check(&changed, listing)?,
            }
        }
        let order = &mut self.orders[index];
        order.spec.quantity = change.quantity;
        order.spec.price = change.price;
        order.spec.trigger_price = change.trigger_price;
        order.spec.price_type = change.price_type;
        // A changed order arrives anew.
        order.rested = false;
        order.updated_at = now;
        let is_stop = matches!(change.price_type, PriceType::StopLimit | PriceType::StopMarket);
        order.status =
            if is_stop && !order.triggered { OrderStatus::TriggerPending } else { OrderStatus::Open };
        self.consider(index, now);
        self.advance(now);
        Ok(&self.orders[index])
    }

    /// Cancels a live order.
    pub fn cancel(&mut self, id: &str, now: Duration) -> Result<&Order, Refusal> {
        self.advance(now);
        let index = self.live_order(id, "cancel", now)?;
        let order = &mut self.orders[index];
        order.status = OrderStatus::Cancelled;
        order.updated_at = now;
        self.live.remove(&index);
        self.announce(index, now);
        self.advance(now);
        Ok(&self.orders[index])
    }

    /// The exchange closes: what rests is cancelled, for every order is good for its day only. Gives how many.
    pub fn end_day(&mut self, now: Duration) -> usize {
        self.advance(now);
        let resting: Vec<String> = self.live.iter().map(|index| self.orders[*index].id.clone()).collect();
        resting.iter().filter(|id| self.cancel(id, now).is_ok()).count()
    }

    fn live_order(&self, id: &str, verb: &'static str, now: Duration) -> Result<usize, Refusal> {
        let index = self.by_id.get(id).copied().filter(|index| self.orders[*index].is_visible(now));
        let index = index.ok_or_else(|| Refusal::OrderNotFound(id.to_owned()))?;
        let status = self.orders[index].status;
        if status.is_live() { Ok(index) } else { Err(Refusal::OrderDone { verb, status }) }
    }

    /// `YYMMDD` and 8 random digits: unique, and in no order, like the bridge's.
    fn new_id(&mut self, now: Duration) -> String {
        let day = self.wall(now).format("%y%m%d").to_string();
        loop {
            let id = format!("{day}{:08}", self.rng.below(100_000_000));
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}
