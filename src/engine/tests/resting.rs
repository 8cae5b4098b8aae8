//! Stops that rest at the broker, over the desk: they leave their position open, keep every other exit of its units away,
//! and close it by their fills, whoever leads by then.

use rust_decimal::dec;

use super::desk::{Desk, at, order, rules, trade};
use crate::broker::OrderStatus;
use crate::domain::cause::ExitCause;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::IntentState;
use crate::domain::position::PositionStatus;
use crate::domain::resting::Level;
use crate::engine::intents::resting_stop;

const LEVEL: Level = Level { trigger: Price(dec!(900)), limit: Price(dec!(880)) };

/// A position of 100 units with a stop over `units` of it, which rests as order `S`.
fn resting(units: i64) -> (Desk, OrderIntent) {
    let mut desk = Desk::new();
    let entry = desk.bought(1, 1, 100);
    let position = desk.book.position(entry.position).unwrap();
    let stop = resting_stop(&rules(), &desk.book, position, Quantity(units), LEVEL);
    assert!(desk.journal(&stop));
    desk.outcome(stop.id, IntentState::Acknowledged, Some("S"));
    desk.show(order("S", &stop, OrderStatus::TriggerPending));
    desk.read(20);
    (desk, stop)
}

#[test]
fn a_resting_stop_leaves_its_position_open_and_is_no_exit_under_way() {
    let (mut desk, stop) = resting(100);
    let position = desk.book.position(stop.position).unwrap();
    assert_eq!((position.status, position.exit_cause), (PositionStatus::Open, None));
    assert!(desk.book.closing.is_empty() && !desk.book.exit_is_out(stop.position));
    assert_eq!(desk.book.resting().count(), 1);
    assert!(!desk.book.wants_books(), "the books have nothing new to say of it");
    desk.restart();
    assert_eq!(desk.book.resting().count(), 1);
    assert!(desk.book.closing.is_empty());
    assert_eq!(desk.state(stop.id), IntentState::Acknowledged);
}

// R: S15
#[test]
fn no_exit_of_its_units_is_taken_before_a_stop_has_ended() {
    for state in [IntentState::Journaled, IntentState::InDoubt, IntentState::Acknowledged] {
        let mut desk = Desk::new();
        let entry = desk.bought(1, 1, 100);
        let position = desk.book.position(entry.position).unwrap();
        let stop = resting_stop(&rules(), &desk.book, position, Quantity(100), LEVEL);
        assert!(desk.journal(&stop));
        if state != IntentState::Journaled {
            desk.outcome(stop.id, state, (state == IntentState::Acknowledged).then_some("S"));
        }
        let exit = desk.exit(7, 0, entry.position);
        assert!(!desk.journal(&exit), "{state}");
        desk.book.close_by(entry.position, ExitCause::Operator, "asha".to_owned(), at(desk.now));
        let exit = desk.due_exit(entry.position).expect("a stop does not hide that an exit is due");
        assert!(!desk.journal(&exit), "{state}: not for an operator either");
    }
}

#[test]
fn a_stop_that_is_cancelled_makes_room_at_once_and_is_no_failed_exit() {
    let (mut desk, stop) = resting(100);
    desk.book.close_by(stop.position, ExitCause::Signal, "out".to_owned(), at(desk.now + 60_000));
    desk.show(order("S", &stop, OrderStatus::Cancelled));
    desk.read(20);
    desk.read(1_000);
    assert_eq!(desk.state(stop.id), IntentState::Cancelled);
    let closing = &desk.book.closing[&stop.position];
    assert_eq!((closing.failures, closing.not_before), (0, at(desk.now)));
    let exit = desk.due_exit(stop.position).unwrap();
    assert!(desk.journal(&exit));
    assert_eq!(desk.book.position(stop.position).unwrap().status, PositionStatus::Closing);
}

#[test]
fn a_stops_fills_close_its_position_for_its_reason_also_after_a_takeover() {
    let (mut desk, stop) = resting(100);
    desk.restart();
    desk.books.trades.push(trade("S", &stop, 40, dec!(899)));
    desk.show(order("S", &stop, OrderStatus::Open));
    desk.read(20);
    let position = desk.book.position(stop.position).unwrap();
    assert_eq!((position.quantity, position.status), (Quantity(60), PositionStatus::Open));
    assert!(desk.book.wants_books(), "the rest may sell any moment");
    // The price goes on falling: the leader wants to sell, and is not let while the rest of the stop may.
    desk.book.close_by(stop.position, ExitCause::StopLoss, "899".to_owned(), at(desk.now));
    let exit = desk.due_exit(stop.position).unwrap();
    assert_eq!(exit.order.quantity, Quantity(60));
    assert!(!desk.journal(&exit));
    desk.books.trades.push(trade("S", &stop, 60, dec!(898)));
    desk.show(order("S", &stop, OrderStatus::Complete));
    desk.read(20);
    assert_eq!(desk.rows.positions[&stop.position].exit_cause, Some(ExitCause::StopLoss));
    assert_eq!(desk.rows.positions[&stop.position].status, PositionStatus::Closed);
    assert!(desk.book.closing.is_empty() && desk.book.position(stop.position).is_none());
}

#[test]
fn an_exit_that_the_stop_was_faster_than_ends_with_its_position() {
    let (mut desk, stop) = resting(60);
    // Forty units are nobody's, so the exit is out beside the stop, and ends unfilled.
    let mut exit = desk.exit(7, 0, stop.position);
    exit.order.quantity = Quantity(40);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Rejected, None);
    desk.books.trades.push(trade("S", &stop, 60, dec!(899)));
    desk.show(order("S", &stop, OrderStatus::Complete));
    desk.read(20);
    let due = desk.due_exit(stop.position).unwrap();
    assert_eq!(due.order.quantity, Quantity(40), "what the stop has left");
    assert!(desk.journal(&due));
}

// The exchange ends its orders with the day; nobody need look such an order up.
#[test]
fn a_stop_of_yesterday_that_no_book_shows_has_ended_and_is_not_called_unseen() {
    let (mut desk, stop) = resting(100);
    desk.books.orders.clear();
    desk.read(5_000);
    assert_eq!(desk.state(stop.id), IntentState::Acknowledged, "today a missing row proves nothing");
    desk.day = desk.day.succ_opt().unwrap();
    desk.verified = false;
    desk.read(5_000);
    desk.read(5_000);
    assert_eq!(desk.state(stop.id), IntentState::Acknowledged, "nor does a book of a dead session");
    desk.verified = true;
    desk.read(20);
    let findings = desk.read(1_000);
    assert_eq!(desk.state(stop.id), IntentState::Cancelled);
    assert!(findings.unseen.is_empty());
}
