//! From a signal to its order: the worked examples of the domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::dec;

use super::desk::{CAPITAL, Desk, entry, rules};
use super::lanes::{bar, entry_at, exit_of, queued};
use crate::domain::contract::{Contract, Contracts};
use crate::domain::fixtures;
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::intent::OrderIntent;
use crate::domain::label::{Label, Target};
use crate::domain::listing::Listing;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderClass, Side};
use crate::domain::portfolio::{Portfolio, Quotes};
use crate::domain::sessions::trading_day;
use crate::engine::book::{Book, Queued};
use crate::engine::decide::{Decision, Rules, decide, quotes_needed};
use crate::strategy::states::States;

fn book(positions: Vec<crate::domain::position::Position>, equity: Rupees) -> Book {
    let portfolio = Portfolio {
        positions,
        cash: equity,
        equity_high: equity,
        fixed_equity: None,
        ..Portfolio::default()
    };
    Book { portfolio, ..Book::default() }
}

fn orders(decision: Decision) -> Vec<OrderIntent> {
    match decision {
        Decision::Order(intents, _) => intents,
        other => panic!("{other:?}"),
    }
}

fn codes(decision: Decision) -> Vec<&'static str> {
    match decision {
        Decision::Refuse(refusals, _) => refusals.iter().map(|refusal| refusal.code).collect(),
        other => panic!("{other:?}"),
    }
}

fn at_signal_stop() -> Rules {
    let mut rules = rules();
    rules.policy.initial_stop = crate::domain::policy::InitialStop::Signal;
    rules.policy.sizing.use_volatility_limit = false;
    rules
}

#[test]
fn the_base_of_the_worked_example_is_nine_lots_of_gold() {
    let book = book(vec![], Rupees(dec!(10_008_349.80)));
    let queued = queued(1, "GOLD_MINI", entry_at(1, dec!(140_000), dec!(139_000), dec!(500)));
    let quotes = fixtures::quote("GOLD_MINI", dec!(140_000));
    let intents = orders(decide(&at_signal_stop(), &book, &queued, &quotes, fixtures::at(1)));
    let [intent] = intents.as_slice() else { panic!("{intents:?}") };
    assert_eq!(
        (intent.class, intent.order.side, intent.order.quantity),
        (OrderClass::Entry, Side::Buy, Quantity(900))
    );
    let plan = intent.plan.as_ref().unwrap();
    assert_eq!((plan.label, plan.stop, plan.signal_seq), (Label::BASE, Price(dec!(139_000)), 1));
    assert_eq!(intent.signal, Some(queued.id));
}

#[test]
fn a_base_is_refused_with_every_reason() {
    let held = fixtures::position("GOLD_MINI", 1, 9, dec!(140_000), dec!(139_000), 1);
    let book = book(vec![held], CAPITAL);
    let queued = queued(2, "GOLD_MINI", entry_at(1, dec!(140_000), dec!(139_000), dec!(500)));
    let quotes = fixtures::quote("GOLD_MINI", dec!(150_000));
    let refused = codes(decide(&at_signal_stop(), &book, &queued, &quotes, fixtures::at(60)));
    assert!(refused.contains(&"SIGNAL_TOO_OLD") && refused.contains(&"BASE_ALREADY_OPEN"), "{refused:?}");
    assert!(refused.len() >= 3, "the price diverged too: {refused:?}");
    let unquoted = codes(decide(&at_signal_stop(), &book, &queued, &Quotes::default(), fixtures::at(2)));
    assert!(unquoted.contains(&"QUOTE_MISSING"), "{unquoted:?}");
}

#[test]
fn a_pyramid_needs_one_r_half_an_atr_and_a_profit_and_halves_the_base() {
    let mut base = fixtures::position("GOLD_MINI", 1, 8, dec!(140_000), dec!(139_000), 1);
    // Trailed since: R is still measured from the first stop.
    assert!(base.raise_stop(Price(dec!(139_900))));
    let desk = book(vec![base], Rupees(dec!(10_000_000)));
    let pyramid = |price| queued(2, "GOLD_MINI", entry_at(2, price, price - dec!(1000), dec!(500)));
    let judged = |price| {
        let quotes = fixtures::quote("GOLD_MINI", price);
        decide(&at_signal_stop(), &desk, &pyramid(price), &quotes, fixtures::at(2))
    };
    // Exactly 1 R is not more than 1 R.
    assert!(codes(judged(dec!(141_000))).contains(&"ONE_R_NOT_REACHED"));
    let intents = orders(judged(dec!(142_500)));
    // floor(8 · 0.5) by the base; profit and margin allow more.
    assert_eq!(intents[0].order.quantity, Quantity(400));
    let below = codes(judged(dec!(139_500)));
    assert!(
        below.contains(&"INSTRUMENT_NOT_IN_PROFIT") || below.contains(&"ZERO_LOTS_BELOW_ONE"),
        "{below:?}"
    );
    let none = queued(3, "GOLD_MINI", entry_at(2, dec!(142_500), dec!(141_500), dec!(500)));
    let quotes = fixtures::quote("GOLD_MINI", dec!(142_500));
    let refused = decide(&at_signal_stop(), &book(vec![], CAPITAL), &none, &quotes, fixtures::at(3));
    assert!(!codes(refused).is_empty(), "no base to build on");
}

#[test]
fn an_exit_sells_what_is_held_the_youngest_first_and_needs_no_quote() {
    let base = fixtures::position("GOLD_MINI", 1, 9, dec!(140_000), dec!(139_000), 1);
    let top = fixtures::position("GOLD_MINI", 2, 4, dec!(142_000), dec!(141_000), 2);
    let later = fixtures::position("GOLD_MINI", 3, 2, dec!(143_000), dec!(142_000), 9);
    let book = book(vec![base.clone(), top.clone(), later], CAPITAL);
    let exit = queued(5, "GOLD_MINI", exit_of(Target::All));
    assert!(quotes_needed(&rules(), &book, &exit.signal).is_empty());
    let intents = orders(decide(&rules(), &book, &exit, &Quotes::default(), fixtures::at(50_000)));
    let sold: Vec<_> = intents.iter().map(|i| (i.position, i.leg, i.order.quantity)).collect();
    assert_eq!(sold, [(top.id, 0, Quantity(400)), (base.id, 1, Quantity(900))]);
    assert!(intents.iter().all(|i| i.order.side == Side::Sell && i.class == OrderClass::Exit));
    let early = queued(1, "GOLD_MINI", exit_of(Target::One(Label::new(3).unwrap())));
    let nothing = decide(&rules(), &book, &early, &Quotes::default(), fixtures::at(1));
    assert_eq!(codes(nothing), ["ENTERED_LATER"]);
    let elsewhere = queued(6, "COPPER", exit_of(Target::All));
    assert_eq!(
        codes(decide(&rules(), &book, &elsewhere, &Quotes::default(), fixtures::at(6))),
        ["NO_POSITION"]
    );
}

// R: K8
#[test]
fn a_disabled_strategy_enters_nothing_and_leaves_as_ever() {
    let held = fixtures::position("GOLD_MINI", 1, 8, dec!(140_000), dec!(139_000), 1);
    let mut book = book(vec![held.clone()], Rupees(dec!(10_000_000)));
    let quotes = fixtures::quote("GOLD_MINI", dec!(142_500));
    let pyramid = queued(2, "GOLD_MINI", entry_at(2, dec!(142_500), dec!(141_500), dec!(500)));
    let decided =
        |book: &Book, queued: &Queued| decide(&at_signal_stop(), book, queued, &quotes, fixtures::at(2));
    assert_eq!(orders(decided(&book, &pyramid)).len(), 1);
    let said = BTreeMap::from([("default".to_owned(), false), ("other".to_owned(), true)]);
    book.strategies = Arc::new(States::default().saying(said));
    assert_eq!(codes(decided(&book, &pyramid)), ["STRATEGY_DISABLED"]);
    let base = queued(3, "COPPER", entry_at(1, dec!(900), dec!(890), dec!(5)));
    assert!(codes(decided(&book, &base)).contains(&"STRATEGY_DISABLED"));
    let exit = queued(4, "GOLD_MINI", exit_of(Target::All));
    assert_eq!(orders(decided(&book, &exit))[0].position, held.id);
    assert!(
        matches!(decided(&book, &queued(5, "GOLD_MINI", bar(dec!(142_500)))), Decision::Trail(moved, _) if !moved.is_empty())
    );
    let mut other = pyramid.clone();
    other.signal.strategy = "other".to_owned();
    assert_eq!(orders(decided(&book, &other)).len(), 1);
}

// A bar that was resent after an outage must not put the stop of a younger position above its market.
#[test]
fn a_late_bar_moves_no_stop_of_what_was_bought_after_it() {
    let older = fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(900), 3);
    let younger = fixtures::position("GOLD_MINI", 2, 1, dec!(1000), dec!(900), 7);
    let book = book(vec![older.clone(), younger], CAPITAL);
    let moved = |n| match decide(
        &rules(),
        &book,
        &queued(n, "GOLD_MINI", bar(dec!(1015))),
        &Quotes::default(),
        fixtures::at(9),
    ) {
        Decision::Trail(moved, _) => moved.iter().map(|position| position.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(moved(5), [older.id]);
    assert_eq!(moved(8).len(), 2);
    assert!(moved(2).is_empty());
}

#[test]
fn a_second_exit_does_not_sell_what_is_on_its_way_out() {
    let mut desk = Desk::new();
    let bought = desk.bought(1, 1, 900);
    let first = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&first));
    desk.outcome(first.id, crate::domain::order::IntentState::Rejected, None);
    let again = queued(3, "GOLD_MINI", exit_of(Target::All));
    let decision = decide(&rules(), &desk.book, &again, &Quotes::default(), fixtures::at(3));
    assert_eq!(codes(decision), ["ALREADY_EXITING"], "between two tries of the first");
}

// R: B8
#[test]
fn an_entry_needs_todays_word_on_its_contract_and_keeps_to_it() {
    let gold = fixtures::instrument("GOLD_MINI");
    let now = fixtures::at(1);
    let decided = |rules: &Rules, lot: i64, freeze: Option<i64>, expiry: &str, known: bool| {
        let mut book = book(vec![], Rupees(dec!(10_008_349.80)));
        let mut contracts = Contracts::new(trading_day(now));
        let contract = Contract {
            lot_size: Quantity(lot),
            tick: Price(dec!(1)),
            freeze_qty: freeze.map(Quantity),
            expiry: Some(expiry.parse().unwrap()),
        };
        if known {
            contracts.extend([(Listing::new(&gold.exchange, &gold.symbol), contract)]);
        }
        book.contracts = Some(Arc::new(contracts));
        let queued = queued(1, "GOLD_MINI", entry_at(1, dec!(140_000), dec!(139_000), dec!(500)));
        decide(rules, &book, &queued, &fixtures::quote("GOLD_MINI", dec!(140_000)), now)
    };
    let late = "2099-12-31";
    let mut real = Rules { simulated: false, allow_after_market: false, ..at_signal_stop() };
    let code = |rules: &Rules, lot, freeze, expiry, known| codes(decided(rules, lot, freeze, expiry, known));
    // No calendar is known here, so the market counts as closed beside it.
    assert_eq!(code(&real, 100, None, late, true), ["MARKET_CLOSED"]);
    assert_eq!(code(&real, 100, None, late, false), ["MARKET_CLOSED", "CONTRACT_UNKNOWN"]);
    assert_eq!(code(&real, 10, None, late, true), ["MARKET_CLOSED", "CONTRACT_CHANGED"]);
    assert_eq!(code(&real, 100, None, "2020-01-01", true), ["MARKET_CLOSED", "CONTRACT_EXPIRED"]);
    assert_eq!(code(&real, 100, Some(99), late, true), ["MARKET_CLOSED", "ZERO_LOTS_BELOW_ONE"]);
    real.allow_after_market = true;
    assert_eq!(orders(decided(&real, 100, Some(900), "2020-01-01", true)).len(), 1);
    for (freeze, units, binding) in [(1_000, 900, "risk"), (850, 800, "freeze"), (100, 100, "freeze")] {
        // As large as one order may be, and the decision says why it is no larger.
        let Decision::Order(intents, decision) = decided(&real, 100, Some(freeze), late, true) else {
            panic!("refused")
        };
        assert_eq!(intents[0].order.quantity, Quantity(units));
        assert_eq!(decision["size"]["binding"], binding);
    }
    assert_eq!(orders(decided(&real, 100, None, late, false)).len(), 1);
    assert_eq!(code(&real, 10, None, late, true), ["CONTRACT_CHANGED"], "a wrong size is wrong at any hour");
}

// A pyramid counts what the base holds, and a base what is on its way.
#[test]
fn an_instruments_own_limits_count_everything_that_is_held_of_it() {
    let limited = |max_lots| {
        let gold = Instrument { max_lots: Some(max_lots), ..fixtures::instrument("GOLD_MINI") };
        Rules { catalog: Catalog::of([gold]), ..at_signal_stop() }
    };
    let base = fixtures::position("GOLD_MINI", 1, 8, dec!(140_000), dec!(139_000), 1);
    let desk = book(vec![base], Rupees(dec!(10_000_000)));
    let pyramid = queued(2, "GOLD_MINI", entry_at(2, dec!(142_500), dec!(141_500), dec!(500)));
    let quotes = fixtures::quote("GOLD_MINI", dec!(142_500));
    let decided = |max_lots| decide(&limited(max_lots), &desk, &pyramid, &quotes, fixtures::at(2));
    assert_eq!(orders(decided(12))[0].order.quantity, Quantity(400));
    assert_eq!(orders(decided(9))[0].order.quantity, Quantity(100));
    assert_eq!(codes(decided(8)), ["MAX_LOTS"]);
    let mut desk = Desk::new();
    let coming = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&coming));
    assert_eq!(desk.book.projected().lots_of(&fixtures::instrument("GOLD_MINI")), dec!(9));
}
