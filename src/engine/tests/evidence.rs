//! What the broker's books prove, and what they do not.

use rust_decimal::dec;

use super::desk::{ABSENT_MS, Desk, SEND_MS, entry, order, signal, trade};
use crate::broker::{ForeignRow, OrderStatus};
use crate::domain::ids::IntentId;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::IntentState;
use crate::domain::position::PositionStatus;
use crate::ledger::inbox::SignalStatus;

/// An acknowledged entry for 900 units, order `B1`.
fn acknowledged() -> (Desk, IntentId) {
    let mut desk = Desk::new();
    let intent = entry(&desk.book, 1, 1, 900);
    assert!(desk.journal(&intent));
    desk.outcome(intent.id, IntentState::Acknowledged, Some("B1"));
    desk.show(order("B1", &intent, OrderStatus::Open));
    (desk, intent.id)
}

/// An entry in doubt; nothing in the books.
fn doubted(n: u128, label: u8, units: i64, desk: &mut Desk) -> IntentId {
    let intent = entry(&desk.book, n, label, units);
    assert!(desk.journal(&intent));
    desk.outcome(intent.id, IntentState::InDoubt, None);
    intent.id
}

#[test]
fn fills_are_the_sum_of_the_trades_and_complete_alone_proves_nothing() {
    let (mut desk, id) = acknowledged();
    let intent = desk.book.intents[&id].intent.clone();
    desk.show(order("B1", &intent, OrderStatus::Complete));
    for _ in 0..5 {
        desk.read(5_000);
    }
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Acknowledged, 0));
    desk.books.trades.push(trade("B1", &intent, 300, dec!(1000)));
    desk.read(20);
    desk.books.trades.push(trade("B1", &intent, 600, dec!(1003)));
    desk.read(20);
    desk.read(20);
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Filled, 900));
    let fill = &desk.rows.fills[&(id, 900)];
    assert_eq!((fill.quantity, fill.price), (Quantity(600), Price(dec!(1003))));
    assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Executed);
}

#[test]
fn an_end_counts_after_a_second_of_the_same_word() {
    for end in [OrderStatus::Cancelled, OrderStatus::Rejected] {
        let (mut desk, id) = acknowledged();
        let intent = desk.book.intents[&id].intent.clone();
        desk.show(order("B1", &intent, end));
        desk.read(20);
        desk.read(20);
        desk.read(40);
        assert_eq!(desk.state(id), IntentState::Acknowledged, "an order in transit shows another's status");
        desk.show(order("B1", &intent, OrderStatus::Open));
        desk.read(2_000);
        desk.show(order("B1", &intent, OrderStatus::Cancelled));
        desk.read(20);
        assert_eq!(desk.state(id), IntentState::Acknowledged, "the word was broken: counted anew");
        desk.read(1_000);
        assert_eq!(desk.state(id), IntentState::Cancelled);
        assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Rejected);
    }
}

// Zerodha's plugin shows an order in transit, for up to 12 s, with the status of the row before it.
#[test]
fn an_exit_in_transit_behind_one_that_was_refused_is_not_taken_for_refused() {
    let mut desk = Desk::new();
    let bought = desk.bought(1, 1, 900);
    let first = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&first));
    desk.outcome(first.id, IntentState::Acknowledged, Some("S1"));
    desk.show(order("S1", &first, OrderStatus::Rejected));
    desk.read(20);
    desk.read(1_000);
    assert_eq!(desk.state(first.id), IntentState::Rejected, "the row before it is complete: its own word");
    let second = desk.due_exit(bought.position).unwrap();
    assert!(desk.journal(&second));
    desk.outcome(second.id, IntentState::Acknowledged, Some("S2"));
    desk.show(order("S2", &second, OrderStatus::Rejected));
    for _ in 0..12 {
        desk.read(1_000);
        assert_eq!(desk.state(second.id), IntentState::Acknowledged);
        assert!(desk.due_exit(bought.position).is_none(), "a third exit would sell twice");
    }
    desk.show(order("S2", &second, OrderStatus::Complete));
    desk.books.trades.push(trade("S2", &second, 900, dec!(1000)));
    desk.read(20);
    assert_eq!((desk.state(second.id), desk.rows.held()), (IntentState::Filled, 0));
}

#[test]
fn an_end_that_may_be_the_row_befores_is_believed_in_the_end() {
    let mut desk = Desk::new();
    let bought = desk.bought(1, 1, 900);
    for (attempt, id) in ["S1", "S2"].into_iter().enumerate() {
        let exit = match attempt {
            0 => desk.exit(2, 0, bought.position),
            _ => desk.due_exit(bought.position).unwrap(),
        };
        assert!(desk.journal(&exit));
        desk.outcome(exit.id, IntentState::Acknowledged, Some(id));
        desk.show(order(id, &exit, OrderStatus::Rejected));
        desk.read(20);
        desk.read(if attempt == 0 { 1_000 } else { 20_000 });
        assert_eq!(desk.state(exit.id), IntentState::Rejected);
    }
}

#[test]
fn a_fill_after_the_end_is_booked_and_closed_at_once_even_by_the_next_leader() {
    for restart in [false, true] {
        for end in [OrderStatus::Cancelled, OrderStatus::Rejected] {
            let (mut desk, id) = acknowledged();
            let intent = desk.book.intents[&id].intent.clone();
            desk.show(order("B1", &intent, end));
            desk.read(20);
            desk.read(1_000);
            assert!(desk.state(id).is_terminal());
            if restart {
                desk.restart();
            }
            desk.books.trades.push(trade("B1", &intent, 100, dec!(1000)));
            desk.read(20);
            assert_eq!(desk.rows.held(), 100, "held at the broker, so held here");
            desk.books.trades.push(trade("B1", &intent, 800, dec!(1000)));
            desk.read(20);
            assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Filled, 900));
            assert!(desk.rows.positions.values().all(|p| p.status == PositionStatus::Closing));
            assert!(desk.due_exit(intent.position).is_some());
        }
    }
}

#[test]
fn books_that_lose_their_rows_unsay_nothing() {
    let (mut desk, id) = acknowledged();
    let intent = desk.book.intents[&id].intent.clone();
    desk.books.trades.push(trade("B1", &intent, 300, dec!(1000)));
    desk.read(20);
    desk.books = Default::default();
    desk.read(60_000);
    desk.restart();
    desk.read(60_000);
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::PartiallyFilled, 300));
}

#[test]
fn more_than_was_ordered_is_booked_at_the_average_and_a_repeated_trade_once() {
    let (mut desk, id) = acknowledged();
    let intent = desk.book.intents[&id].intent.clone();
    let mut row = trade("B1", &intent, 300, dec!(1000));
    row.trade_id = Some("T1".to_owned());
    desk.books.trades = vec![row.clone(), row];
    desk.read(20);
    assert_eq!(desk.rows.held(), 300);
    desk.books.trades.push(trade("B1", &intent, 900, dec!(1000)));
    desk.read(20);
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Filled, 900));
    assert_eq!(desk.rows.positions[&intent.position].entry_price, Price(dec!(1000)));
}

#[test]
fn figures_out_of_range_book_nothing_and_do_not_panic() {
    let (mut desk, id) = acknowledged();
    let intent = desk.book.intents[&id].intent.clone();
    desk.books.trades.push(trade("B1", &intent, i64::MAX, dec!(79228162514264337593543950335)));
    desk.read(20);
    desk.books.trades =
        vec![trade("B1", &intent, i64::MAX, dec!(1)), trade("B1", &intent, i64::MAX, dec!(1))];
    desk.read(20);
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Acknowledged, 0));
}

#[test]
fn an_order_in_doubt_is_adopted_by_its_terms_or_by_its_name() {
    for analyze in [false, true] {
        let mut desk = Desk::new();
        let id = doubted(1, 1, 900, &mut desk);
        let intent = desk.book.intents[&id].intent.clone();
        let mut theirs = order("X", &intent, OrderStatus::Open);
        theirs.quantity = Quantity(if analyze { 900 } else { 800 });
        theirs.strategy = analyze.then(|| "somebody-else".to_owned());
        desk.show(theirs);
        desk.read(20);
        assert_eq!(desk.state(id), IntentState::InDoubt);
        let mut ours = order("B1", &intent, OrderStatus::Complete);
        ours.strategy = analyze.then(|| intent.strategy_tag());
        desk.show(ours);
        desk.books.trades.push(trade("B1", &intent, 900, dec!(1001)));
        desk.read(20);
        assert_eq!(desk.state(id), IntentState::Filled);
        assert_eq!(desk.rows.intents[&id].broker_order_id.as_deref(), Some("B1"));
    }
}

#[test]
fn an_order_seen_before_an_intent_is_not_its_own_even_beside_an_older_abandoned_one() {
    let mut desk = Desk::new();
    let first = doubted(1, 1, 700, &mut desk);
    desk.read(SEND_MS + ABSENT_MS + 1);
    assert_eq!(desk.state(first), IntentState::Abandoned);
    // A person buys 900 by hand; it is seen and known as foreign.
    let by_hand = entry(&desk.book, 2, 1, 900);
    desk.show(order("HAND", &by_hand, OrderStatus::Open));
    assert_eq!(desk.read(20).foreign, ["HAND"]);
    let second = doubted(3, 1, 900, &mut desk);
    desk.read(20);
    assert_eq!(desk.state(second), IntentState::InDoubt);
    assert_eq!(desk.rows.intents[&second].broker_order_id, None);
}

#[test]
fn absence_is_proven_only_by_a_reading_begun_after_the_last_byte_and_the_settle_time() {
    let mut desk = Desk::new();
    let id = doubted(1, 1, 900, &mut desk);
    desk.read(SEND_MS + ABSENT_MS);
    assert_eq!(desk.state(id), IntentState::InDoubt, "begun at the very moment is not after it");
    desk.books.foreign.push(ForeignRow {
        order_id: "CO".to_owned(),
        symbol: desk.book.intents[&id].intent.order.symbol.clone(),
        why: "product is \"CO\"".to_owned(),
    });
    desk.read(60_000);
    assert_eq!(desk.state(id), IntentState::InDoubt, "an unreadable order may be it");
    desk.books.foreign.clear();
    // A new leader does not know how long ago the bytes left: it counts a whole window anew.
    desk.restart();
    desk.read(SEND_MS + ABSENT_MS);
    assert_eq!(desk.state(id), IntentState::InDoubt);
    desk.read(1);
    assert_eq!(desk.state(id), IntentState::Abandoned);
    assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Abandoned);
}

#[test]
fn an_exit_in_doubt_is_not_proven_absent_while_idle_connections_may_still_write() {
    let mut desk = Desk::new();
    desk.idle_close_known = false;
    let bought = desk.bought(1, 1, 900);
    let exit = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::InDoubt, None);
    desk.read(600_000);
    assert_eq!(desk.state(exit.id), IntentState::InDoubt);
    assert!(desk.due_exit(bought.position).is_none());
    // Nobody can write it any more, by the kernel's word.
    desk.book.intents.get_mut(&exit.id).unwrap().silent = true;
    desk.read(1);
    assert_eq!(desk.state(exit.id), IntentState::Abandoned);
    desk.now += 500;
    assert_eq!(desk.due_exit(bought.position).map(|retry| retry.attempt), Some(1));
}

#[test]
fn an_absence_in_the_next_days_books_proves_nothing() {
    let mut desk = Desk::new();
    let id = doubted(1, 1, 900, &mut desk);
    desk.day = desk.day.succ_opt().unwrap();
    desk.books = Default::default();
    desk.restart();
    for _ in 0..3 {
        desk.read(SEND_MS + ABSENT_MS + 1);
        assert_eq!(desk.state(id), IntentState::InDoubt, "it may have filled yesterday");
    }
    // A clock that was wrong about the day and is right again.
    desk.day = desk.day.pred_opt().unwrap();
    desk.read(1);
    assert_eq!(desk.state(id), IntentState::Abandoned);
}

#[test]
fn an_order_that_no_later_day_shows_has_ended_and_its_position_is_sold() {
    let mut desk = Desk::new();
    let bought = desk.bought(1, 1, 900);
    let exit = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Acknowledged, Some("S1"));
    desk.show(order("S1", &exit, OrderStatus::Open));
    desk.books.trades.push(trade("S1", &exit, 300, dec!(1000)));
    desk.read(20);
    desk.books = Default::default();
    desk.read(600_000);
    assert_eq!(desk.state(exit.id), IntentState::PartiallyFilled, "the same day: a stale cache");
    desk.day = desk.day.succ_opt().unwrap();
    desk.verified = false;
    desk.read(600_000);
    assert_eq!(desk.state(exit.id), IntentState::PartiallyFilled, "the book of a dead session is no book");
    desk.verified = true;
    desk.read(20);
    assert_eq!(desk.state(exit.id), IntentState::PartiallyFilled, "the new day's book may be late");
    let findings = desk.read(10_000);
    assert_eq!(findings.unseen, [exit.id], "somebody is told");
    assert_eq!((desk.state(exit.id), desk.rows.held()), (IntentState::Cancelled, 600));
    desk.now += 500;
    let next = desk.due_exit(bought.position).unwrap();
    assert_eq!((next.order.quantity, next.attempt), (Quantity(600), 1));
}

#[test]
fn another_orders_trades_under_the_same_id_are_not_booked() {
    let (mut desk, id) = acknowledged();
    let intent = desk.book.intents[&id].intent.clone();
    let mut sold = trade("B1", &intent, 900, dec!(1000));
    sold.side = crate::domain::order::Side::Sell;
    let mut elsewhere = trade("B1", &intent, 900, dec!(1000));
    elsewhere.symbol = "ANOTHER".to_owned();
    desk.books.trades = vec![sold, elsewhere];
    desk.read(20);
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Acknowledged, 0));
}

#[test]
fn an_order_that_a_later_day_still_shows_goes_on() {
    let (mut desk, id) = acknowledged();
    desk.day = desk.day.succ_opt().unwrap();
    for _ in 0..3 {
        desk.read(600_000);
        assert_eq!(desk.state(id), IntentState::Acknowledged);
    }
    desk.books.orders.clear();
    let intent = desk.book.intents[&id].intent.clone();
    desk.books.trades.push(trade("B1", &intent, 100, dec!(1000)));
    desk.read(600_000);
    desk.read(600_000);
    assert_eq!(desk.state(id), IntentState::PartiallyFilled, "its trades are of today");
}

#[test]
fn an_abandoned_entry_that_appears_is_adopted_and_closed_whatever_bears_its_label_by_then() {
    let mut desk = Desk::new();
    let id = doubted(1, 1, 900, &mut desk);
    desk.read(SEND_MS + ABSENT_MS + 1);
    let intent = desk.book.intents[&id].intent.clone();
    let held = desk.bought(2, 1, 500);
    desk.show(order("LATE", &intent, OrderStatus::Complete));
    desk.books.trades.push(trade("LATE", &intent, 400, dec!(1010)));
    desk.read(20);
    desk.books.trades.push(trade("LATE", &intent, 500, dec!(1010)));
    desk.read(20);
    assert_eq!((desk.state(id), desk.rows.held()), (IntentState::Filled, 1_400));
    assert_eq!(desk.rows.positions[&intent.position].status, PositionStatus::Closing);
    assert_eq!(desk.rows.positions[&held.position].status, PositionStatus::Open);
    assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Executed);
    let exit = desk.due_exit(intent.position).unwrap();
    assert_eq!(exit.order.quantity, Quantity(900));
    desk.restart();
    assert!(desk.due_exit(intent.position).is_some(), "the next leader closes it too");
}

#[test]
fn an_abandoned_entry_that_appears_only_to_be_refused_changes_no_final_status() {
    for (end, state) in
        [(OrderStatus::Rejected, IntentState::Rejected), (OrderStatus::Cancelled, IntentState::Cancelled)]
    {
        let mut desk = Desk::new();
        let id = doubted(1, 1, 900, &mut desk);
        desk.read(SEND_MS + ABSENT_MS + 1);
        let intent = desk.book.intents[&id].intent.clone();
        desk.show(order("LATE", &intent, end));
        desk.read(20);
        desk.read(1_000);
        assert_eq!(desk.state(id), state);
        assert_eq!(desk.rows.signals[&signal(1)], SignalStatus::Abandoned);
    }
}

#[test]
fn an_abandoned_exit_that_appears_and_ends_leaves_its_executed_signal_alone() {
    let mut desk = Desk::new();
    let bought = desk.bought(1, 1, 900);
    let exit = desk.exit(2, 0, bought.position);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::InDoubt, None);
    desk.read(SEND_MS + ABSENT_MS + 1);
    let retry = desk.due_exit(bought.position).unwrap();
    assert!(desk.journal(&retry));
    desk.outcome(retry.id, IntentState::Acknowledged, Some("S2"));
    desk.show(order("S2", &retry, OrderStatus::Complete));
    desk.books.trades.push(trade("S2", &retry, 900, dec!(1000)));
    desk.read(20);
    assert_eq!(desk.rows.signals[&signal(2)], SignalStatus::Executed);
    desk.show(order("S1", &exit, OrderStatus::Rejected));
    desk.read(20);
    desk.read(1_000);
    assert_eq!(desk.state(exit.id), IntentState::Rejected);
    assert_eq!(desk.rows.signals[&signal(2)], SignalStatus::Executed);
}

#[test]
fn an_abandoned_intent_leaves_the_order_to_one_of_the_same_terms_that_is_under_way() {
    let mut desk = Desk::new();
    let old = doubted(1, 1, 900, &mut desk);
    desk.read(SEND_MS + ABSENT_MS + 1);
    let new = entry(&desk.book, 2, 1, 900);
    assert!(desk.journal(&new));
    desk.show(order("NEW", &new, OrderStatus::Open));
    desk.read(20);
    assert_eq!(desk.state(old), IntentState::Abandoned);
    desk.outcome(new.id, IntentState::Acknowledged, Some("NEW"));
    desk.read(20);
    assert_eq!((desk.state(old), desk.state(new.id)), (IntentState::Abandoned, IntentState::Acknowledged));
}

#[test]
fn foreign_orders_are_told_once_and_not_while_they_may_be_ours() {
    let mut desk = Desk::new();
    let id = doubted(1, 1, 900, &mut desk);
    let mut theirs = entry(&desk.book, 9, 1, 100);
    theirs.order.quantity = Quantity(100);
    desk.show(order("THEIRS", &theirs, OrderStatus::Open));
    assert!(desk.read(20).foreign.is_empty());
    let last = desk.read(SEND_MS + ABSENT_MS);
    assert_eq!(desk.state(id), IntentState::Abandoned);
    assert!(!last.explain_every_order(), "with the last doubt gone, nobody has looked at THEIRS yet");
    let next = desk.read(20);
    assert_eq!(next.foreign, ["THEIRS"]);
    assert!(!next.explain_every_order());
    let after = desk.read(20);
    assert!(after.foreign.is_empty() && after.explain_every_order());
}

#[test]
fn more_orders_than_intents_are_nobodys() {
    let mut desk = Desk::new();
    let id = doubted(1, 1, 900, &mut desk);
    let intent = desk.book.intents[&id].intent.clone();
    desk.show(order("ONE", &intent, OrderStatus::Open));
    desk.show(order("TWO", &intent, OrderStatus::Open));
    let findings = desk.read(600_000);
    assert_eq!(findings.ambiguous.len(), 1);
    assert_eq!(desk.state(id), IntentState::InDoubt, "neither adopted nor abandoned");
}
