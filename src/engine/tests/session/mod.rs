//! A whole session, simulated: the engine's own lanes, decisions, stops, evidence and changes, over the ledger double and an
//! exchange in memory, by a clock that the test moves. Prices walk and jump, orders fill in parts, are refused, hidden and
//! lost, leaders change; at the end everything is sold, and whoever kept count has counted the same, to the paisa.

mod bridge;
mod curve;

use std::time::Duration;

use rust_decimal::{Decimal, dec};
use serde_json::json;

use super::desk::{CAPITAL, Desk, at, rules, signal};
use super::lanes::{entry_at, exit_of};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{PositionId, SignalKey};
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::intent::OrderIntent;
use crate::domain::label::Target;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::policy::StopPolicy;
use crate::domain::portfolio::Quotes;
use crate::domain::signal::{Action, MarketData, Signal};
use crate::engine::book::Queued;
use crate::engine::decide::{Decision, Rules, decide};
use crate::engine::draft::Draft;
use crate::engine::lanes::{Lanes, Waiting, may_decide};
use crate::engine::stops::{Sight, StopMonitor};
use crate::feed::{Ages, PriceSource, Priced, Sighted};
use crate::ledger::change::FillRow;
use crate::ledger::inbox::SignalStatus;
use crate::paper::SymbolKey;
use crate::paper::core::Handling;
use crate::paper::rng::Rng;
use bridge::Bridge;

/// From 9:00 to 23:30, in steps.
const SESSION_MS: u64 = 52_200_000;
const STEP_MS: u64 = 3_000;
/// How long it may take after the close until everything is sold and known.
const CLOSING_MS: u64 = 600_000;
/// Between two tries of what the journal did not take.
const RETRY_MS: u64 = 500;
/// An EXIT waits for an entry on its way for as long as that takes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Points that an instrument moves in a while: what its stops are made of.
fn atr(instrument: &Instrument) -> Decimal {
    match instrument.name.as_str() {
        "BANK_NIFTY" => dec!(250),
        "GOLD_MINI" => dec!(300),
        "SILVER_MINI" => dec!(600),
        _ => dec!(1.5),
    }
}

fn key(instrument: &Instrument) -> SymbolKey {
    SymbolKey::new(&instrument.symbol, &instrument.exchange)
}

#[derive(Default, Debug)]
struct Tally {
    signals: u128,
    ordered: usize,
    refused: usize,
    trailed: usize,
    hits: usize,
    asked: usize,
    takeovers: usize,
}

struct Session {
    desk: Desk,
    bridge: Bridge,
    lanes: Lanes,
    monitor: StopMonitor,
    rules: Rules,
    instruments: Vec<Instrument>,
    rng: Rng,
    tally: Tally,
}

impl Session {
    fn begin(seed: u64) -> Self {
        let mut desk = Desk::new();
        // 2025-11-25, 9:00 in India.
        desk.begins = crate::domain::fixtures::at(690);
        desk.checked_every = 100;
        let bridge = Bridge::new(seed, Rupees(CAPITAL.0 * dec!(1000)), desk.begins);
        let instruments = Catalog::default().iter().cloned().collect();
        let (lanes, monitor) = (Lanes::default(), StopMonitor::default());
        let (rules, rng, tally) = (rules(), Rng::new(seed), Tally::default());
        Self { desk, bridge, lanes, monitor, rules, instruments, rng, tally }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.desk.now)
    }

    /// One step of the clock and all that follows from it.
    fn step(&mut self) {
        self.desk.now += STEP_MS;
        self.move_prices();
        self.watch_stops();
        self.decide_heads();
        self.send_exits();
        if self.desk.book.wants_books() {
            self.bridge.show(&mut self.desk.books, Duration::from_millis(self.desk.now));
            let findings = self.desk.read(0);
            assert_eq!((findings.foreign, findings.ambiguous), (vec![], vec![]), "every order is ours");
        }
    }

    fn move_prices(&mut self) {
        for instrument in &self.instruments {
            let (key, atr) = (key(instrument), atr(instrument));
            let price = self.bridge.price(&key).0;
            // A gap that a second quote has to confirm, about twice a session and instrument.
            let moved = match self.rng.below(8_000) {
                0 => price * dec!(0.96),
                1 => price * dec!(1.04),
                _ => price + atr * (Decimal::from(self.rng.below(201)) - dec!(100)) / dec!(600),
            };
            let now = Duration::from_millis(self.desk.now);
            self.bridge.exchange.set_price(&key, Some(Price(moved)), None, now);
        }
        self.bridge.exchange.advance(Duration::from_millis(self.desk.now));
        self.bridge.exchange.take_events();
    }

    fn watch_stops(&mut self) {
        let (now, bridge) = (at(self.desk.now), &self.bridge);
        let price_of = |listing: &crate::domain::listing::Listing| {
            let price = bridge.price(&SymbolKey::new(&listing.symbol, &listing.exchange));
            let priced = Priced { price, source: PriceSource::Live, at: now };
            Some(Sighted { priced, is_calm: false, calm: None })
        };
        let (policy, ages) = (&StopPolicy::default(), Ages::default());
        let look = self.monitor.look(Sight { policy, book: &self.desk.book, ages, now }, price_of);
        for hit in look.hits {
            let why = hit.trigger.sentence(hit.price);
            self.tally.hits +=
                usize::from(self.desk.book.close_by(hit.position, hit.trigger.cause(), why, now));
        }
        for listing in look.ask {
            self.tally.asked += 1;
            let quote = self.bridge.price(&SymbolKey::new(&listing.symbol, &listing.exchange));
            self.monitor.answered(&self.desk.book, &listing, Some(quote), now, now);
        }
    }

    /// A signal arrives: it is in the inbox, and in its lane.
    fn arrives(&mut self, instrument: usize, action: Action) {
        self.tally.signals += 1;
        let n = self.tally.signals;
        let now = self.desk.wall();
        let signal_of = Signal {
            key: SignalKey(format!("k{n}")),
            strategy: "default".to_owned(),
            instrument: self.instruments[instrument].name.clone(),
            sent_at: now,
            bar_time: now,
            action,
            extra: std::collections::BTreeMap::new(),
        };
        self.desk.rows.signals.insert(signal(n), SignalStatus::Pending);
        let seq = i64::try_from(n).unwrap();
        self.lanes.add(Queued { id: signal(n), seq, signal: signal_of, attempt: 0 }, at(self.desk.now));
    }

    /// Whatever a strategy may send now.
    fn draw_signal(&mut self) {
        let which = usize::try_from(self.rng.below(4)).unwrap();
        let instrument = &self.instruments[which];
        let (price, atr) = (self.bridge.price(&key(instrument)), atr(instrument));
        let stop = price.0 - atr;
        let action = match self.rng.below(100) {
            0..30 => {
                Action::MarketData(MarketData { price, atr: Price(atr / dec!(2)), supertrend: Price(stop) })
            }
            30..65 => entry_at(1, price.0, stop, atr),
            65..90 => {
                let label = 2 + u8::try_from(self.rng.below(3)).unwrap();
                entry_at(label, price.0, price.0 - atr / dec!(2), atr)
            }
            _ => exit_of(Target::All),
        };
        self.arrives(which, action);
    }

    /// Decides the heads of all lanes whose turn it is, as the term does.
    fn decide_heads(&mut self) {
        let now = at(self.desk.now);
        let heads: Vec<Waiting> = self.lanes.heads().map(|head| head.clone()).collect();
        for head in heads {
            if !may_decide(&self.desk.book, &head, now, PATIENCE) {
                continue;
            }
            let mut quotes = Quotes::new();
            for instrument in &self.instruments {
                quotes.set(&instrument.exchange, &instrument.symbol, self.bridge.price(&key(instrument)));
            }
            let queued = &head.queued;
            match decide(&self.rules, &self.desk.book, queued, &quotes, self.desk.wall()) {
                Decision::Order(intents, _) => self.order(queued, intents),
                Decision::Refuse(refusals, decision) => {
                    self.tally.refused += 1;
                    self.end(queued, SignalStatus::Refused, json!(refusals), decision, Vec::new());
                }
                Decision::Trail(moved, left) => {
                    self.tally.trailed += moved.len();
                    self.end(queued, SignalStatus::Executed, json!(left), None, moved);
                }
                Decision::Note(note) => {
                    self.end(queued, SignalStatus::Executed, json!([note]), None, Vec::new());
                }
            }
        }
    }

    /// Ends a signal that orders nothing.
    fn end(
        &mut self,
        queued: &Queued,
        status: SignalStatus,
        reasons: serde_json::Value,
        decision: Option<serde_json::Value>,
        moved: Vec<crate::domain::position::Position>,
    ) {
        let mut draft = Draft::new(&self.desk.book, &self.rules, self.desk.wall());
        for position in moved {
            let held = draft.position(position.id).expect("it is held");
            *held = position;
        }
        draft.signal(queued.id, status, reasons, decision);
        let change = draft.finish();
        self.desk.commit(&change);
        self.lanes.remove(queued.id);
    }

    /// Journals and sends a signal's orders; a leg that the journal does not take is owed, all of them are tried again.
    fn order(&mut self, queued: &Queued, intents: Vec<OrderIntent>) {
        let later = at(self.desk.now + RETRY_MS);
        let (mut owed, mut sent) = (Vec::new(), 0);
        for intent in intents {
            match self.journal_and_send(intent.clone()) {
                true => sent += 1,
                false => owed.push(intent.position),
            }
        }
        if sent == 0 {
            self.lanes.find(queued.id).expect("it waits").not_before = later;
            return;
        }
        self.tally.ordered += 1;
        self.lanes.remove(queued.id);
        owed.into_iter().for_each(|position| self.desk.book.close_for(queued.id, position, later));
    }

    /// Exits of positions that are meant to be gone and have none out.
    fn send_exits(&mut self) {
        let now = at(self.desk.now);
        let due = self.desk.book.closing.iter().filter(|(_, closing)| now >= closing.not_before);
        let due: Vec<PositionId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let Some(intent) = self.desk.due_exit(id) else { continue };
            if !self.journal_and_send(intent) {
                let closing = self.desk.book.closing.get_mut(&id).expect("it is on its way out");
                closing.not_before = at(self.desk.now + RETRY_MS);
            }
        }
    }

    /// Journals an order and has the bridge take it, or not: false when the ledger does not.
    fn journal_and_send(&mut self, intent: OrderIntent) -> bool {
        if !self.desk.journal(&intent) {
            return false;
        }
        let now = self.now();
        let (handling, id) = (Handling::default(), intent.id);
        match self.rng.below(100) {
            // Refused in so many words.
            0..3 => self.desk.outcome(id, IntentState::Rejected, None),
            // Lost on the way.
            3..5 => self.desk.outcome(id, IntentState::InDoubt, None),
            // The answer is lost, and no book shows the order for some seconds.
            5..8 => {
                let hide = Duration::from_millis(self.rng.below(6_000));
                self.bridge.place(&intent.order, Handling { hide, ..handling }, now);
                self.desk.outcome(id, IntentState::InDoubt, None);
            }
            // Taken, and refused by the broker's risk control afterwards.
            8..11 => {
                let order = self.bridge.place(&intent.order, Handling { refuse: true, ..handling }, now);
                self.desk.outcome(id, IntentState::Acknowledged, Some(&order));
            }
            _ => {
                let order = self.bridge.place(&intent.order, handling, now);
                self.desk.outcome(id, IntentState::Acknowledged, Some(&order));
            }
        }
        true
    }

    /// Another leader takes over what the ledger has.
    fn takeover(&mut self) {
        self.tally.takeovers += 1;
        self.desk.restart();
        self.monitor = StopMonitor::default();
    }

    /// The session is over: one EXIT an instrument, and then whatever is left, by the operator's word.
    fn close(&mut self) {
        for instrument in 0..self.instruments.len() {
            self.arrives(instrument, exit_of(Target::All));
        }
        let mut left = CLOSING_MS / STEP_MS;
        while !self.is_over() {
            left = left.checked_sub(1).expect("everything is sold and known in time");
            self.step();
            if left == CLOSING_MS / STEP_MS / 2 {
                let held: Vec<PositionId> = self.desk.book.portfolio.held().map(|p| p.id).collect();
                let now = at(self.desk.now);
                for id in held {
                    self.desk.book.close_by(id, ExitCause::Operator, "the session is over".to_owned(), now);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let book = &self.desk.book;
        self.lanes.is_empty()
            && book.portfolio.held().next().is_none()
            && !book.intents.values().any(|tracked| !tracked.intent.state.is_terminal())
    }

    /// The bridge's books, the ledger, the portfolio and the equity curve say the same.
    async fn agrees(&self) {
        let rows = &self.desk.rows;
        self.desk.check();
        assert_eq!((rows.held(), self.bridge.held()), (0, Quantity(0)), "flat");
        let open: Vec<_> = rows.signals.iter().filter(|(_, status)| !status.is_final()).collect();
        assert_eq!(open, vec![], "every signal has its end");

        let earned = self.bridge.earned();
        let realised: Rupees = rows.positions.values().map(|position| position.realised).sum();
        let curve = self.curve();
        let (last, told) = curve::read(self).await;
        let portfolio = rows.portfolio.expect("it was stored");
        for (who, amount) in [
            ("positions", realised),
            ("portfolio", portfolio.closed_equity - CAPITAL),
            ("equity curve", *curve.last().expect("something was traded") - CAPITAL),
            ("equity curve of the ledger", last - CAPITAL),
            ("realised by closed positions", Rupees(told.closed)),
            ("fills", self.filled()),
            ("bridge's funds", self.bridge.exchange.funds().realised),
        ] {
            assert!(
                (amount.0 - earned.0).abs() < dec!(0.005),
                "{who}: {amount}, by the bridge's trades {earned}"
            );
        }
        assert_eq!(told.held, Decimal::ZERO, "nothing is held");
        assert_eq!(told.capital + told.closed, told.closed_equity, "{told:?}");
        let none = (Rupees::ZERO, Rupees::ZERO, Rupees::ZERO);
        assert_eq!((portfolio.risk, portfolio.volatility, portfolio.margin_used), none);
        assert!(
            curve.iter().all(|point| *point <= portfolio.equity_high),
            "the high-water mark is the highest"
        );
        self.orders_agree();
    }

    /// Each order of the bridge is one intent's, with the same units at the same value; and no other intent filled.
    fn orders_agree(&self) {
        let rows = &self.desk.rows;
        let mut named = 0;
        for intent in rows.intents.values() {
            let Some(order) = intent.broker_order_id.as_deref().and_then(|id| self.bridge.exchange.order(id))
            else {
                assert_eq!(intent.filled, Quantity::ZERO, "{intent:?}");
                continue;
            };
            named += 1;
            let fills = rows.fills.values().filter(|fill| fill.intent == intent.id);
            let (units, value) = fills.fold((Quantity::ZERO, Decimal::ZERO), |(units, value), fill| {
                (units + fill.quantity, value + fill.price.0 * fill.quantity.decimal())
            });
            assert_eq!((units, intent.filled), (order.filled, order.filled), "{intent:?}");
            assert!(
                (value - order.value).abs() < dec!(0.005),
                "{value} is not {} of {intent:?}",
                order.value
            );
        }
        assert_eq!(named, self.bridge.exchange.orders().len(), "each order has its intent");
    }

    /// Σ sold − Σ bought by the ledger's own fills.
    fn filled(&self) -> Rupees {
        let catalog = &self.rules.catalog;
        let sums = self.desk.rows.fills.values().map(
            |FillRow { intent: id, quantity: units, price: Price(price), .. }| {
                let intent = &self.desk.rows.intents[id];
                let instrument = catalog.get(&intent.instrument).expect("it is configured");
                let value = *price * units.in_lots(instrument.lot_size) * instrument.point_value.0;
                if intent.class == OrderClass::Entry { -value } else { value }
            },
        );
        Rupees(sums.sum::<Decimal>())
    }

    /// Equity after each trade.
    fn curve(&self) -> Vec<Rupees> {
        let mut equity = CAPITAL;
        let points = self.desk.closed.iter().map(|(_, realised)| {
            equity += *realised;
            equity
        });
        points.collect()
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("BATON_SEED") {
        Ok(text) => text.parse().expect("BATON_SEED is a whole number"),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| u64::from(since.subsec_nanos())),
    };
    println!("session: BATON_SEED={seed} repeats it");
    seed
}

// R: K2, H2: whatever a day brings, it ends flat, and everybody's sums agree
#[tokio::test]
async fn a_simulated_session_ends_flat_and_every_book_agrees_to_the_paisa() {
    let mut session = Session::begin(seed());
    while session.desk.now < SESSION_MS {
        if session.rng.below(6) == 0 {
            session.draw_signal();
        }
        if session.rng.below(3_000) == 0 {
            session.takeover();
        }
        session.step();
    }
    session.close();
    println!("{:?}, {} orders", session.tally, session.bridge.exchange.orders().len());
    session.agrees().await;
    let Tally { signals, ordered, refused, trailed, hits, .. } = session.tally;
    assert!(signals > 2_000 && ordered > 200, "{:?}", session.tally);
    assert!(refused > 0 && trailed > 0 && hits > 0, "{:?}", session.tally);
    let states: std::collections::HashSet<IntentState> =
        session.desk.rows.intents.values().map(|intent| intent.state).collect();
    for state in [IntentState::Filled, IntentState::Rejected, IntentState::Abandoned] {
        assert!(states.contains(&state), "no order ended {state}: {states:?}");
    }
    let pyramids = session.desk.rows.positions.values().filter(|position| position.label != "Long_1");
    assert!(pyramids.count() > 0, "no pyramid was bought");
}
