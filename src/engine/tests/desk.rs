//! A desk: the book, the ledger double, and what the term does between them, without time or I/O of its own.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use ha::Moment;
use rust_decimal::{Decimal, dec};
use uuid::Uuid;

use super::rows::Rows;
use crate::broker::{Books, BrokerOrder, BrokerTrade, OrderStatus};
use crate::domain::cause::ExitCause;
use crate::domain::charges::Schedule;
use crate::domain::fixtures;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::instrument::Catalog;
use crate::domain::intent::{EntryPlan, OrderIntent};
use crate::domain::label::Label;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{IntentState, OrderClass, OrderSpec};
use crate::domain::policy::TradingPolicy;
use crate::domain::position::Position;
use crate::domain::signal::SignalType;
use crate::engine::book::Book;
use crate::engine::decide::Rules;
use crate::engine::draft::{BookingError, Draft};
use crate::engine::evidence::{AbsenceRule, Evidence, Findings, Reading, Suspects};
use crate::engine::intents::exit_order;
use crate::engine::settling::together;
use crate::engine::tell::tell;
use crate::ledger::Change;
use crate::ledger::change::PortfolioRow;
use crate::notify::Notifier;
use crate::recovery::Recovered;
use crate::telemetry::metrics::Metrics;

pub(super) const CAPITAL: Rupees = Rupees(dec!(5_000_000));
/// U + B after an order's last byte.
pub(super) const ABSENT_MS: u64 = 12_000;
pub(super) const SEND_MS: u64 = 5_000;

pub(super) fn at(ms: u64) -> Moment {
    Moment::since_boot(Duration::from_millis(ms))
}

pub(super) fn rules() -> Rules {
    let policy = TradingPolicy::default();
    Rules {
        policy,
        catalog: Catalog::default(),
        charges: Schedule::default(),
        allow_after_market: true,
        simulated: true,
        send_window_ms: i32::try_from(SEND_MS).unwrap(),
    }
}

pub(super) fn signal(n: u128) -> SignalId {
    SignalId(Uuid::from_u128(0x5160_0000 + n))
}

/// An entry on GOLD_MINI, from signal `n` at minute `n`.
pub(super) fn entry(book: &Book, n: u128, label: u8, units: i64) -> OrderIntent {
    let gold = fixtures::instrument("GOLD_MINI");
    let seq = i64::try_from(n).unwrap();
    let held = fixtures::position("GOLD_MINI", label, 1, dec!(1000), dec!(900), seq);
    let mut intent = exit_order(&rules(), book, &held, Quantity(units), ExitCause::Signal);
    intent.id = IntentId(Uuid::from_u128(n));
    intent.signal = Some(signal(n));
    intent.position = PositionId(Uuid::from_u128(0x9051_0000 + n));
    (intent.class, intent.cause) = (OrderClass::Entry, None);
    intent.order.side = crate::domain::order::Side::Buy;
    intent.plan = Some(EntryPlan {
        label: Label::new(label).unwrap(),
        strategy: "default".to_owned(),
        lot_size: gold.lot_size,
        point_value: gold.point_value,
        margin_per_lot: gold.margin_per_lot,
        atr: Price(dec!(100)),
        stop: Price(dec!(900)),
        take_profit: None,
        planned_price: Price(dec!(1000)),
        signal_seq: seq,
        bar_time: fixtures::at(seq),
        bidding: None,
    });
    intent
}

/// The order as a live book shows it.
pub(super) fn order(id: &str, intent: &OrderIntent, status: OrderStatus) -> BrokerOrder {
    row(id, &intent.order, status)
}

/// The row of an order in a live book.
pub(super) fn row(id: &str, spec: &OrderSpec, status: OrderStatus) -> BrokerOrder {
    BrokerOrder {
        order_id: id.to_owned(),
        symbol: spec.symbol.clone(),
        exchange: spec.exchange.clone(),
        side: spec.side,
        quantity: spec.quantity,
        price_type: spec.price_type,
        product: spec.product,
        price: spec.price,
        trigger_price: spec.trigger_price,
        status,
        may_inherit: false,
        strategy: None,
        filled_quantity: None,
        average_price: None,
        rejection_reason: None,
        timestamp: String::new(),
    }
}

pub(super) fn trade(id: &str, intent: &OrderIntent, units: i64, price: Decimal) -> BrokerTrade {
    BrokerTrade {
        order_id: id.to_owned(),
        symbol: intent.order.symbol.clone(),
        exchange: intent.order.exchange.clone(),
        side: intent.order.side,
        quantity: Quantity(units),
        average_price: Price(price),
        trade_id: None,
        timestamp: String::new(),
    }
}

pub(super) struct Desk {
    pub book: Book,
    pub rows: Rows,
    pub books: Books,
    pub now: u64,
    pub idle_close_known: bool,
    /// The day in India.
    pub day: NaiveDate,
    /// The broker's session is alive.
    pub verified: bool,
    /// The wall clock at moment 0.
    pub begins: DateTime<Utc>,
    /// After how many commits it is checked that memory and ledger agree.
    pub checked_every: u32,
    /// Positions in the order in which they were closed, with what each realised.
    pub closed: Vec<(PositionId, Rupees)>,
    /// Who is told of each change, if anybody.
    pub told: Option<(Metrics, Notifier)>,
    /// What fills are booked by.
    pub rules: Rules,
    commits: u32,
    suspects: Suspects,
}

impl Desk {
    pub fn new() -> Self {
        let (cash, high) = (CAPITAL, CAPITAL);
        let row =
            PortfolioRow { capital: cash, closed_equity: cash, equity_high: high, ..PortfolioRow::default() };
        let rows = Rows { portfolio: Some(row), ..Rows::default() };
        let mut desk = Self {
            book: Book::default(),
            rows,
            books: Books::default(),
            now: 0,
            idle_close_known: true,
            day: NaiveDate::from_ymd_opt(2025, 11, 25).unwrap(),
            verified: true,
            begins: fixtures::at(1000),
            checked_every: 1,
            closed: Vec::new(),
            told: None,
            rules: rules(),
            commits: 0,
            suspects: Suspects::default(),
        };
        desk.restart();
        desk
    }

    /// A new leader reads the ledger; what recovery would refuse fails the test.
    pub fn restart(&mut self) {
        for intent in self.rows.intents.values_mut().filter(|i| i.state == IntentState::Journaled) {
            intent.state = IntentState::InDoubt;
        }
        let recovered = Recovered::prove(self.rows.snapshot(), CAPITAL, &Catalog::default()).unwrap();
        let contracts = self.book.contracts.take();
        self.book = Book { contracts, ..Book::restored(recovered, at(self.now)) };
        let working = crate::ledger::inbox::SignalStatus::Working;
        for (id, _) in self.rows.signals.iter().filter(|(_, status)| **status == working) {
            let exit = self.rows.intents.values().any(|i| i.signal == Some(*id) && i.plan.is_none());
            self.book.resume(*id, if exit { SignalType::Exit } else { SignalType::BaseEntry });
        }
        self.suspects = Suspects::default();
    }

    /// Journals; false when the ledger does not take it.
    pub fn journal(&mut self, intent: &OrderIntent) -> bool {
        let intent = &OrderIntent { day: Some(self.day), ..intent.clone() };
        let taken = self.rows.journal(intent);
        if taken {
            let exit = intent.plan.is_none();
            let kind = if exit { SignalType::Exit } else { SignalType::BaseEntry };
            self.book.journaled(intent.clone(), Some(kind), at(self.now + SEND_MS));
        }
        taken
    }

    pub fn outcome(&mut self, id: IntentId, state: IntentState, order_id: Option<&str>) {
        self.told(id, state, order_id, "said so");
    }

    /// An outcome with the broker's own words.
    pub fn told(&mut self, id: IntentId, state: IntentState, order_id: Option<&str>, reason: &str) {
        let mut draft = Draft::new(&self.book, &self.rules, self.wall());
        let reason = Some(reason.to_owned());
        draft.intent(&self.book.intents[&id], state, reason, order_id.map(str::to_owned));
        let change = draft.finish();
        self.commit(&change);
    }

    /// Reads the broker's books `after_ms` later and settles what they tell.
    pub fn read(&mut self, after_ms: u64) -> Findings {
        self.now += after_ms;
        let rule = AbsenceRule {
            user_timeout: Duration::from_secs(2),
            settle: Duration::from_secs(10),
            idle_close_known: self.idle_close_known,
        };
        let reading = Reading {
            books: std::mem::take(&mut self.books),
            begun: at(self.now),
            day: Some(self.day),
            verified: self.verified,
        };
        let confirmed = self.suspects.clone();
        let evidence = Evidence::gather(&self.book, &reading, rule);
        let findings = evidence.findings(&self.book, &mut self.suspects);
        let wall = self.wall();
        let rules = self.rules.clone();
        for group in together(&self.book, &findings.intents, |id| findings.unseen.contains(&id)) {
            let settle = |book: &Book, ids: &[_]| evidence.settle(book, &rules, ids, &confirmed, wall);
            if let Ok(change) = settle(&self.book, &group) {
                self.commit(&change);
                continue;
            }
            for id in &group {
                match settle(&self.book, &[*id]) {
                    Ok(change) => self.commit(&change),
                    // More sold than is held: reported to a person, the ledger stays as it was.
                    Err(BookingError::NoPosition { .. } | BookingError::Fill(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        self.books = reading.books;
        for id in &findings.foreign {
            self.book.watermark += 1;
            self.book.foreign.insert(id.clone(), self.book.watermark);
            self.rows.foreign.insert(id.clone(), self.book.watermark);
        }
        findings
    }

    pub fn commit(&mut self, change: &Change) {
        self.rows.commit(change);
        if let Some((metrics, notifier)) = &self.told {
            tell(&self.book, change, metrics, notifier);
        }
        self.book.install(change, at(self.now));
        let ended = change.positions.iter().filter(|position| !position.is_held());
        self.closed.extend(ended.map(|position| (position.id, position.realised)));
        self.commits += 1;
        if self.commits.is_multiple_of(self.checked_every) {
            self.check();
        }
    }

    /// Memory and ledger hold the same, and the stored aggregates are what the positions give.
    pub fn check(&self) {
        for (id, tracked) in &self.book.intents {
            assert_eq!(&tracked.intent, &self.rows.intents[id]);
        }
        let held: Vec<&Position> =
            self.rows.positions.values().filter(|position| position.is_held()).collect();
        assert_eq!(self.book.portfolio.positions.len(), held.len());
        for position in held {
            assert_eq!(self.book.position(position.id), Some(position));
        }
        Recovered::prove(self.rows.snapshot(), CAPITAL, &Catalog::default()).unwrap();
    }

    /// The exit that is due for a position, as the term would send it.
    pub fn due_exit(&self, id: PositionId) -> Option<OrderIntent> {
        let closing = self.book.closing.get(&id)?;
        if self.book.exit_is_out(id) {
            return None;
        }
        let position = self.book.position(id)?;
        let mut intent = exit_order(&rules(), &self.book, position, position.quantity, closing.cause);
        intent.reason = closing.why.clone();
        intent.signal = closing.signal.map(|(signal, _)| signal);
        intent.leg = closing.signal.map_or(0, |(_, leg)| leg);
        intent.attempt = closing.next_attempt;
        Some(intent)
    }

    /// A first exit of a position for signal `n`, leg `leg`.
    pub fn exit(&self, n: u128, leg: i32, id: PositionId) -> OrderIntent {
        let position = self.book.position(id).unwrap();
        let mut intent = exit_order(&rules(), &self.book, position, position.quantity, ExitCause::Signal);
        (intent.signal, intent.leg) = (Some(signal(n)), leg);
        intent
    }

    /// Shows an order as the last row.
    pub fn show(&mut self, mut order: BrokerOrder) {
        self.books.orders.retain(|shown| shown.order_id != order.order_id);
        order.may_inherit = self.books.orders.last().is_some_and(|before| before.status == order.status);
        self.books.orders.push(order);
    }

    pub fn state(&self, id: IntentId) -> IntentState {
        self.rows.intents[&id].state
    }

    pub fn wall(&self) -> DateTime<Utc> {
        self.begins + chrono::TimeDelta::milliseconds(i64::try_from(self.now).unwrap())
    }

    /// Buys `units` under `label`, filled whole at 1000.
    pub fn bought(&mut self, n: u128, label: u8, units: i64) -> OrderIntent {
        let intent = entry(&self.book, n, label, units);
        let id = format!("B{n}");
        assert!(self.journal(&intent));
        self.outcome(intent.id, IntentState::Acknowledged, Some(&id));
        self.show(order(&id, &intent, OrderStatus::Complete));
        self.books.trades.push(trade(&id, &intent, units, dec!(1000)));
        self.read(20);
        intent
    }
}
