//! Orders of one entry that come late, beside each other, or not at all.

use std::sync::Arc;

use chrono::TimeDelta;
use rust_decimal::dec;

use super::bids::{cancelled, desk, pause, rest, worked};
use super::desk::{ABSENT_MS, Desk, SEND_MS, at, entry, order, rules, signal, trade};
use crate::broker::{NotSentCause, OrderStatus};
use crate::domain::cause::ExitCause;
use crate::domain::fixtures;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::order::IntentState;
use crate::domain::position::PositionStatus;
use crate::domain::request::RequestState;
use crate::domain::sessions::{Calendar, Session, day_start, trading_day};
use crate::engine::anew;
use crate::engine::book::Book;
use crate::engine::draft::Draft;
use crate::engine::projection::projected;
use crate::engine::resting::AtBroker;
use crate::engine::tell;
use crate::ledger::inbox::SignalStatus;
use crate::notify::{Key, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

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
        for (filled, held_then) in [(60, 60), (30, 90), (10, 100)] {
            desk.books.trades.push(trade("L", &bid, filled, dec!(1000)));
            desk.read(20);
            if remembers == "what a takeover reads" {
                desk.restart();
            }
            let held: Vec<_> = desk.rows.positions.values().filter(|position| position.is_held()).collect();
            let [late] = held[..] else { panic!("{held:#?}") };
            assert_eq!((late.quantity, late.status), (Quantity(held_then), PositionStatus::Closing));
            assert_ne!(late.id, bid.position);
            assert!(desk.book.closing.contains_key(&late.id));
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

/// A rest that its own leader withheld, as the term records it.
fn withheld(desk: &mut Desk, rest: &OrderIntent) {
    let rules = rules();
    let mut draft = Draft::new(&desk.book, &rules, fixtures::at(1000));
    let reason = Some(format!("{}: too late", NotSentCause::Deadline));
    draft.intent(&desk.book.intents[&rest.id], IntentState::NotSent, reason, None);
    draft.keep(signal(1));
    let change = draft.finish();
    desk.commit(&change);
}

// R: S1: the attempt of an order that never left is not used twice.
#[test]
fn a_rest_that_was_withheld_is_followed_by_another_attempt_of_the_same_entry() {
    for takeover in [false, true] {
        let (mut desk, bid) = desk(true);
        desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
        desk.read(20);
        cancelled(&mut desk, &bid);
        let first = rest(&desk);
        assert!(desk.journal(&first));
        withheld(&mut desk, &first);
        assert!(!anew::is_all_unsent(&desk.book, signal(1)), "an order of it left");
        if takeover {
            desk.restart();
        }
        // Another entry ends meanwhile.
        desk.bought(7, 2, 10);
        let second = rest(&desk);
        assert_eq!((second.attempt, second.order.quantity), (2, Quantity(60)));
        assert!(desk.journal(&second));
    }
    let mut desk = Desk::new();
    let bid = worked(&desk.book, 1, true);
    assert!(desk.journal(&bid));
    withheld(&mut desk, &bid);
    assert!(anew::is_all_unsent(&desk.book, signal(1)), "it is decided anew as a whole");
}

// What the ledger does not take of an entry closes nothing.
#[test]
fn an_order_of_an_entry_that_the_ledger_does_not_take_sends_nothing_out() {
    let (mut desk, bid) = desk(true);
    desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
    desk.read(20);
    cancelled(&mut desk, &bid);
    let retry = at(desk.now + 500);
    desk.book.wait_to_close(&rest(&desk), retry);
    assert!(desk.book.closing.is_empty());
    let exit = desk.exit(1, 0, bid.position);
    desk.book.wait_to_close(&exit, retry);
    assert_eq!(desk.book.closing[&bid.position].not_before, retry);
}

#[test]
fn what_a_paused_entry_may_still_buy_is_counted_by_every_limit() {
    let pending = |desk: &Desk| -> Rupees { projected(&desk.book).pending.iter().map(|p| p.margin).sum() };
    let (mut desk, bid) = desk(true);
    let whole = pending(&desk);
    desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
    desk.read(20);
    let out = pending(&desk);
    assert_eq!(out.0, whole.0 * dec!(0.6));
    cancelled(&mut desk, &bid);
    assert!(pause(&desk).is_some());
    assert_eq!(pending(&desk), out, "it is between two orders");
    let rest = rest(&desk);
    assert!(desk.journal(&rest));
    assert_eq!(pending(&desk), out);
    // Nothing follows the end of one that nobody wants.
    let (mut desk, bid) = self::desk(true);
    desk.books.trades.push(trade("L", &bid, 40, dec!(1000)));
    desk.read(20);
    cancelled(&mut desk, &bid);
    desk.book.close_by(bid.position, ExitCause::StopLoss, "900".to_owned(), at(desk.now));
    assert_eq!(pending(&desk), Rupees::ZERO);
}

/// The desk with a bid that bought 40 units and a rest that was given up: the bid and the rest.
fn given_up() -> (Desk, OrderIntent, OrderIntent) {
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
    (desk, bid, rest)
}

// R: S6: what was told as given up and is found after all is not kept, not even beside what the entry holds, nor when its
// trades come after it, or after it was called off for that.
#[test]
fn a_rest_that_appears_after_it_was_given_up_closes_its_position() {
    use OrderStatus::{Cancelled, Open};
    for (shown, state) in [
        (&[][..], IntentState::Abandoned),
        (&[Open][..], IntentState::Acknowledged),
        (&[Open, Cancelled][..], IntentState::Cancelled),
    ] {
        for takeover in [false, true] {
            let (mut desk, bid, rest) = given_up();
            for status in shown {
                desk.show(order("R", &rest, status.clone()));
                desk.read(20);
                // Behind another row that says the same an end is believed late.
                desk.read(21_000);
                if takeover {
                    desk.restart();
                }
            }
            if takeover {
                desk.restart();
            }
            assert_eq!(desk.state(rest.id), state);
            assert_eq!(desk.book.position(bid.position).unwrap().status, PositionStatus::Open);
            desk.show(order("R", &rest, OrderStatus::Complete));
            desk.books.trades.push(trade("R", &rest, 60, dec!(1010)));
            desk.read(20);
            let held = desk.book.position(bid.position).unwrap();
            assert_eq!((held.quantity, held.status), (Quantity(100), PositionStatus::Closing), "{shown:?}");
            assert_eq!(held.exit_cause, Some(ExitCause::LateFill));
        }
    }
}

// The operator was told that it is given up: what becomes of it has to reach him, too, whoever leads.
#[test]
fn a_late_fill_is_told_once_until_what_it_left_is_sold() {
    let (mut desk, bid, rest) = given_up();
    desk.told = Some((Metrics::new(), Notifier::new()));
    let told = |desk: &Desk| desk.told.as_ref().unwrap().1.taken();
    let late = Key::new(Kind::LateFill, bid.position.to_string());
    assert!(tell::held_late(1, &desk.book).holds.is_empty());
    desk.show(order("R", &rest, OrderStatus::Complete));
    desk.books.trades.push(trade("R", &rest, 20, dec!(1010)));
    desk.read(20);
    let sentence = told(&desk)[&late].message.clone();
    assert!(sentence.contains("60 units of") && sentence.contains("RUNBOOK.md#late_fill"), "{sentence}");
    desk.books.trades.push(trade("R", &rest, 40, dec!(1010)));
    desk.read(20);
    assert!(!told(&desk).contains_key(&late), "it is known");
    desk.restart();
    let holds = tell::held_late(1, &desk.book).holds;
    assert_eq!(holds.keys().collect::<Vec<_>>(), [&late.scope], "who takes over says it, too");
    let exit = desk.due_exit(bid.position).unwrap();
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Acknowledged, Some("S"));
    desk.show(order("S", &exit, OrderStatus::Complete));
    desk.books.trades.push(trade("S", &exit, 100, dec!(900)));
    desk.read(20);
    assert!(!told(&desk)[&late].withdrawn.is_empty(), "it is over");
    assert!(tell::held_late(1, &desk.book).holds.is_empty());
}

// A cancel has no effect while the exchange is closed, and the books may show the bid until the morning. While it is open
// each one may have: an EXIT does not wait for the patience of those before it.
#[test]
fn a_bid_is_asked_to_be_cancelled_less_and_less_often_while_its_exchange_is_closed() {
    let (_, bid) = desk(true);
    let plain = entry(&Book::default(), 2, 1, 100);
    for (order, is_closed, waits) in [
        (&bid, true, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]),
        (&bid, false, [1_000; 8]),
        (&plain, true, [1_000; 8]),
    ] {
        let (mut at_broker, mut now) = (AtBroker::default(), 0);
        assert!(at_broker.may_cancel(order, is_closed, at(now)));
        for wait in waits {
            at_broker.cancelled(order.id, at(now));
            at_broker.cancels.get_mut(&order.id).unwrap().answer = Some(RequestState::Rejected);
            let may = |at_broker: &AtBroker, ms| at_broker.may_cancel(order, is_closed, at(ms));
            assert!(!may(&at_broker, now + wait - 1) && may(&at_broker, now + wait));
            assert!(at_broker.may_cancel(order, false, at(now + 1_000)), "when it opens it is due");
            now += wait;
        }
    }
}

#[test]
fn an_exchange_is_known_to_be_closed_by_the_calendar_of_the_day_alone() {
    let (day, noon) =
        (trading_day(fixtures::at(0)), day_start(trading_day(fixtures::at(0))) + TimeDelta::hours(12));
    let mut book = Book::default();
    assert!(!book.is_closed("MCX", noon), "nobody knows");
    let session = Session {
        exchange: "MCX".to_owned(),
        opens: noon - TimeDelta::hours(3),
        closes: noon + TimeDelta::hours(11),
    };
    book.calendar = Some(Arc::new(Calendar::new(day, vec![session])));
    assert!(!book.is_closed("MCX", noon) && book.is_closed("MCX", noon - TimeDelta::hours(4)));
    assert!(book.is_closed("NSE", noon), "it has no session today");
    assert!(!book.is_closed("MCX", noon + TimeDelta::days(1)), "nobody knows of the next day");
}
