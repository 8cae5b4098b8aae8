//! Positions of more units than one order may have.

use std::sync::Arc;

use rust_decimal::dec;

use super::desk::{Desk, at, order, signal, trade};
use crate::broker::OrderStatus;
use crate::domain::cause::ExitCause;
use crate::domain::contract::{Contract, Contracts};
use crate::domain::fixtures;
use crate::domain::ids::PositionId;
use crate::domain::intent::OrderIntent;
use crate::domain::listing::Listing;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::IntentState;
use crate::engine::book::Book;
use crate::ledger::inbox::SignalStatus;

/// Today's data says that an order of GOLD_MINI has at most so many units.
pub(super) fn freezes(book: &mut Book, units: i64) {
    let gold = fixtures::instrument("GOLD_MINI");
    let mut contracts = Contracts::new(chrono::NaiveDate::from_ymd_opt(2025, 11, 25).unwrap());
    let contract = Contract {
        lot_size: gold.lot_size,
        tick: gold.tick,
        freeze_qty: Some(Quantity(units)),
        expiry: None,
    };
    contracts.extend([(Listing::new(gold.exchange, gold.symbol), contract)]);
    book.contracts = Some(Arc::new(contracts));
}

/// A desk that holds 900 units, of which an order has at most 450: four lots.
fn desk() -> (Desk, PositionId) {
    let mut desk = Desk::new();
    let held = desk.bought(1, 1, 900).position;
    freezes(&mut desk.book, 450);
    (desk, held)
}

/// The exit that is due at this moment is sent, and the broker has it.
fn sent(desk: &mut Desk, held: PositionId, id: &str) -> OrderIntent {
    let closing = &desk.book.closing[&held];
    assert!(closing.not_before <= at(desk.now), "it is due");
    let exit = desk.due_exit(held).unwrap();
    assert!(desk.journal(&exit));
    assert!(desk.due_exit(held).is_none(), "one at a time");
    desk.outcome(exit.id, IntentState::Acknowledged, Some(id));
    exit
}

/// It sells so much; whole, it is complete, and otherwise cancelled.
fn sells(desk: &mut Desk, exit: &OrderIntent, id: &str, units: i64) {
    let whole = exit.order.quantity == Quantity(units);
    desk.show(order(id, exit, if whole { OrderStatus::Complete } else { OrderStatus::Cancelled }));
    if units > 0 {
        desk.books.trades.push(trade(id, exit, units, dec!(950)));
    }
    // Behind another row that says the same an end is believed late.
    desk.read(20);
    desk.read(21_000);
}

/// Sells what is left, each order whole; gives their units.
fn sold_out(desk: &mut Desk, held: PositionId, name: &str) -> Vec<i64> {
    let mut orders = Vec::new();
    while desk.book.position(held).is_some() {
        let id = format!("{name}{}", orders.len());
        let exit = sent(desk, held, &id);
        let units = exit.order.quantity.0;
        sells(desk, &exit, &id, units);
        orders.push(units);
    }
    orders
}

fn sold(desk: &Desk) -> i64 {
    let exits = desk.rows.intents.values().filter(|intent| intent.is_exit());
    exits.map(|intent| intent.filled.0).sum()
}

// R: B8
#[test]
fn what_is_more_than_one_order_takes_is_sold_in_several_one_after_the_other() {
    let (mut desk, held) = desk();
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(desk.now)));
    assert_eq!(sold_out(&mut desk, held, "S"), [400, 400, 100]);
    assert_eq!((sold(&desk), desk.rows.held()), (900, 0));
}

// R: B8: the signal is at work until all of it is sold.
#[test]
fn an_exit_signal_ends_with_its_last_slice() {
    let (mut desk, held) = desk();
    let first = desk.exit(2, 0, held);
    assert_eq!(first.order.quantity, Quantity(400));
    assert!(desk.journal(&first));
    desk.outcome(first.id, IntentState::Acknowledged, Some("S"));
    sells(&mut desk, &first, "S", 400);
    assert_eq!(desk.rows.signals[&signal(2)], SignalStatus::Working);
    assert_eq!((desk.book.closing[&held].failures, desk.book.closing[&held].next_attempt), (0, 1));
    assert_eq!(sold_out(&mut desk, held, "R"), [400, 100]);
    assert_eq!(desk.rows.signals[&signal(2)], SignalStatus::Executed);
    assert_eq!(desk.rows.held(), 0);
}

// A slice that sells in part and is cancelled is a failure, as every such exit; one that sells whole ends the row of them.
#[test]
fn only_a_slice_that_does_not_sell_makes_the_next_one_wait() {
    let (mut desk, held) = desk();
    assert!(desk.book.close_by(held, ExitCause::Operator, "asha: news".to_owned(), at(desk.now)));
    let exit = sent(&mut desk, held, "P");
    sells(&mut desk, &exit, "P", 250);
    assert_eq!(desk.book.closing[&held].failures, 1);
    desk.now += 60_000;
    let exit = sent(&mut desk, held, "Q");
    assert_eq!(exit.order.quantity, Quantity(400), "of the 650 that are left");
    sells(&mut desk, &exit, "Q", 400);
    let closing = &desk.book.closing[&held];
    assert_eq!((closing.failures, closing.not_before <= at(desk.now)), (0, true));
    assert_eq!(sold_out(&mut desk, held, "R"), [250]);
    assert_eq!((sold(&desk), desk.rows.held()), (900, 0));
}

// R: S15: whoever takes over goes by what the books have sold, also of the slice that was on its way.
#[test]
fn a_leader_that_dies_at_any_slice_leaves_the_rest_to_the_next_one() {
    for dies_at in 0..6 {
        let (mut desk, held) = desk();
        assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(desk.now)));
        let takes_over = |desk: &mut Desk, step: usize| {
            if step == dies_at {
                desk.restart();
            }
        };
        let mut step = 0;
        for id in ["A", "B"] {
            let exit = sent(&mut desk, held, id);
            takes_over(&mut desk, step);
            desk.show(order(id, &exit, OrderStatus::Complete));
            desk.books.trades.push(trade(id, &exit, 400, dec!(950)));
            desk.read(20);
            takes_over(&mut desk, step + 1);
            desk.read(21_000);
            assert_eq!(desk.state(exit.id), IntentState::Filled);
            takes_over(&mut desk, step + 2);
            step += 3;
        }
        assert_eq!(sold_out(&mut desk, held, "C"), [100], "at step {dies_at}");
        assert_eq!((sold(&desk), desk.rows.held()), (900, 0));
    }
}

// R: B3: nobody knows whether it sold: nothing follows before that is known.
#[test]
fn a_slice_in_doubt_keeps_the_next_one_back() {
    let (mut desk, held) = desk();
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(desk.now)));
    let exit = desk.due_exit(held).unwrap();
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::InDoubt, None);
    desk.restart();
    assert!(desk.due_exit(held).is_none());
    desk.show(order("L", &exit, OrderStatus::Complete));
    desk.books.trades.push(trade("L", &exit, 400, dec!(950)));
    desk.read(20);
    desk.read(21_000);
    assert_eq!(sold_out(&mut desk, held, "M"), [400, 100]);
    assert_eq!((sold(&desk), desk.rows.held()), (900, 0));
}

#[test]
fn without_a_limit_all_is_one_order() {
    let (mut desk, held) = desk();
    desk.book.contracts = None;
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(desk.now)));
    assert_eq!(desk.due_exit(held).unwrap().order.quantity, Quantity(900));
    assert_eq!(desk.due_exit(held).unwrap().order.price, Price::ZERO);
}
