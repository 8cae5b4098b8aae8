//! Orders of one entry that come late, beside each other, or not at all.

use rust_decimal::dec;

use super::bids::{cancelled, desk, rest};
use super::desk::{ABSENT_MS, Desk, SEND_MS, at, entry, order, signal, trade};
use crate::broker::OrderStatus;
use crate::domain::cause::ExitCause;
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::IntentState;
use crate::domain::position::PositionStatus;
use crate::ledger::inbox::SignalStatus;

/// The desk after a bid that bought nothing was cancelled, the rest bought all of it, and all of it was sold: the bid and
/// the rest.
fn sold_again() -> (Desk, OrderIntent, OrderIntent) {
    let (mut desk, bid) = desk(true);
    cancelled(&mut desk, &bid);
    let rest = rest(&desk);
    assert!(desk.journal(&rest));
    desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
    desk.show(order("R", &rest, OrderStatus::Complete));
    desk.books.trades.push(trade("R", &rest, 100, dec!(1010)));
    desk.read(20);
    assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Executed);
    desk.book.close_by(bid.position, ExitCause::StopLoss, "900".to_owned(), at(desk.now));
    let exit = desk.due_exit(bid.position).unwrap();
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Acknowledged, Some("S"));
    desk.show(order("S", &exit, OrderStatus::Complete));
    desk.books.trades.push(trade("S", &exit, 100, dec!(900)));
    desk.read(20);
    assert_eq!(desk.rows.held(), 0);
    (desk, bid, rest)
}

// R: S16: a position that is over is not opened again, whatever the leader remembers of it.
#[test]
fn a_bid_that_fills_after_its_position_was_sold_opens_another_to_be_closed() {
    for remembers in ["all", "what a takeover reads", "only the bid"] {
        let (mut desk, bid, rest) = sold_again();
        match remembers {
            "all" => {}
            "only the bid" => drop(desk.book.intents.remove(&rest.id)),
            _ => desk.restart(),
        }
        assert_eq!(desk.book.intents.contains_key(&rest.id), remembers != "only the bid");
        for (filled, late) in [(60, 1), (40, 2)] {
            desk.books.trades.push(trade("L", &bid, filled, dec!(1000)));
            desk.read(20);
            let held: Vec<_> = desk.rows.positions.values().filter(|position| position.is_held()).collect();
            assert_eq!(
                held.iter().map(|held| held.quantity.0).sum::<i64>(),
                if late == 1 { 60 } else { 100 }
            );
            assert!(
                held.iter().all(|held| held.status == PositionStatus::Closing && held.id != bid.position)
            );
        }
    }
}

// The rest is on its way, and nothing is held yet: what the bid fills late is closed, and so is what the rest fills.
#[test]
fn a_bid_that_fills_before_its_rest_does_is_no_damage() {
    for takeover in [false, true] {
        let (mut desk, bid) = desk(true);
        cancelled(&mut desk, &bid);
        let rest = rest(&desk);
        assert!(desk.journal(&rest));
        desk.outcome(rest.id, IntentState::Acknowledged, Some("R"));
        desk.show(order("R", &rest, OrderStatus::Open));
        desk.books.trades.push(trade("L", &bid, 100, dec!(1000)));
        desk.read(20);
        if takeover {
            desk.restart();
        }
        desk.show(order("R", &rest, OrderStatus::Complete));
        desk.books.trades.push(trade("R", &rest, 100, dec!(1010)));
        desk.read(20);
        let held: Vec<_> = desk.rows.positions.values().filter(|position| position.is_held()).collect();
        assert_eq!(desk.rows.held(), 200);
        assert!(held.iter().all(|held| held.status == PositionStatus::Closing), "{held:?}");
        assert!(held.iter().all(|held| desk.book.closing.contains_key(&held.id)));
    }
}

// R: S6: what was told as given up and is found after all is not kept, not even beside what the entry holds.
#[test]
fn a_rest_that_appears_after_it_was_given_up_closes_its_position() {
    for takeover in [false, true] {
        let (mut desk, bid) = desk(true);
        desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
        desk.read(20);
        cancelled(&mut desk, &bid);
        let rest = rest(&desk);
        assert!(desk.journal(&rest));
        desk.outcome(rest.id, IntentState::InDoubt, None);
        desk.read(SEND_MS + ABSENT_MS + 1);
        desk.read(1_000);
        assert_eq!(desk.state(rest.id), IntentState::Abandoned);
        assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Executed);
        if takeover {
            desk.restart();
        }
        assert_eq!(desk.book.position(bid.position).unwrap().status, PositionStatus::Open);
        desk.show(order("R", &rest, OrderStatus::Complete));
        desk.books.trades.push(trade("R", &rest, 60, dec!(1010)));
        desk.read(20);
        let held = desk.book.position(bid.position).unwrap();
        assert_eq!((held.quantity, held.status), (Quantity(100), PositionStatus::Closing));
        assert_eq!(held.exit_cause, Some(ExitCause::LateFill));
    }
}

