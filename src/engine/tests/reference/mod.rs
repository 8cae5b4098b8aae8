//! A thousand random portfolios, traded by the engine and computed beside it by another arithmetic (`account`): sizes,
//! gates, averages, risk, margin, profit, equity, high-water mark and stops are the same.

mod account;
mod setting;

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

use super::desk::{CAPITAL, Desk};
use super::lanes::queued;
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::label::Label;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::IntentState;
use crate::domain::portfolio::Quotes;
use crate::domain::position::{Position, PositionStatus};
use crate::domain::signal::{Action, Entry, MarketData};
use crate::engine::book::Queued;
use crate::engine::decide::{Decision, Rules, decide};
use crate::engine::draft::Draft;
use crate::ledger::change::PortfolioRow;
use account::{Account, BASES, CONTRACTS, Holding, Marks, Outstanding, RUPEE, Thresholds, Verdict, Wish};
use setting::{Draws, PAISA, basis, decimal, under, units};

const PORTFOLIOS: u64 = 1000;
const STEPS: usize = 30;

fn figure(document: &Value) -> Decimal {
    document.as_str().unwrap_or_else(|| panic!("{document} is no figure")).parse().unwrap()
}

/// One portfolio, in both arithmetics.
struct Play {
    seed: u64,
    draws: Draws,
    by: Thresholds,
    rules: Rules,
    desk: Desk,
    account: Account,
    marks: Marks,
    /// Signals so far.
    n: u128,
    /// Exits that are out, by position.
    exits: BTreeMap<(usize, u8), IntentId>,
    /// How often each verdict was reached.
    reached: BTreeMap<&'static str, u32>,
}

impl Play {
    fn begin(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let by = draws.thresholds();
        let crores = draws.between(1, 6);
        let cash = draws.near(crores * 10_000_000 * RUPEE, 200);
        let mut desk = Desk::new();
        desk.checked_every = 7;
        let (capital, closed_equity, equity_high) =
            (Rupees(decimal(cash)), Rupees(decimal(cash)), Rupees(decimal(cash)));
        desk.rows.portfolio =
            Some(PortfolioRow { capital, closed_equity, equity_high, ..PortfolioRow::default() });
        desk.restart();
        let (holdings, outstanding, fixed) = (Vec::new(), None, units(CAPITAL.0));
        let account = Account { cash, realised: 0, high: cash, fixed, holdings, outstanding };
        let marks = [52_000, 140_000, 150_000, 800].map(|rupees| rupees * RUPEE);
        let (rules, exits, reached) = (under(&by), BTreeMap::new(), BTreeMap::new());
        Self { seed, draws, by, rules, desk, account, marks, n: 0, exits, reached }
    }

    fn quotes(&self) -> Quotes {
        let mut quotes = Quotes::new();
        for (contract, mark) in CONTRACTS.iter().zip(self.marks) {
            let instrument = &self.rules.catalog.get(contract.name).unwrap();
            quotes.set(&instrument.exchange, &instrument.symbol, Price(decimal(mark)));
        }
        quotes
    }

    fn step(&mut self) {
        for mark in &mut self.marks {
            // Up rather than down, so that there is something to build on.
            let towards = *mark + *mark / 1000 * self.draws.between(-6, 12);
            *mark = self.draws.near(towards, 1);
        }
        match self.draws.between(0, 9) {
            0..=4 => self.enter(),
            5..=6 => self.bar(),
            7..=8 => self.leave(),
            // What a successor reads is the same.
            _ => self.desk.restart(),
        }
        self.compare();
    }

    fn wish(&mut self) -> Wish {
        let contract = self.draws.of(&[0, 1, 2, 3]);
        let free = |n: &u8| self.account.held(contract, *n).is_none();
        let next = (1..=6).find(free).unwrap_or(6);
        let n = if self.draws.chance(15) { self.draws.of(&[1, 2, 3]) } else { next };
        let price = self.marks[contract];
        let atr = self.draws.near(price / 150, 600);
        let signal_stop = price - self.draws.near(price / 150, 800);
        let er = self.draws.of(&[10, 30, 50, 60, 77, 82, 90, 100]);
        Wish { contract, n, price, signal_stop, atr, er }
    }

    /// Has both judge a wish; the order, if it is to be.
    fn judged(&mut self, wish: &Wish) -> Option<OrderIntent> {
        self.n += 1;
        let entry = Entry {
            label: Label::new(wish.n).unwrap(),
            price: Price(decimal(wish.price)),
            stop: Price(decimal(wish.signal_stop)),
            take_profit: None,
            atr: Price(decimal(wish.atr)),
            er: Some(Decimal::from_i128_with_scale(wish.er, 2).normalize()),
            supertrend: None,
            roc: None,
            suggested_lots: None,
            reason: None,
        };
        let action = if wish.n == 1 { Action::BaseEntry(entry) } else { Action::Pyramid(entry) };
        let queued = self.queued(wish.contract, action);
        let expected = self.account.judge(&self.by, wish, &self.marks);
        let decision = decide(&self.rules, &self.desk.book, &queued, &self.quotes(), queued.signal.sent_at);
        let context = format!("BATON_SEED={}, {wish:?} under {:?}", self.seed, self.by);
        let (decided, order) = match decision {
            Decision::Order(intents, document) => {
                let [intent] = intents.try_into().unwrap();
                // Sums over lots, in as many decimals as they take; what is kept has eight.
                let projected = |name: &str| units(figure(&document["projection"][name]).round_dp(8));
                let (lots, rest) =
                    (intent.order.quantity.0 / self.lot(wish), intent.order.quantity.0 % self.lot(wish));
                assert_eq!(rest, 0, "{context}: part of a lot");
                let (risk, volatility) = (projected("risk"), projected("volatility"));
                (Verdict::Enter { lots: lots.into(), risk, volatility }, Some(intent))
            }
            Decision::Refuse(refusals, _) => {
                (Verdict::Refuse(refusals.iter().map(|refusal| refusal.code).collect()), None)
            }
            other => panic!("{context}: {other:?}"),
        };
        assert_eq!(decided, expected, "{context}");
        let reached: BTreeSet<&'static str> = match decided {
            Verdict::Refuse(codes) => codes,
            Verdict::Enter { .. } => BTreeSet::from([if wish.n == 1 { "base" } else { "pyramid" }]),
        };
        for word in reached {
            *self.reached.entry(word).or_default() += 1;
        }
        order
    }

    fn lot(&self, wish: &Wish) -> i64 {
        self.rules.catalog.get(CONTRACTS[wish.contract].name).unwrap().lot_size.0
    }

    fn queued(&self, contract: usize, action: Action) -> Queued {
        queued(self.n, CONTRACTS[contract].name, action)
    }

    /// A wish to enter and, if it is granted, its fills in up to three parts; another wish comes in between.
    fn enter(&mut self) {
        let wish = self.wish();
        let Some(intent) = self.judged(&wish) else { return };
        let stop = Account::first_stop(self.by.first_stop, &wish);
        let mut left = intent.order.quantity.0;
        self.account.outstanding = Some(Outstanding { wish, stop, units: left.into() });
        assert!(self.desk.journal(&intent));
        let parts = self.draws.between(1, 3);
        for part in 1..=parts {
            let others = self.wish();
            if self.judged(&others).is_some() {
                *self.reached.entry("beside an entry").or_default() += 1;
            }
            let half = i64::try_from(self.draws.between(1, i128::from(left.max(2)) / 2)).unwrap();
            let fill = if part == parts { left } else { half };
            let price = self.draws.near(wish.price, 1);
            let state = if fill == left { IntentState::Filled } else { IntentState::PartiallyFilled };
            self.fill(intent.id, state, fill, price);
            self.account.filled(fill.into(), price);
            left -= fill;
            if left == 0 {
                break;
            }
            self.compare();
        }
        self.account.outstanding = None;
        self.account.settle();
    }

    fn fill(&mut self, id: IntentId, state: IntentState, quantity: i64, price: i128) {
        let mut draft = Draft::new(&self.desk.book, &self.rules, self.desk.wall());
        let tracked = &self.desk.book.intents[&id];
        draft.intent(tracked, state, None, Some(format!("O-{id}")));
        draft.fill(&tracked.intent, Quantity(quantity), Price(decimal(price))).unwrap();
        let change = draft.finish();
        self.desk.commit(&change);
    }

    /// A bar closes: stops trail.
    fn bar(&mut self) {
        self.n += 1;
        let contract = self.draws.of(&[0, 1, 2, 3]);
        let close = self.draws.near(self.marks[contract], 10);
        let atr = self.draws.near(close / 150, 600);
        // One that puts a stop to the market closes a position; here it only trails.
        let market = close.min(self.marks[contract]);
        let reaches = |held: &Holding| held.contract == contract && held.trailed(close, atr) >= market;
        if self.account.holdings.iter().any(reaches) {
            return;
        }
        let (price, average) = (Price(decimal(close)), Price(decimal(atr)));
        let action = Action::MarketData(MarketData { price, atr: average, supertrend: price });
        let queued = self.queued(contract, action);
        let decided = decide(&self.rules, &self.desk.book, &queued, &self.quotes(), queued.signal.sent_at);
        let Decision::Trail(moved, left) = decided else { panic!("BATON_SEED={}: {decided:?}", self.seed) };
        assert_eq!(left, vec![], "BATON_SEED={}", self.seed);
        let mut draft = Draft::new(&self.desk.book, &self.rules, self.desk.wall());
        for position in moved {
            let id = position.id;
            *draft.position(id).unwrap() = position;
        }
        let change = draft.finish();
        self.desk.commit(&change);
        for held in self.account.holdings.iter_mut().filter(|held| held.contract == contract) {
            held.trail(close, atr);
        }
    }

    /// Some of a position is sold; the rest by the same order, another time.
    fn leave(&mut self) {
        let Some(held) = self.held() else { return };
        let key = (held.contract, held.n);
        let position = self.position(&held).id;
        let id = match self.exits.get(&key) {
            Some(id) => *id,
            None => {
                self.n += 1;
                let mut intent = self.desk.exit(self.n, 0, position);
                // The desk's own contracts have freeze quantities.
                intent.order.quantity = Quantity(held.units.to_i64().unwrap());
                assert!(self.desk.journal(&intent));
                self.exits.insert(key, intent.id);
                intent.id
            }
        };
        let whole = held.units.to_i64().unwrap();
        let fill =
            if self.draws.chance(40) { whole } else { self.draws.between(1, held.units).to_i64().unwrap() };
        let price = self.draws.near(self.marks[held.contract], 5);
        let state = if fill == whole { IntentState::Filled } else { IntentState::PartiallyFilled };
        self.fill(id, state, fill, price);
        let same = |other: &&mut Holding| (other.contract, other.n) == key;
        let holding = self.account.holdings.iter_mut().find(same).unwrap();
        holding.leaving = true;
        holding.sell(fill.into(), price);
        self.account.settle();
        if fill == whole {
            self.exits.remove(&key);
        }
    }

    fn held(&mut self) -> Option<Holding> {
        let holdings = self.account.holdings.clone();
        (!holdings.is_empty()).then(|| self.draws.of(&holdings))
    }

    fn position(&self, held: &Holding) -> &Position {
        let label = format!("Long_{}", held.n);
        let found = self.desk.book.portfolio.find(CONTRACTS[held.contract].name, &label);
        found.unwrap_or_else(|| panic!("BATON_SEED={}: {held:?} is not held", self.seed))
    }

    /// Everything that both know.
    fn compare(&self) {
        let (portfolio, account, marks) = (&self.desk.book.portfolio, &self.account, &self.marks);
        let seed = format!("BATON_SEED={}", self.seed);
        assert_eq!(portfolio.positions.len(), account.holdings.len(), "{seed}");
        for held in &account.holdings {
            let position = self.position(held);
            let mark = Price(decimal(marks[held.contract]));
            let computed = [
                ("units", position.quantity.0.into(), held.units),
                ("average", units(position.entry_price.0), held.average),
                ("first stop", units(position.initial_stop.0), held.first_stop),
                ("stop", units(position.current_stop.0), held.stop),
                ("highest close", units(position.highest_close.0), held.highest),
                ("realised", units(position.realised.0), held.realised),
                ("unrealised", units(position.unrealised(mark).0), held.unrealised(marks)),
                ("risk", units(position.risk().0), held.risk()),
                ("volatility", units(position.volatility().0), held.volatility()),
                ("margin", units(position.margin().0), held.margin()),
            ];
            for (what, engine, reference) in computed {
                assert_eq!(engine, reference, "{seed}: {what} of {held:?}");
            }
            assert_eq!(position.status == PositionStatus::Closing, held.leaving, "{seed}: {held:?}");
            let lot = CONTRACTS[held.contract].lot;
            let profit = units(position.realised.0 + position.unrealised(mark).0);
            let apart = (profit * lot - held.profit_by_cash(marks)).abs();
            assert!(
                apart <= PAISA * lot,
                "{seed}: {held:?} made {profit}, by cash {}",
                held.profit_by_cash(marks) / lot
            );
        }
        let (sums, risk) = (portfolio.aggregates(), account.sum(Holding::risk));
        let (volatility, margin) = (account.sum(Holding::volatility), account.sum(Holding::margin));
        let closed = account.closed();
        let quotes = self.quotes();
        let computed = [
            ("closed equity", sums.closed_equity, closed),
            ("risk", sums.risk, risk),
            ("volatility", sums.volatility, volatility),
            ("margin", sums.margin_used, margin),
            ("high-water mark", portfolio.equity_high, account.high),
            ("unrealised", portfolio.unrealised(&quotes).unwrap(), account.unrealised(marks)),
            ("open equity", portfolio.open_equity(&quotes).unwrap(), closed + account.unrealised(marks)),
        ];
        for (what, engine, reference) in computed {
            assert_eq!(units(engine.0), reference, "{seed}: {what}");
        }
        let share = self.by.unrealised_share;
        for of in BASES {
            let engine = portfolio.equity(basis(of), self.rules.policy.unrealised_share, &quotes).unwrap();
            let reference = Decimal::from_i128_with_scale(account.equity(of, share, marks), 10);
            assert_eq!(engine.0, reference, "{seed}: equity {of:?}");
        }
        let stored = self.desk.rows.portfolio.unwrap();
        let computed = [
            (stored.capital, account.cash),
            (stored.closed_equity, closed),
            (stored.equity_high, account.high),
            (stored.risk, risk),
            (stored.volatility, volatility),
            (stored.margin_used, margin),
        ];
        for (row, reference) in computed {
            assert_eq!(units(row.0), reference, "{seed}: stored {stored:?}");
        }
    }
}

#[test]
fn a_thousand_random_portfolios_are_as_another_arithmetic_has_them() {
    let seeds = match std::env::var("BATON_SEED") {
        Ok(text) => vec![text.parse().expect("BATON_SEED is a whole number")],
        Err(_) => (0..PORTFOLIOS).collect(),
    };
    println!("{} portfolios; BATON_SEED=N plays one", seeds.len());
    let mut reached: BTreeMap<&'static str, u32> = BTreeMap::new();
    for seed in &seeds {
        let mut play = Play::begin(*seed);
        for _ in 0..STEPS {
            play.step();
        }
        for (word, count) in play.reached {
            *reached.entry(word).or_default() += count;
        }
    }
    println!("{reached:?}");
    if seeds.len() > 1 {
        // A pyramid of an instrument without a profit gets no lots, and so is never refused for that.
        let verdicts = [
            "base",
            "pyramid",
            "beside an entry",
            "ZERO_LOTS_BELOW_ONE",
            "ZERO_LOTS_MISSING_INPUT",
            "ENTRY_IN_FLIGHT",
            "BASE_ALREADY_OPEN",
            "LABEL_TAKEN",
            "BASE_CLOSING",
            "MAX_PYRAMIDS",
            "ONE_R_NOT_REACHED",
            "ATR_STEP_NOT_REACHED",
            "RISK_LIMIT",
            "VOLATILITY_LIMIT",
        ];
        let seldom: Vec<_> =
            verdicts.iter().filter(|word| reached.get(*word).is_none_or(|n| *n < 20)).collect();
        assert!(seldom.is_empty(), "hardly reached: {seldom:?}");
    }
}
