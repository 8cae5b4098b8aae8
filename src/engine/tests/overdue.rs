//! Orders that stand at the broker without a fill.

use rust_decimal::dec;

use super::desk::{at, entry, rules};
use crate::domain::cause::ExitCause;
use crate::domain::fixtures;
use crate::domain::ids::IntentId;
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::listing::Listing;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::policy::OrderPolicy;
use crate::domain::position::Position;
use crate::engine::book::{Book, Closing, Tracked};
use crate::engine::intents::exit_order;
use crate::engine::overdue::{Late, Overdue};

const POLICY: OrderPolicy = OrderPolicy { entry_patience_ms: 30_000, exit_patience_ms: 5_000 };

/// A book with one order in this state.
fn book(state: IntentState, class: OrderClass, filled: i64) -> (Book, IntentId) {
    let mut book = Book::default();
    let mut intent = match class {
        OrderClass::Entry => entry(&book, 1, 1, 10),
        _ => {
            let held = fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(900), 1);
            exit_order(&rules(), &book, &held, Quantity(10), ExitCause::Signal)
        }
    };
    (intent.state, intent.filled) = (state, Quantity(filled));
    let id = intent.id;
    book.intents.insert(
        id,
        Tracked { intent, filled_value: dec!(0), charged: Rupees::ZERO, sent_by: at(0), silent: false },
    );
    (book, id)
}

fn closing() -> Closing {
    Closing {
        signal: None,
        cause: ExitCause::Signal,
        why: None,
        next_attempt: 0,
        failures: 0,
        not_before: at(0),
    }
}

#[test]
fn an_order_is_late_when_it_has_not_filled_on_for_its_patience() {
    let (mut book, id) = book(IntentState::Acknowledged, OrderClass::Exit, 0);
    let mut overdue = Overdue::default();
    assert_eq!(overdue.look(&book, &POLICY, at(0)), []);
    assert_eq!(overdue.look(&book, &POLICY, at(4_999)), []);
    let late = [Late { id, class: OrderClass::Exit }];
    assert_eq!(overdue.look(&book, &POLICY, at(5_000)), late);
    // A fill is progress.
    book.intents.get_mut(&id).unwrap().intent.filled = Quantity(1);
    assert_eq!(overdue.look(&book, &POLICY, at(5_250)), []);
    assert_eq!(overdue.look(&book, &POLICY, at(10_249)), []);
    assert_eq!(overdue.look(&book, &POLICY, at(10_250)), late);
    book.intents.get_mut(&id).unwrap().intent.state = IntentState::Cancelled;
    assert_eq!(overdue.look(&book, &POLICY, at(20_000)), [], "what has ended is not late");
}

#[test]
fn each_exit_of_a_position_has_twice_the_patience_of_the_one_before() {
    let (mut book, id) = book(IntentState::Acknowledged, OrderClass::Exit, 0);
    let position = book.intents[&id].intent.position;
    let late = [Late { id, class: OrderClass::Exit }];
    for (ended, patience_ms) in [(0, 5_000), (1, 10_000), (2, 20_000), (6, 320_000), (60, 320_000)] {
        let closing = Closing { failures: ended, ..closing() };
        book.closing.insert(position, closing);
        let mut overdue = Overdue::default();
        overdue.look(&book, &POLICY, at(0));
        assert_eq!(overdue.look(&book, &POLICY, at(patience_ms - 1)), [], "after {ended}");
        assert_eq!(overdue.look(&book, &POLICY, at(patience_ms)), late, "after {ended}");
    }
}

#[test]
fn an_entry_has_longer_and_no_switch_keeps_it() {
    let (book, id) = book(IntentState::PartiallyFilled, OrderClass::Entry, 3);
    let mut overdue = Overdue::default();
    assert_eq!(overdue.look(&book, &POLICY, at(0)), []);
    assert_eq!(overdue.look(&book, &POLICY, at(29_999)), []);
    assert_eq!(overdue.look(&book, &POLICY, at(30_000)), [Late { id, class: OrderClass::Operator }]);
}

#[test]
fn what_is_not_known_to_be_at_the_broker_or_cannot_fill_is_left_alone() {
    for state in [IntentState::Journaled, IntentState::InDoubt] {
        let (book, _) = book(state, OrderClass::Exit, 0);
        let mut overdue = Overdue::default();
        overdue.look(&book, &POLICY, at(0));
        assert_eq!(overdue.look(&book, &POLICY, at(3_600_000)), [], "{state}");
    }
    let (mut book, id) = book(IntentState::Acknowledged, OrderClass::Exit, 0);
    book.closed.insert(book.intents[&id].intent.order.exchange.clone());
    let mut overdue = Overdue::default();
    overdue.look(&book, &POLICY, at(0));
    assert_eq!(overdue.look(&book, &POLICY, at(3_600_000)), [], "the exchange is closed");
}

// What is sold in a closing auction fills at its end; what was to be bought is not wanted at a price that is not made yet.
#[test]
fn in_a_closing_auction_an_exit_waits_for_its_end_and_an_entry_does_not() {
    for (class, expected) in [(OrderClass::Exit, 0), (OrderClass::Entry, 1)] {
        let (mut book, id) = book(IntentState::Acknowledged, class, 0);
        let order = &book.intents[&id].intent.order;
        book.auctions.insert(Listing::new(&order.exchange, &order.symbol));
        let mut overdue = Overdue::default();
        overdue.look(&book, &POLICY, at(0));
        assert_eq!(overdue.look(&book, &POLICY, at(60_000)).len(), expected, "{class}");
    }
}

#[test]
fn the_book_knows_which_held_shares_are_said_to_be_in_their_auction() {
    let share = |name: &str, closing_auction| Instrument {
        name: name.to_owned(),
        exchange: "NSE".to_owned(),
        closing_auction,
        ..fixtures::instrument("GOLD_MINI")
    };
    let said = [("LISTED", Some(true)), ("PLAIN", Some(false)), ("UNSAID", None)];
    let catalog = Catalog::of(said.map(|(name, closing_auction)| share(name, closing_auction)));
    let held = |name: &str| Position {
        instrument: name.to_owned(),
        symbol: name.to_owned(),
        exchange: "NSE".to_owned(),
        ..fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(900), 1)
    };
    let mut book = Book::default();
    book.portfolio.positions = ["LISTED", "PLAIN", "UNSAID", "UNKNOWN"].map(held).to_vec();
    let noted = |book: &mut Book, time: &str| {
        book.note_auctions(&catalog, format!("2026-08-05T{time}:00+05:30").parse().unwrap());
        book.auctions.iter().map(|listing| listing.symbol.clone()).collect::<Vec<_>>()
    };
    assert_eq!(noted(&mut book, "15:14"), [] as [&str; 0]);
    assert_eq!(noted(&mut book, "15:15"), ["LISTED"]);
    assert_eq!(noted(&mut book, "15:35"), [] as [&str; 0]);
}
