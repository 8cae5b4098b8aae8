//! Intraday positions are gone before the broker closes them, once each, whoever leads.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::dec;

use super::desk::{Desk, at, entry, order, rules, trade};
use super::lanes::{entry_at, queued};
use crate::broker::OrderStatus;
use crate::domain::cause::ExitCause;
use crate::domain::fixtures;
use crate::domain::ids::PositionId;
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::order::{IntentState, OrderClass, Product};
use crate::domain::sessions::{Calendar, Session, day_start, trading_day};
use crate::domain::square_off::SquareOffPolicy;
use crate::engine::book::Book;
use crate::engine::decide::{Decision, decide};
use crate::engine::square_off::{Look, SquareOff};
use crate::engine::tell;
use crate::notify::Notifier;
use crate::telemetry::metrics::Metrics;

/// The day on which the desk buys, at 14:10; MCX closes at 23:00.
fn time(hour: i64, minute: i64) -> DateTime<Utc> {
    day_start(trading_day(fixtures::at(1000))) + TimeDelta::minutes(hour * 60 + minute)
}

/// What a leader knows of the day's hours once it has asked.
fn knows_the_hours(book: &mut Book) {
    let session = Session { exchange: "MCX".to_owned(), opens: time(9, 0), closes: time(23, 0) };
    book.calendar = Some(Arc::new(Calendar::new(trading_day(time(9, 0)), vec![session])));
    book.market_asked = true;
}

/// A desk that holds an intraday position.
fn intraday() -> (Desk, PositionId) {
    let mut desk = Desk::new();
    let mut bought = entry(&desk.book, 1, 1, 900);
    bought.order.product = Product::Mis;
    assert!(desk.journal(&bought));
    desk.outcome(bought.id, IntentState::Acknowledged, Some("B1"));
    desk.show(order("B1", &bought, OrderStatus::Complete));
    desk.books.trades.push(trade("B1", &bought, 900, dec!(1000)));
    desk.read(20);
    assert_eq!(desk.book.position(bought.position).unwrap().product, Product::Mis);
    knows_the_hours(&mut desk.book);
    (desk, bought.position)
}

fn look(desk: &mut Desk, hour: i64, minute: i64) -> Look {
    let now = at(desk.now);
    desk.book.square_off(&SquareOffPolicy::default(), time(hour, minute), now)
}

#[test]
fn whoever_leads_when_the_time_comes_closes_it_once() {
    let (mut desk, held) = intraday();
    assert_eq!(look(&mut desk, 22, 24), Look::default());
    assert_eq!(look(&mut desk, 22, 25).begun, [held]);
    assert_eq!(look(&mut desk, 22, 25).begun, [], "it is on its way out");

    // The leader dies before it journaled anything: the next one reads the clock, not a memory.
    desk.restart();
    assert!(desk.book.closing.is_empty());
    assert_eq!(look(&mut desk, 22, 26), Look::default(), "nobody was asked for the hours yet");
    knows_the_hours(&mut desk.book);
    assert_eq!(look(&mut desk, 22, 26).begun, [held]);
    let exit = desk.due_exit(held).unwrap();
    assert_eq!((exit.class, exit.cause), (OrderClass::Protective, Some(ExitCause::SquareOff)));
    assert!(desk.journal(&exit));

    // It dies with the order on its way: its outcome is in doubt, and no second exit is made.
    desk.restart();
    knows_the_hours(&mut desk.book);
    assert_eq!(look(&mut desk, 22, 27).begun, []);
    assert!(desk.due_exit(held).is_none());
    desk.outcome(exit.id, IntentState::Rejected, None);
    let again = desk.due_exit(held).unwrap();
    assert_eq!((again.attempt, again.cause), (1, Some(ExitCause::SquareOff)));
    assert!(desk.journal(&again));
    desk.outcome(again.id, IntentState::Acknowledged, Some("S1"));
    desk.show(order("S1", &again, OrderStatus::Complete));
    desk.books.trades.push(trade("S1", &again, 900, dec!(990)));
    desk.read(20);
    assert!(desk.book.portfolio.positions.is_empty());
    assert_eq!(look(&mut desk, 22, 58), Look::default());
}

#[test]
fn a_leader_that_comes_after_the_time_closes_it_too_and_says_that_it_is_late() {
    let (mut desk, held) = intraday();
    let late = look(&mut desk, 22, 50);
    assert_eq!((late.begun, late.late.len()), (vec![held], 1));
    let (mut desk, held) = intraday();
    let night = look(&mut desk, 24 + 3, 0);
    assert!(night.begun.is_empty() && night.late.contains_key(&held), "the exchange is closed: {night:?}");
    let next = look(&mut desk, 24 + 9, 0);
    assert_eq!(next.begun, [held], "by the usual hours, since nobody told the new day's");
    assert!(next.unknown);
}

#[test]
fn a_position_that_is_on_its_way_out_gets_no_second_exit_and_the_stronger_cause_stands() {
    let (mut desk, held) = intraday();
    let exit = desk.exit(2, 0, held);
    assert!(desk.journal(&exit));
    assert_eq!(
        look(&mut desk, 22, 30).begun,
        [held],
        "a signal's exit waits under a halt, this one does not"
    );
    assert!(desk.due_exit(held).is_none(), "the first is out");
    desk.outcome(exit.id, IntentState::Rejected, None);
    assert_eq!(desk.due_exit(held).unwrap().class, OrderClass::Protective);
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(desk.now)));
    assert_eq!(look(&mut desk, 22, 31).begun, []);
    assert_eq!(desk.book.closing[&held].cause, ExitCause::StopLoss);
}

#[test]
fn what_a_halt_of_everything_held_back_is_asked_for_again() {
    let (mut desk, held) = intraday();
    let (metrics, notifier, day) = (Metrics::new(), Notifier::new(), trading_day(time(0, 0)));
    let mut told = SquareOff::default();
    for minute in [30, 31, 32] {
        let seen = look(&mut desk, 22, minute);
        told.tell(seen, &desk.book, day, &metrics, &notifier);
        let exit = desk.due_exit(held).unwrap();
        assert_eq!(exit.cause, Some(ExitCause::SquareOff));
        desk.book.judge_anew(&exit);
        assert!(desk.book.closing.contains_key(&held), "so that its next try has a time");
    }
    assert_eq!(metrics.square_offs.get(), 1);

    // A stop that is hit meanwhile is forgotten as ever, and what the clock asks for comes again without being news.
    assert!(desk.book.close_by(held, ExitCause::StopLoss, "its stop".to_owned(), at(desk.now)));
    let stop = desk.due_exit(held).unwrap();
    desk.book.judge_anew(&stop);
    assert!(desk.book.closing.is_empty());
    let seen = look(&mut desk, 22, 33);
    assert_eq!((seen.begun, desk.due_exit(held).unwrap().cause), (vec![], Some(ExitCause::SquareOff)));
}

#[test]
fn other_products_are_held_overnight() {
    let mut desk = Desk::new();
    desk.bought(1, 1, 900);
    knows_the_hours(&mut desk.book);
    assert_eq!(look(&mut desk, 22, 50), Look::default());
    assert_eq!(look(&mut desk, 24 + 9, 0), Look::default());
}

#[test]
fn what_is_late_is_told_and_counted_until_it_is_gone() {
    let (mut desk, held) = intraday();
    let (metrics, notifier, day) = (Metrics::new(), Notifier::new(), trading_day(time(0, 0)));
    let mut told = SquareOff::default();
    let begun = look(&mut desk, 22, 25);
    told.tell(begun, &desk.book, day, &metrics, &notifier);
    assert_eq!((metrics.square_offs.get(), metrics.square_off_late.get()), (1, 0));
    let late = look(&mut desk, 22, 31);
    told.tell(late, &desk.book, day, &metrics, &notifier);
    assert_eq!((metrics.square_offs.get(), metrics.square_off_late.get()), (1, 1));
    assert!(told.late[&held].contains("22:35"), "{:?}", told.late);
    told.tell(Look::default(), &desk.book, day, &metrics, &notifier);
    assert_eq!(metrics.square_off_late.get(), 0);
}

// An all-clear of what a former leader told, while the position is held and nobody was asked for the hours.
#[test]
fn a_fresh_leader_ends_nothing_that_is_late_before_it_knows_the_hours() {
    let (mut desk, held) = intraday();
    assert!(look(&mut desk, 22, 31).late.contains_key(&held));
    desk.restart();
    let seen = look(&mut desk, 22, 32);
    assert_eq!(seen, Look::default());
    let unsure = |book: &Book, late| tell::squared_off(1, book, late).unsure;
    assert!(unsure(&desk.book, &seen.late).contains(&held.to_string()));
    knows_the_hours(&mut desk.book);
    let seen = look(&mut desk, 22, 32);
    assert!(unsure(&desk.book, &seen.late).is_empty() && seen.late.contains_key(&held));
}

#[test]
fn entries_in_an_intraday_product_end_before_its_positions_are_closed() {
    let mut rules = rules();
    let gold = Instrument { product: Product::Mis, ..fixtures::instrument("GOLD_MINI") };
    rules.catalog = Catalog::of([gold]);
    rules.policy.age.reject_s = 86_400;
    let mut book = Book::default();
    knows_the_hours(&mut book);
    let codes = |hour, minute| {
        let buys = queued(1, "GOLD_MINI", entry_at(1, dec!(140_000), dec!(139_000), dec!(500)));
        let quotes = fixtures::quote("GOLD_MINI", dec!(140_000));
        match decide(&rules, &book, &buys, &quotes, time(hour, minute)) {
            Decision::Refuse(refusals, _) => refusals.into_iter().map(|refusal| refusal.code).collect(),
            _ => Vec::new(),
        }
    };
    assert!(!codes(22, 4).contains(&"INTRADAY_ENTRIES_OVER"));
    assert!(codes(22, 5).contains(&"INTRADAY_ENTRIES_OVER"));
}
