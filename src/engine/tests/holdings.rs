//! What exits may sell of what the broker's book holds.

use std::time::Duration;

use rust_decimal::dec;

use super::desk::{at, entry, rules};
use crate::broker::BrokerPosition;
use crate::domain::cause::ExitCause;
use crate::domain::fixtures;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::IntentState;
use crate::domain::position::{HoldingKey, Position};
use crate::engine::book::Book;
use crate::engine::holdings::{Allowed, Holdings};
use crate::engine::intents::exit_order;

fn book() -> Book {
    let mut book = Book::default();
    for label in [1, 2] {
        let position = fixtures::position("GOLD_MINI", label, 2, dec!(1000), dec!(900), i64::from(label));
        book.portfolio.positions.push(position);
    }
    book
}

fn exits(book: &Book) -> Vec<OrderIntent> {
    let exit =
        |position: &Position| exit_order(&rules(), book, position, position.quantity, ExitCause::Signal);
    book.portfolio.positions.iter().map(exit).collect()
}

fn reading(book: &Book, units: i64) -> Vec<BrokerPosition> {
    let position = &book.portfolio.positions[0];
    vec![BrokerPosition {
        symbol: position.symbol.clone(),
        exchange: position.exchange.clone(),
        product: Some(position.product),
        quantity: Quantity(units),
        average_price: Price::ZERO,
        last_price: None,
        pnl: None,
    }]
}

fn judged(holdings: &mut Holdings, book: &Book, exits: &[OrderIntent], ms: u64) -> Vec<Allowed> {
    let verdicts = holdings.judge(book, exits, at(ms));
    exits.iter().map(|intent| verdicts[&intent.id]).collect()
}

fn lots(lots: i64) -> Allowed {
    Allowed::Units(fixtures::instrument("GOLD_MINI").lot_size.0.checked_mul(lots).map(Quantity).unwrap())
}

fn units(lots: i64) -> i64 {
    fixtures::instrument("GOLD_MINI").lot_size.0 * lots
}

#[test]
fn without_a_reading_nothing_is_known_and_nothing_is_sold() {
    let book = book();
    let exits = exits(&book);
    let mut holdings = Holdings::default();
    assert_eq!(judged(&mut holdings, &book, &exits, 0), [Allowed::Unknown, Allowed::Unknown]);
    holdings.came(&reading(&book, units(4)), at(1000), at(1000));
    assert_eq!(judged(&mut holdings, &book, &exits, 1000), [lots(2), lots(2)]);
    // Used, and then stale.
    assert_eq!(judged(&mut holdings, &book, &exits, 1000), [Allowed::Unknown, Allowed::Unknown]);
    holdings.came(&reading(&book, units(4)), at(1000), at(1000));
    let late = 1000 + u64::try_from(Duration::from_secs(3).as_millis()).unwrap();
    assert_eq!(judged(&mut holdings, &book, &exits, late), [Allowed::Unknown, Allowed::Unknown]);
}

// R: "repeated EXIT opened a short"
#[test]
fn a_reading_from_before_a_trade_allows_no_exit() {
    let book = book();
    let exits = exits(&book);
    let key = exits[0].order.clone();
    let key = HoldingKey { symbol: key.symbol, exchange: key.exchange, product: key.product };
    let mut holdings = Holdings::default();
    holdings.came(&reading(&book, units(4)), at(5), at(6));
    holdings.traded(key, at(7));
    assert_eq!(judged(&mut holdings, &book, &exits[..1], 8), [Allowed::Unknown]);
    // It may show what was sold meanwhile, or not.
    holdings.came(&reading(&book, units(4)), at(6), at(9));
    assert_eq!(judged(&mut holdings, &book, &exits[..1], 9), [Allowed::Unknown]);
    holdings.came(&reading(&book, units(4)), at(8), at(10));
    assert_eq!(judged(&mut holdings, &book, &exits[..1], 10), [lots(2)]);
}

// R: "repeated EXIT opened a short"
#[test]
fn exits_of_one_contract_share_what_the_broker_holds() {
    let book = book();
    let exits = exits(&book);
    for (held, allowed) in [
        (3, [lots(2), lots(1)]),
        (2, [lots(2), Allowed::Nothing]),
        (1, [lots(1), Allowed::Nothing]),
        (0, [Allowed::Nothing, Allowed::Nothing]),
        (-4, [Allowed::Nothing, Allowed::Nothing]),
    ] {
        let mut holdings = Holdings::default();
        holdings.came(&reading(&book, units(held)), at(0), at(0));
        assert_eq!(judged(&mut holdings, &book, &exits, 0), allowed, "{held} lots held");
    }
    let mut holdings = Holdings::default();
    holdings.came(&[], at(0), at(0));
    assert_eq!(judged(&mut holdings, &book, &exits, 0), [Allowed::Nothing, Allowed::Nothing]);
}

#[test]
fn what_other_exits_may_still_sell_is_not_sold_again() {
    let mut book = book();
    let mut exits = exits(&book);
    let mut other = exits.remove(0);
    other.state = IntentState::InDoubt;
    book.plan(other.clone(), at(0));
    let mut holdings = Holdings::default();
    holdings.came(&reading(&book, units(2)), at(0), at(0));
    assert_eq!(judged(&mut holdings, &book, &exits, 0), [Allowed::Nothing]);
    // Ended, it sells no more.
    other.state = IntentState::Cancelled;
    book.plan(other, at(0));
    holdings.came(&reading(&book, units(2)), at(1), at(2));
    assert_eq!(judged(&mut holdings, &book, &exits, 2), [lots(2)]);
}

// R: "repeated EXIT opened a short"
#[test]
fn a_reading_that_was_on_its_way_when_an_exit_was_allowed_allows_no_other() {
    let book = book();
    let exits = exits(&book);
    let mut holdings = Holdings::default();
    holdings.came(&reading(&book, units(2)), at(0), at(10));
    assert_eq!(judged(&mut holdings, &book, &exits[..1], 20), [lots(2)]);
    // What it shows may be sold by then.
    holdings.came(&reading(&book, units(2)), at(15), at(30));
    assert_eq!(judged(&mut holdings, &book, &exits[1..], 30), [Allowed::Unknown]);
    holdings.came(&reading(&book, units(2)), at(40), at(50));
    assert_eq!(judged(&mut holdings, &book, &exits[1..], 50), [lots(2)]);
}

#[test]
fn an_entry_goes_on_by_a_reading_that_was_begun_after_its_end_and_holds_what_the_ledger_does() {
    let book = book();
    let ended = entry(&book, 9, 3, 100);
    let mut holdings = Holdings::default();
    assert_eq!(holdings.agree(&book, &ended, at(0), at(90)), None, "nothing was read");
    holdings.came(&reading(&book, units(4)), at(10), at(90));
    assert_eq!(holdings.agree(&book, &ended, at(11), at(90)), None, "a fill may have come since");
    assert_eq!(holdings.agree(&book, &ended, at(10), at(90)), Some(true));
    assert_eq!(holdings.agree(&book, &ended, at(10), at(2_010)), Some(true));
    assert_eq!(holdings.agree(&book, &ended, at(10), at(2_011)), None, "one that waited is read again");
    for held in [vec![], reading(&book, units(5)), reading(&book, units(3))] {
        holdings.came(&held, at(20), at(90));
        assert_eq!(holdings.agree(&book, &ended, at(10), at(90)), Some(false));
    }
}
