//! The exchange: every mutation of orders, trades, positions and prices. Here its parts, its clock and its prices;
//! `entry` takes orders, `matching` fills them, `account` says what they cost.

mod account;
mod entry;
mod matching;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, FixedOffset};

use super::bars::Bar;
use super::market::{Listing, Market};
use super::order::{Order, OrderUpdate, Trade};
use super::position::Holding;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::Product;
use crate::paper::rng::Rng;
use crate::paper::{FillModel, SymbolKey, SymbolSpec};

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
    /// The broker's risk control refuses it after it was taken.
    pub refuse: bool,
}

impl Default for Handling {
    fn default() -> Self {
        Self {
            hide: Duration::ZERO,
            extra_latency: Duration::ZERO,
            update_copies: 1,
            update_delay: Duration::ZERO,
            refuse: false,
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
        /// It is sent later than what it tells of.
        is_late: bool,
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
        self.market.bars.minute = self.wall(now).timestamp().div_euclid(60);
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
            Due::Update(update, copies) => self.events.push(Event::Update { update, copies, is_late: true }),
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

    /// A listed contract.
    pub fn listing(&self, key: &SymbolKey) -> Option<&Listing> {
        self.market.get(key)
    }

    /// All listed contracts.
    pub fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.market.listings()
    }

    /// What a contract has traded at since the start, in bars of so many minutes counted from midnight of the exchange's day.
    pub fn bars(&self, key: &SymbolKey, minutes: i64) -> Vec<Bar> {
        let offset_minutes = i64::from(self.started_at.offset().local_minus_utc()) / 60;
        self.market.bars.of(key, minutes, -offset_minutes)
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
}
