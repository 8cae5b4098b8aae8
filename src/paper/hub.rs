//! What the adapters share: the lock over core, faults, limiter and witness, the clock, and the event channel.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset, Utc};
use rust_decimal::Decimal;
use serde_json::json;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calendar::{self, Calendar};
use super::core::{Event, Exchange, OrderUpdate, Settings};
use super::faults::{Fault, Faults};
use super::http::Verb;
use super::limiter::Limiter;
use super::options::{BridgeMode, Options};
use super::streamed::Streamed;
use super::witness::Witness;
use crate::domain::money::Price;

/// Frames that a slow WebSocket may lag behind before it loses some.
const STREAM_BUFFER: usize = 4096;

/// What goes out on the WebSocket.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Tick(Arc<TickData>),
    Update(Arc<OrderUpdate>),
    /// Close all sockets abnormally.
    Drop,
}

/// One symbol's tick.
#[derive(Clone, Debug)]
pub(super) struct TickData {
    pub(super) listing: super::core::Listing,
    pub(super) at: DateTime<FixedOffset>,
}

/// Everything behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) exchange: Exchange,
    pub(super) faults: Faults,
    pub(super) limiter: Limiter,
    pub(super) witness: Witness,
    pub(super) requests: BTreeMap<&'static str, u64>,
    pub(super) mode: BridgeMode,
    pub(super) streamed: Streamed,
    /// Fills held by the control port.
    pub(super) fills_held: bool,
    pub(super) calendar: Calendar,
}

/// Shared by all adapters of one paper bridge.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) options: Options,
    state: Mutex<State>,
    started: Instant,
    pub(super) frames: broadcast::Sender<Frame>,
    /// Logins at the broker so far: a socket that authenticated before the last one is cut off from its adapter.
    pub(super) logins: AtomicU64,
    /// Authenticated sockets: with the last one the proxy gives up its link to the broker.
    listeners: AtomicUsize,
    /// The time of the next due event may have changed.
    pub(super) rescheduled: Notify,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Hub {
    pub(super) fn new(options: Options, witness: Witness) -> Self {
        let exchange = Exchange::new(Settings {
            symbols: options.symbols.clone(),
            fill: options.fill.clone(),
            moving: options.moving,
            tick_interval: options.tick_interval,
            capital: options.capital,
            max_orders: options.max_orders,
            seed: options.seed,
            started_at: Utc::now().with_timezone(&calendar::ist()),
        });
        let state = State {
            exchange,
            faults: Faults::new(options.seed),
            limiter: Limiter::new(options.limits),
            witness,
            requests: BTreeMap::new(),
            streamed: Streamed::default(),
            mode: options.mode,
            fills_held: false,
            calendar: options.calendar.clone(),
        };
        Self {
            options,
            state: Mutex::new(state),
            started: Instant::now(),
            frames: broadcast::Sender::new(STREAM_BUFFER),
            logins: AtomicU64::new(0),
            listeners: AtomicUsize::new(0),
            rescheduled: Notify::new(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The span since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A read that changes nothing and makes no events.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a defect that its own test shows; the witness must go on telling what it saw.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state at the present time; events go to streams and log before the lock is let go, so their
    /// order is the order of what happened.
    pub(super) fn apply<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let result = self.step(change);
        self.rescheduled.notify_one();
        result
    }

    /// Changes the faults; taking a dead session away is a login, which replaces the broker's adapter.
    pub(super) fn change_faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        self.apply(|state, _| {
            let was_dead = state.session_is_dead();
            let result = change(&mut state.faults);
            if was_dead && !state.session_is_dead() {
                self.logins.fetch_add(1, Ordering::Relaxed);
                state.faults.heal(&Fault::StalledUpstream);
            }
            result
        })
    }

    /// A socket has authenticated.
    pub(super) fn listener_came(&self) {
        self.listeners.fetch_add(1, Ordering::Relaxed);
    }

    /// An authenticated socket is gone; the link to the broker goes with the last one, and the next one gets another.
    pub(super) fn listener_left(&self) {
        if self.listeners.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.change_faults(|faults| faults.heal(&Fault::StalledUpstream));
        }
    }

    fn step<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.lock();
        let now = self.now();
        state.exchange.advance(now);
        let result = change(&mut state, now);
        state.settle_holds(now);
        self.publish(&mut state, now);
        result
    }

    fn publish(&self, state: &mut State, now: Duration) {
        let at = state.exchange.wall(now);
        for event in state.exchange.take_events() {
            match event {
                // The order stream comes through the broker's session too; the sandbox's is the bridge's own.
                Event::Update { .. } if state.mode == BridgeMode::Live && state.session_is_dead() => (),
                Event::Update { update, copies, is_late } => {
                    state.streamed.note(copies, is_late, !update.status.is_live());
                    let update = Arc::new(*update);
                    for _ in 0..copies {
                        self.send(Frame::Update(Arc::clone(&update)));
                    }
                }
                Event::Fill(index) => state.log_fill(index),
                Event::Tick => {
                    let listings: Vec<_> = state.exchange.listings().cloned().collect();
                    listings.into_iter().for_each(|listing| self.tick(state, listing, at));
                }
                Event::Price(key) => {
                    if let Some(listing) = state.exchange.listing(&key).cloned() {
                        self.tick(state, listing, at);
                    }
                }
            }
        }
    }

    fn tick(&self, state: &mut State, listing: super::core::Listing, at: DateTime<FixedOffset>) {
        let symbol = Some(listing.spec.key.symbol.as_str());
        let stalled = state.faults.holds(&Fault::StalledUpstream, None);
        if stalled || state.faults.holds(&Fault::TickSilence, symbol) {
            state.streamed.withheld_ticks += 1;
        } else if !state.session_is_dead() {
            self.send(Frame::Tick(Arc::new(TickData { listing, at })));
        }
    }

    pub(super) fn send(&self, frame: Frame) {
        // An error only says that no socket listens.
        let _ = self.frames.send(frame);
    }

    /// Runs the exchange's own time until the bridge stops: due fills, reveals, market steps.
    pub(super) async fn run_clock(self: Arc<Self>) {
        loop {
            let due = self.started + self.step(|state, _| state.exchange.next_due());
            let wake = async {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => (),
                    () = self.rescheduled.notified() => (),
                }
            };
            tokio::select! {
                () = wake => (),
                () = self.cancel.cancelled() => return,
            }
        }
    }
}

impl State {
    /// The broker's token is dead, noticed by the bridge or not.
    pub(super) fn session_is_dead(&self) -> bool {
        self.session_expired() || self.session_revoked()
    }

    pub(super) fn session_expired(&self) -> bool {
        self.faults.holds(&Fault::SessionExpired, None) || self.books_are_empty()
    }

    /// The token is dead, and the books do not say so.
    pub(super) fn books_are_empty(&self) -> bool {
        self.faults.holds(&Fault::EmptyBooks, None)
    }

    pub(super) fn session_revoked(&self) -> bool {
        self.faults.holds(&Fault::SessionRevoked, None)
    }

    pub(super) fn count(&mut self, verb: Verb) {
        *self.requests.entry(verb.as_str()).or_default() += 1;
    }

    /// The sandbox fills from the broker's prices: without a session nothing fills there. At a real broker it does.
    fn settle_holds(&mut self, now: Duration) {
        let held = self.fills_held || self.mode == BridgeMode::Analyze && self.session_is_dead();
        self.exchange.hold_fills(held, now);
    }

    fn log_fill(&mut self, index: usize) {
        let Some(trade) = self.exchange.trades().get(index) else { return };
        let order = self.exchange.order_of(trade);
        let line = json!({
            "event": "fill", "arrival": order.arrival, "orderid": order.id, "tradeid": trade.id,
            "symbol": order.spec.symbol, "exchange": order.spec.exchange, "action": order.spec.side,
            "product": order.spec.product, "quantity": trade.quantity, "price": trade.price,
            "filled_quantity": order.filled, "at": self.exchange.wall(trade.at),
            "elapsed_us": u64::try_from(trade.at.as_micros()).unwrap_or(u64::MAX),
        });
        self.witness.write(line);
    }
}

/// A decimal as a JSON number. The bridge's wire format has floats: this is the one place where money becomes one,
/// and the shortest text that `f64` gives for it is the decimal's own up to 15 digits.
pub(super) fn number(value: Decimal) -> serde_json::Value {
    use rust_decimal::prelude::ToPrimitive;
    value.to_f64().map_or(serde_json::Value::Null, serde_json::Value::from)
}

/// A price as a JSON number.
pub(super) fn price(value: Price) -> serde_json::Value {
    // Averages do not end; the bridge shows four digits at most.
    number(value.0.round_dp(4))
}
