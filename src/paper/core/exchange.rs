//! The exchange: every mutation of orders, trades, positions and prices.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use rust_decimal::Decimal;

use super::fills::{self, Decision};
use super::market::{Listing, Market};
use super::order::{Order, OrderRequest, OrderStatus, OrderUpdate, Trade};
use super::position::{Funds, Holding};
use super::rules::{self, Refusal};
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderSpec, PriceType, Product, Side};
use crate::paper::rng::Rng;
use crate::paper::{BridgeMode, FillModel, SymbolKey, SymbolSpec};

/// What an exchange is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is listed.
    pub symbols: Vec<SymbolSpec>,
    /// How orders fill.
    pub fill: FillModel,
    /// Whether prices walk.
    pub moving: bool,
    /// Between market steps.
    pub tick_interval: Duration,
    /// Cash at the start.
    pub capital: Rupees,
    /// Orders kept at most.
    pub max_orders: usize,
    /// Seed of prices and order ids.
    pub seed: u64,
    /// Wall-clock time at the start; later times are this plus the span since.
    pub started_at: DateTime<FixedOffset>,
}

/// What faults do to one order beyond its own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handling {
    /// Hidden for this long.
    pub hide: Duration,
    /// Added to the fill latency.
    pub extra_latency: Duration,
    /// How many times each update is sent.
    pub update_copies: u32,
    /// How late each update is sent.
    pub update_delay: Duration,
}

impl Default for Handling {
    fn default() -> Self {
        Self {
            hide: Duration::ZERO,
            extra_latency: Duration::ZERO,
            update_copies: 1,
            update_delay: Duration::ZERO,
        }
    }
}

/// Something that streams and logs should hear of.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// An order changed; sent `copies` times.
    Update {
        /// What the stream says.
        update: Box<OrderUpdate>,
        /// How often it says it.
        copies: u32,
    },
    /// A fill was booked (index into the trades).
    Fill(usize),
    /// A market step: every symbol has a tick.
    Tick,
    /// One symbol's price was set.
    Price(SymbolKey),
}

#[derive(Clone, Debug)]
enum Due {
    Fill(usize),
    Reveal(usize),
    Update(Box<OrderUpdate>, u32),
}

/// See the module's documentation. `now` is always the span since the start and never goes back.
#[derive(Clone, Debug)]
pub struct Exchange {
    market: Market,
    fill: FillModel,
    tick_interval: Duration,
    next_tick: Duration,
    capital: Rupees,
    max_orders: usize,
    started_at: DateTime<FixedOffset>,
    rng: Rng,
    orders: Vec<Order>,
    by_id: HashMap<String, usize>,
    live: BTreeSet<usize>,
    trades: Vec<Trade>,
    holdings: BTreeMap<(SymbolKey, &'static str), Holding>,
    due: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    held: bool,
    events: Vec<Event>,
}

impl Exchange {
    /// An exchange without orders.
    pub fn new(settings: Settings) -> Self {
        Self {
            market: Market::new(settings.symbols, settings.fill.spread_ticks, settings.moving),
            fill: settings.fill,
            tick_interval: settings.tick_interval,
            next_tick: settings.tick_interval,
            capital: settings.capital,
            max_orders: settings.max_orders,
            started_at: settings.started_at,
            rng: Rng::new(settings.seed),
            orders: Vec::new(),
            by_id: HashMap::new(),
            live: BTreeSet::new(),
            trades: Vec::new(),
            holdings: BTreeMap::new(),
            due: BTreeMap::new(),
            sequence: 0,
            held: false,
            events: Vec::new(),
        }
    }

    // === time ===

    /// The wall-clock time at a span since the start.
    pub fn wall(&self, now: Duration) -> DateTime<FixedOffset> {
        self.started_at + now
    }

    /// When something is next to be done by [`Exchange::advance`].
    pub fn next_due(&self) -> Duration {
        self.due.keys().next().map_or(self.next_tick, |(at, _)| (*at).min(self.next_tick))
    }

    /// Does everything that is due by `now`, in order of time. Missed market steps are one step.
    pub fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.due.first_entry() {
            let at = entry.key().0;
            if at > now || at > self.next_tick && self.next_tick <= now {
                break;
            }
            let action = entry.remove();
            self.run(at, action);
        }
        if self.next_tick <= now {
            self.next_tick = now + self.tick_interval;
            self.market.step(&mut self.rng);
            self.events.push(Event::Tick);
            self.match_all(now);
            self.advance(now);
        }
    }

    fn run(&mut self, now: Duration, action: Due) {
        match action {
            Due::Fill(index) => self.fill_once(index, now),
            Due::Update(update, copies) => self.events.push(Event::Update { update, copies }),
            Due::Reveal(index) => {
                self.announce(index, now);
                self.consider(index, now);
            }
        }
    }

    fn schedule(&mut self, at: Duration, action: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), action);
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    // === market ===

    /// A listed contract.
    pub fn listing(&self, key: &SymbolKey) -> Option<&Listing> {
        self.market.get(key)
    }

    /// All listed contracts.
    pub fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.market.listings()
    }

    /// Sets a price (rounded to the tick) or a spread and matches; false for an unlisted symbol.
    pub fn set_price(
        &mut self,
        key: &SymbolKey,
        ltp: Option<Price>,
        spread_ticks: Option<u32>,
        now: Duration,
    ) -> bool {
        let known = self.market.set(key, ltp, spread_ticks);
        if known {
            self.events.push(Event::Price(key.clone()));
            self.match_all(now);
            self.advance(now);
        }
        known
    }

    /// Lets prices walk, or stand still.
    pub fn set_moving(&mut self, moving: bool) {
        self.market.moving = moving;
    }

    /// Replaces the fill model for what fills from now on; a listing's spread stays as it is.
    pub fn set_fill_model(&mut self, fill: FillModel) {
        self.fill = fill;
    }

    /// Holds all fills, or lets them go on.
    pub fn hold_fills(&mut self, held: bool, now: Duration) {
        let released = self.held && !held;
        self.held = held;
        if released {
            self.match_all(now);
            self.advance(now);
        }
    }

    // === orders ===

    /// Takes an order, or refuses it as the given shape of the bridge would.
    /// In live shape an order that breaks the broker's rules is accepted and shown as rejected.
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
        .and_then(|()| self.margin_check(&request.spec, listing));
        let rejection_reason = match (verdict, mode) {
            (Ok(()), _) => String::new(),
            (Err(refusal), BridgeMode::Analyze) => return Err(refusal),
            (Err(refusal), BridgeMode::Live) => refusal.to_string(),
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

    /// Changes a live order's price, trigger, quantity or type.
    pub fn modify(&mut self, id: &str, change: &OrderSpec, now: Duration) -> Result<&Order, Refusal> {
        self.advance(now);
        let index = self.live_order(id, "modify", now)?;
        let filled = self.orders[index].filled;
        if change.quantity <= filled {
            return Err(Refusal::BelowFilled { quantity: change.quantity, filled });
        }
        let key = self.orders[index].key();
        if let Some(listing) = self.market.get(&key) {
            let changed = OrderSpec { symbol: key.symbol, exchange: key.exchange, ..change.clone() };
            rules::sandbox_check(&changed, listing)?;
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

    // === matching ===

    fn match_all(&mut self, now: Duration) {
        for index in self.live.iter().copied().collect::<Vec<_>>() {
            self.consider(index, now);
        }
    }

    /// Triggers an order or schedules its fill, if the market allows it.
    fn consider(&mut self, index: usize, now: Duration) {
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

    fn fill_once(&mut self, index: usize, now: Duration) {
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

    fn announce(&mut self, index: usize, now: Duration) {
        let order = &self.orders[index];
        let (update, copies, delay) = (Box::new(order.update()), order.update_copies, order.update_delay);
        if delay.is_zero() {
            self.events.push(Event::Update { update, copies });
        } else {
            self.schedule(now + delay, Due::Update(update, copies));
        }
    }

    // === books and account ===

    /// All orders in the order of their arrival, hidden ones too.
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }

    /// Orders that the books show.
    pub fn visible_orders(&self, now: Duration) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(move |order| order.is_visible(now))
    }

    /// An order by its id, hidden or not.
    pub fn order(&self, id: &str) -> Option<&Order> {
        self.by_id.get(id).map(|index| &self.orders[*index])
    }

    /// All fills in order.
    pub fn trades(&self) -> &[Trade] {
        &self.trades
    }

    /// The order that a trade belongs to.
    pub fn order_of(&self, trade: &Trade) -> &Order {
        &self.orders[trade.order]
    }

    /// All positions of the day, flat ones included.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.holdings.values()
    }

    /// Units held of a symbol under a product; negative when short.
    pub fn held_quantity(&self, key: &SymbolKey, product: Product) -> Quantity {
        self.holdings.get(&(key.clone(), product.as_str())).map_or(Quantity::ZERO, |held| held.quantity)
    }

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
    fn margin_check(&self, spec: &OrderSpec, listing: &Listing) -> Result<(), Refusal> {
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
}

fn margin(listing: &Listing, quantity: Quantity) -> Rupees {
    Rupees(listing.spec.margin_per_lot.0 * quantity.in_lots(listing.spec.lot_size).abs())
}
