//! Signals' ends and what late fills make.

use rust_decimal::dec;

use super::desk::{Desk, entry, order, signal, trade};
use crate::broker::OrderStatus;
use crate::domain::exit::ExitRequest;
use crate::domain::fixtures;
use crate::domain::intent::OrderIntent;
use crate::domain::label::Target;
use crate::domain::money::Quantity;
use crate::domain::order::IntentState;
use crate::domain::position::PositionStatus;
use crate::ledger::inbox::SignalStatus;

fn sold(desk: &mut Desk, exit: &OrderIntent, id: &str, units: i64) {
    if desk.state(exit.id) == IntentState::Journaled {
        desk.outcome(exit.id, IntentState::Acknowledged, Some(id));
        desk.show(order(id, exit, OrderStatus::Open));
    }
    desk.books.trades.push(trade(id, exit, units, dec!(1100)));
    desk.read(20);
}

#[test]
fn an_exit_of_two_legs_is_executed_when_both_are_flat() {
    let mut desk = Desk::new();
    let (base, top) = (desk.bought(1, 1, 900), desk.bought(2, 2, 400));
    let legs = [desk.exit(3, 0, top.position), desk.exit(3, 1, base.position)];
    assert!(desk.journal(&legs[0]) && desk.journal(&legs[1]));
    sold(&mut desk, &legs[0], "S0", 400);
    assert_eq!(desk.rows.signals[&signal(3)], SignalStatus::Working);
    // The second leg is refused: it is owed as a new attempt, later.
    desk.outcome(legs[1].id, IntentState::Rejected, None);
    assert_eq!(desk.rows.signals[&signal(3)], SignalStatus::Working);
    let retry = desk.due_exit(base.position).unwrap();
    assert_eq!((retry.leg, retry.attempt, retry.order.quantity), (1, 1, Quantity(900)));
    assert!(desk.journal(&retry));
    sold(&mut desk, &retry, "S2", 500);
    assert_eq!(desk.rows.signals[&signal(3)], SignalStatus::Working);
    sold(&mut desk, &retry, "S2", 400);
    assert_eq!(desk.rows.signals[&signal(3)], SignalStatus::Executed);
    assert_eq!(desk.rows.held(), 0);
    // 1 300 units of a 100-unit lot, 100 points, 10 rupees a point.
    assert_eq!(desk.book.closed_equity(), super::desk::CAPITAL + crate::domain::money::Rupees(dec!(13_000)));
}

#[test]
fn an_exit_owed_a_leg_ends_when_another_order_closes_that_position() {
    let mut desk = Desk::new();
    let (base, top) = (desk.bought(1, 1, 900), desk.bought(2, 2, 400));
    // An earlier exit of the base was abandoned; a later EXIT ALL has one leg out and the base's still owed.
    let lost = desk.exit(3, 0, base.position);
    assert!(desk.journal(&lost));
    desk.outcome(lost.id, IntentState::InDoubt, None);
    desk.read(60_000);
    assert_eq!(desk.state(lost.id), IntentState::Abandoned);
    let leg = desk.exit(4, 0, top.position);
    assert!(desk.journal(&leg));
    desk.book.closing.remove(&base.position);
    desk.book.close_for(signal(4), base.position, super::desk::at(desk.now));
    sold(&mut desk, &leg, "S4", 400);
    assert_eq!(desk.rows.signals[&signal(4)], SignalStatus::Working);
    desk.show(order("S3", &lost, OrderStatus::Complete));
    desk.books.trades.push(trade("S3", &lost, 900, dec!(1100)));
    desk.read(20);
    assert_eq!(desk.rows.held(), 0);
    assert_eq!(desk.rows.signals[&signal(4)], SignalStatus::Executed, "nothing is left to do for it");
}

#[test]
fn late_fills_of_a_position_that_was_closed_are_closed_at_once_again_and_again() {
    let mut desk = Desk::new();
    let bought = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&bought));
    desk.outcome(bought.id, IntentState::Acknowledged, Some("B1"));
    desk.books.trades.push(trade("B1", &bought, 300, dec!(1000)));
    desk.read(20);
    let exit = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&exit));
    sold(&mut desk, &exit, "S2", 300);
    assert_eq!(desk.rows.held(), 0);
    for _ in 0..2 {
        desk.books.trades.push(trade("B1", &bought, 300, dec!(1000)));
        desk.read(20);
    }
    assert_eq!((desk.state(bought.id), desk.rows.held()), (IntentState::Filled, 600));
    let held: Vec<_> =
        desk.rows.positions.values().filter(|p| p.is_held()).map(|p| (p.id, p.status)).collect();
    assert!(held.iter().all(|(_, status)| *status == PositionStatus::Closing));
    desk.restart();
    for (id, _) in held {
        assert!(desk.due_exit(id).is_some());
    }
}

#[test]
fn a_signal_ends_as_its_order_did() {
    for (state, status) in
        [(IntentState::Rejected, SignalStatus::Rejected), (IntentState::NotSent, SignalStatus::NotSent)]
    {
        let mut desk = Desk::new();
        let intent = entry(&desk.book, 1, 1, 900);
        assert!(desk.journal(&intent));
        desk.outcome(intent.id, state, None);
        assert_eq!(desk.rows.signals[&signal(1)], status);
        assert!(desk.book.intents.is_empty() && desk.book.working.is_empty(), "nothing is kept of it");
    }
}

#[test]
fn ended_orders_are_watched_for_a_day_and_then_forgotten() {
    let mut desk = Desk::new();
    let intent = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&intent));
    desk.outcome(intent.id, IntentState::InDoubt, None);
    desk.read(60_000);
    assert!(desk.book.intents.contains_key(&intent.id));
    desk.now += 24 * 3_600_000;
    desk.bought(2, 1, 100);
    assert!(!desk.book.intents.contains_key(&intent.id));
}

#[test]
fn an_exit_marks_the_entries_it_means_and_no_others() {
    let mut desk = Desk::new();
    let bought = entry(&desk.book, 5, 2, 900);
    assert!(desk.journal(&bought));
    let meant = |target, strategy, minute, seq| {
        let exit =
            ExitRequest { instrument: "GOLD_MINI", strategy, target, bar_time: fixtures::at(minute), seq };
        !desk.book.entries_meant(&exit).is_empty()
    };
    let label = |n| Target::One(crate::domain::label::Label::new(n).unwrap());
    assert!(meant(Target::All, Some("default"), 6, 6) && meant(label(2), None, 5, 6));
    assert!(!meant(label(1), None, 6, 6), "another label");
    assert!(!meant(Target::All, Some("other"), 6, 6), "another strategy");
    assert!(!meant(Target::All, None, 4, 6) && !meant(Target::All, None, 5, 4), "an earlier EXIT");
}
