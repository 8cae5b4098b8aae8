//! Entries that are worked: what is done about a bid, and what may follow its end.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rust_decimal::dec;

use super::desk::{Desk, at, entry, order, rules, signal, trade};
use super::lanes::{entry_at, exit_of, queued};
use crate::broker::OrderStatus;
use crate::domain::cause::ExitCause;
use crate::domain::execution::Bidding;
use crate::domain::fixtures;
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::label::Target;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{IntentState, OrderClass, PriceType};
use crate::domain::position::PositionStatus;
use crate::engine::bids::rest::{Pause, pauses};
use crate::engine::bids::{Bids, Step};
use crate::engine::book::Book;
use crate::engine::intents::rest_order;
use crate::engine::lanes::{Waiting, may_decide};
use crate::engine::resting::AtBroker;
use crate::ledger::inbox::SignalStatus;

const REJECT_S: u32 = 60;

/// Bids of 1000, 1001 and 1002 a second each, and a rest at 1020.
fn bidding(rest: bool) -> Bidding {
    Bidding {
        units: Quantity(100),
        prices: vec![Price(dec!(1000)), Price(dec!(1001)), Price(dec!(1002))],
        step_ms: 1_000,
        rest_at: rest.then_some(Price(dec!(1020))),
        decided_at: fixtures::at(0),
    }
}

/// An entry of 100 units from signal `n` that is worked.
pub(super) fn worked(book: &Book, n: u128, rest: bool) -> OrderIntent {
    let mut intent = entry(book, n, 1, 100);
    (intent.order.price_type, intent.order.price) = (PriceType::Limit, Price(dec!(1000)));
    intent.plan.as_mut().unwrap().bidding = Some(bidding(rest));
    intent
}

/// A desk with a bid at the broker, as order `L`.
pub(super) fn desk(rest: bool) -> (Desk, OrderIntent) {
    let mut desk = Desk::new();
    let bid = worked(&desk.book, 1, rest);
    assert!(desk.journal(&bid));
    desk.outcome(bid.id, IntentState::Acknowledged, Some("L"));
    desk.show(order("L", &bid, OrderStatus::Open));
    desk.read(20);
    (desk, bid)
}

fn look(bids: &mut Bids, book: &Book, at_broker: &AtBroker, ms: u64) -> Vec<(IntentId, Step)> {
    bids.look(book, at_broker, &BTreeSet::new(), (fixtures::at(0), REJECT_S), at(ms))
}

/// The bid ends as cancelled, and the books have shown it for long enough.
pub(super) fn cancelled(desk: &mut Desk, bid: &OrderIntent) {
    desk.show(order("L", bid, OrderStatus::Cancelled));
    desk.read(20);
    desk.read(1_000);
}

pub(super) fn pause(desk: &Desk) -> Option<Pause> {
    pauses(&desk.book).next()
}

/// The order for what is left, as the term would journal it.
pub(super) fn rest(desk: &Desk) -> OrderIntent {
    let pause = pause(desk).expect("an entry between two orders");
    let bidding = pause.bidding.unwrap();
    let units = bidding.units - pause.bought;
    rest_order(&rules(), &desk.book, &pause.last, units, bidding.rest(30_000, desk.wall()).unwrap())
}

#[test]
fn a_bid_rises_at_its_times_and_ends_after_the_last() {
    for (more, end) in [(false, Step::End), (true, Step::EndForMore)] {
        let (desk, bid) = desk(more);
        let (mut bids, mut at_broker) = (Bids::default(), AtBroker::default());
        let step = |bids: &mut Bids, at_broker: &AtBroker, ms| {
            look(bids, &desk.book, at_broker, ms)
                .into_iter()
                .map(|(id, step)| {
                    assert_eq!(id, bid.id);
                    step
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(step(&mut bids, &at_broker, 100), []);
        assert_eq!(step(&mut bids, &at_broker, 1_099), []);
        assert_eq!(step(&mut bids, &at_broker, 1_100), [Step::Raise(Price(dec!(1001)))]);
        at_broker.shown.insert(bid.id, Price(dec!(1001)));
        assert_eq!(step(&mut bids, &at_broker, 2_099), [], "it is there");
        // A raise that was not made is made up for.
        assert_eq!(step(&mut bids, &at_broker, 2_100), [Step::Raise(Price(dec!(1002)))]);
        assert_eq!(step(&mut bids, &at_broker, 3_100), [end]);
    }
}

#[test]
fn who_takes_over_goes_on_from_where_the_bid_stands() {
    let (desk, bid) = desk(true);
    let (mut bids, mut at_broker) = (Bids::default(), AtBroker::default());
    at_broker.shown.insert(bid.id, Price(dec!(1001)));
    assert_eq!(look(&mut bids, &desk.book, &at_broker, 500), []);
    assert_eq!(look(&mut bids, &desk.book, &at_broker, 1_500), [(bid.id, Step::Raise(Price(dec!(1002))))]);
    assert_eq!(look(&mut bids, &desk.book, &at_broker, 2_500), [(bid.id, Step::EndForMore)]);
}

#[test]
fn a_bid_that_has_begun_to_fill_is_not_raised_and_ends_in_its_time() {
    let (mut desk, bid) = desk(true);
    desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
    desk.read(20);
    assert_eq!(desk.state(bid.id), IntentState::PartiallyFilled);
    let (mut bids, at_broker) = (Bids::default(), AtBroker::default());
    assert_eq!(look(&mut bids, &desk.book, &at_broker, 0), []);
    assert_eq!(look(&mut bids, &desk.book, &at_broker, 2_999), []);
    assert_eq!(look(&mut bids, &desk.book, &at_broker, 3_000), [(bid.id, Step::EndForMore)]);
}

// R: S15: an entry that goes on filling would buy what is being sold.
#[test]
fn a_bid_that_nobody_wants_any_more_is_called_off() {
    let off = |desk: &Desk, bid: &OrderIntent, unwanted: &BTreeSet<IntentId>| {
        let times = (fixtures::at(0), REJECT_S);
        let steps = Bids::default().look(&desk.book, &AtBroker::default(), unwanted, times, at(0));
        steps == [(bid.id, Step::CallOff)]
    };
    let none = BTreeSet::new();
    let (mut desk, bid) = desk(true);
    assert!(!off(&desk, &bid, &none));
    assert!(off(&desk, &bid, &BTreeSet::from([bid.id])), "an EXIT means it that waits");
    desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
    desk.read(20);
    assert!(!off(&desk, &bid, &none));
    desk.book.close_by(bid.position, ExitCause::StopLoss, "900".to_owned(), at(desk.now));
    assert!(off(&desk, &bid, &none), "its position is on its way out");
    let exit = desk.due_exit(bid.position).unwrap();
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Acknowledged, Some("S"));
    desk.show(order("S", &exit, OrderStatus::Complete));
    desk.books.trades.push(trade("S", &exit, 40, dec!(900)));
    desk.read(20);
    assert!(desk.book.position(bid.position).is_none());
    assert!(off(&desk, &bid, &none), "it was sold");
    // And nothing follows its end.
    cancelled(&mut desk, &bid);
    assert!(pause(&desk).unwrap().unwanted);
}

#[test]
fn a_bid_that_is_too_old_ends_and_nothing_follows_it() {
    let (desk, bid) = desk(true);
    let look = |late_ms| {
        let wall = fixtures::at(0) + TimeDelta::milliseconds(late_ms);
        Bids::default().look(&desk.book, &AtBroker::default(), &BTreeSet::new(), (wall, REJECT_S), at(0))
    };
    assert_eq!(look(63_000), []);
    assert_eq!(look(63_001), [(bid.id, Step::End)]);
}

// A plan of ten minutes: what follows it has a time of its own.
#[test]
fn a_rest_that_is_ordered_after_a_long_plan_stands_for_its_time() {
    let (mut desk, bid) = desk(true);
    let decided_at = desk.wall() - TimeDelta::minutes(10);
    for intent in
        [desk.rows.intents.get_mut(&bid.id), desk.book.intents.get_mut(&bid.id).map(|t| &mut t.intent)]
    {
        let bidding = intent.unwrap().plan.as_mut().unwrap().bidding.as_mut().unwrap();
        (bidding.step_ms, bidding.decided_at) = (200_000, decided_at);
    }
    cancelled(&mut desk, &bid);
    let rest = rest(&desk);
    let ordered = desk.wall();
    assert!(desk.journal(&rest));
    desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
    let look = |late_ms| {
        let wall = ordered + TimeDelta::milliseconds(late_ms);
        Bids::default().look(&desk.book, &AtBroker::default(), &BTreeSet::new(), (wall, REJECT_S), at(0))
    };
    assert_eq!(look(250), []);
    assert_eq!(look(90_000), [], "thirty seconds, and as old as an entry may be");
    assert_eq!(look(90_001), [(rest.id, Step::End)]);
}

// R: S1: what is left is ordered when the end is proven, by whoever leads then, and never beside the order before.
#[test]
fn what_a_cancelled_bid_left_is_ordered_once_by_whoever_leads() {
    for filled in [0, 40, 99] {
        for takeover in [false, true] {
            let (mut desk, bid) = desk(true);
            if filled > 0 {
                desk.books.trades.push(trade("L", &bid, filled, dec!(1000)));
                desk.read(20);
            }
            assert_eq!(pause(&desk), None, "its order is at the broker");
            let early = rest_order(&rules(), &desk.book, &bid, Quantity(1), bidding(true));
            assert!(!desk.journal(&early), "the ledger takes nothing beside it");
            cancelled(&mut desk, &bid);
            assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Working);
            if takeover {
                desk.restart();
            }
            let rest = rest(&desk);
            assert_eq!(rest.order.quantity, Quantity(100 - filled));
            assert_eq!((rest.order.price_type, rest.order.price), (PriceType::Limit, Price(dec!(1020))));
            assert_eq!((rest.signal, rest.attempt, rest.position), (bid.signal, 1, bid.position));
            let mut more = rest.clone();
            more.order.quantity = Quantity(101 - filled);
            assert!(!desk.journal(&more), "nor more than is left");
            assert!(desk.journal(&rest));
            assert_eq!(pause(&desk), None);
            let mut again = rest.clone();
            (again.id, again.attempt, again.order.quantity) = (IntentId::new(), 2, Quantity(1));
            assert!(!desk.journal(&again), "nor a third");
            desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
            desk.show(order("R", &rest, OrderStatus::Complete));
            desk.books.trades.push(trade("R", &rest, 100 - filled, dec!(1010)));
            desk.read(20);
            assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Executed);
            let held = desk.book.position(bid.position).unwrap();
            assert_eq!((held.quantity, held.status), (Quantity(100), PositionStatus::Open));
        }
    }
}

#[test]
fn a_bid_that_nothing_follows_ends_its_entry_with_what_it_bought() {
    for (filled, status) in [(0, SignalStatus::Rejected), (40, SignalStatus::Executed)] {
        let (mut desk, bid) = desk(false);
        if filled > 0 {
            desk.books.trades.push(trade("L", &bid, filled, dec!(1000)));
            desk.read(20);
        }
        cancelled(&mut desk, &bid);
        assert_eq!(pause(&desk), None);
        assert_eq!((desk.rows.signals[&signal(1)], desk.rows.held()), (status, filled));
    }
}

// R: S6: only a proven end makes room.
#[test]
fn nothing_follows_a_bid_in_doubt_refused_or_abandoned() {
    for state in [IntentState::InDoubt, IntentState::Rejected, IntentState::Abandoned] {
        let mut desk = Desk::new();
        let bid = worked(&desk.book, 1, true);
        assert!(desk.journal(&bid));
        let first = if state == IntentState::Rejected { state } else { IntentState::InDoubt };
        desk.outcome(bid.id, first, None);
        if state == IntentState::Abandoned {
            desk.outcome(bid.id, state, None);
        }
        assert_eq!(pause(&desk), None, "{state}");
        let mut next = rest_order(&rules(), &desk.book, &bid, Quantity(100), bidding(true));
        next.order.price = Price(dec!(1020));
        assert_eq!(
            desk.rows.clone().journal(&next),
            state == IntentState::Rejected,
            "{state}: the ledger's guard"
        );
    }
}

// A cancel that the books had shown for a second, and a fill that came all the same.
#[test]
fn a_fill_that_comes_before_the_rest_is_ordered_ends_the_entry() {
    for (late, status) in [(60, "filled"), (20, "partly")] {
        let (mut desk, bid) = desk(true);
        desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
        desk.read(20);
        cancelled(&mut desk, &bid);
        assert!(pause(&desk).is_some());
        desk.books.trades.push(trade("L", &bid, late, dec!(1000)));
        desk.read(20);
        assert_eq!(pause(&desk), None, "{status}");
        assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Executed);
        let held = desk.book.position(bid.position).unwrap();
        assert_eq!((held.quantity, held.status), (Quantity(40 + late), PositionStatus::Open));
    }
}

// R: S14, S16: what was bought twice is sold at once, whoever leads.
#[test]
fn a_fill_that_comes_beside_the_rest_closes_the_position() {
    for takeover in [false, true] {
        let (mut desk, bid) = desk(true);
        cancelled(&mut desk, &bid);
        let rest = rest(&desk);
        assert!(desk.journal(&rest));
        desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
        desk.show(order("R", &rest, OrderStatus::Complete));
        desk.books.trades.push(trade("R", &rest, 100, dec!(1010)));
        desk.read(20);
        assert_eq!(desk.rows.held(), 100);
        desk.books.trades.push(trade("L", &bid, 100, dec!(1000)));
        desk.read(20);
        let held = desk.book.position(bid.position).unwrap();
        assert_eq!((held.quantity, held.status), (Quantity(200), PositionStatus::Closing));
        assert_eq!(held.exit_cause, Some(ExitCause::LateFill));
        if takeover {
            desk.restart();
        }
        let exit = desk.due_exit(bid.position).expect("it is sold");
        assert_eq!((exit.order.quantity, exit.class), (Quantity(200), OrderClass::Exit));
    }
}

#[test]
fn a_rest_that_a_late_fill_leaves_no_room_for_is_called_off() {
    let (mut desk, bid) = desk(true);
    cancelled(&mut desk, &bid);
    let rest = rest(&desk);
    assert!(desk.journal(&rest));
    desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
    desk.show(order("R", &rest, OrderStatus::Open));
    let mut bids = Bids::default();
    assert_eq!(look(&mut bids, &desk.book, &AtBroker::default(), 0), []);
    desk.books.trades.push(trade("L", &bid, 20, dec!(1000)));
    desk.read(20);
    assert_eq!(look(&mut bids, &desk.book, &AtBroker::default(), 20), [(rest.id, Step::CallOff)]);
}

// The position of the first order was sold by its stop before the rest filled.
#[test]
fn a_rest_that_fills_after_its_position_was_sold_is_a_late_fill() {
    let (mut desk, bid) = desk(true);
    desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
    desk.read(20);
    cancelled(&mut desk, &bid);
    let rest = rest(&desk);
    assert!(desk.journal(&rest));
    desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
    desk.book.close_by(bid.position, ExitCause::StopLoss, "900".to_owned(), at(desk.now));
    let exit = desk.due_exit(bid.position).unwrap();
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Acknowledged, Some("S"));
    desk.show(order("S", &exit, OrderStatus::Complete));
    desk.books.trades.push(trade("S", &exit, 40, dec!(900)));
    desk.read(20);
    assert_eq!(desk.rows.held(), 0);
    assert_eq!(look(&mut Bids::default(), &desk.book, &AtBroker::default(), 0), [(rest.id, Step::CallOff)]);
    desk.show(order("R", &rest, OrderStatus::Complete));
    desk.books.trades.push(trade("R", &rest, 60, dec!(1010)));
    desk.read(20);
    let late = desk.rows.positions.values().find(|position| position.is_held()).unwrap();
    assert_eq!((late.quantity, late.status), (Quantity(60), PositionStatus::Closing));
    assert_ne!(late.id, bid.position);
}

#[test]
fn an_entry_between_two_orders_holds_its_lane() {
    let (mut desk, bid) = desk(true);
    cancelled(&mut desk, &bid);
    let patience = std::time::Duration::from_secs(2);
    let now = at(desk.now);
    let may = |waiting: &Waiting, now| may_decide(&desk.book, waiting, now, patience);
    let pyramid = Waiting::new(queued(9, "GOLD_MINI", entry_at(2, dec!(1000), dec!(900), dec!(10))), now);
    let exit = Waiting::new(queued(9, "GOLD_MINI", exit_of(Target::All)), now);
    let other = Waiting::new(queued(9, "COPPER", entry_at(1, dec!(900), dec!(890), dec!(5))), now);
    assert!(!may(&pyramid, now) && !may(&exit, now) && may(&other, now));
    assert!(may(&exit, now.plus(patience)), "an EXIT waits no longer than it may");
}
