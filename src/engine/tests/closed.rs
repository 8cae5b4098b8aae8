//! Exits while the exchange is closed.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::desk::{Desk, at};
use crate::domain::fixtures;
use crate::domain::ids::PositionId;
use crate::domain::limits::Day;
use crate::domain::money::Rupees;
use crate::domain::order::IntentState;
use crate::domain::sessions::{Calendar, Session, day_start, trading_day};

const MINUTE: u64 = 60_000;

/// A desk whose exit was refused before the opening at noon; gives it with the position and the day's beginning.
fn refused_before_the_opening() -> (Desk, PositionId, DateTime<Utc>) {
    let mut desk = Desk::new();
    let held = desk.bought(1, 1, 900).position;
    let day = trading_day(fixtures::at(0));
    let midnight = day_start(day);
    let exchange = desk.book.position(held).unwrap().exchange.clone();
    let session =
        Session { exchange, opens: midnight + TimeDelta::hours(12), closes: midnight + TimeDelta::hours(23) };
    desk.book.calendar = Some(Arc::new(Calendar::new(day, vec![session])));
    desk.book.day = Some(Day {
        date: day,
        opening: None,
        realised: Rupees::ZERO,
        charges: Rupees::ZERO,
        orders: 0,
        stop_outs: 0,
        latched: Vec::new(),
    });
    desk.book.note_closed(midnight + TimeDelta::hours(11), at(desk.now));
    let exit = desk.exit(2, 0, held);
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::Rejected, None);
    (desk, held, midnight)
}

#[test]
fn an_exit_that_waits_for_its_exchange_is_due_the_moment_it_opens() {
    let (mut desk, held, midnight) = refused_before_the_opening();
    let due = desk.book.closing[&held].not_before;
    assert_eq!(due, at(desk.now).plus(Duration::from_millis(MINUTE)));
    desk.book.note_closed(midnight + TimeDelta::hours(11), at(desk.now + 1000));
    assert_eq!(desk.book.closing[&held].not_before, due, "still closed");
    desk.book.note_closed(midnight + TimeDelta::hours(12), at(desk.now + 2000));
    assert_eq!(desk.book.closing[&held].not_before, at(desk.now + 2000));
}

#[test]
fn refused_exits_do_not_use_up_the_days_entries() {
    let (desk, ..) = refused_before_the_opening();
    assert_eq!(desk.book.day.as_ref().map(|day| day.orders), Some(0));
}

#[test]
fn yesterdays_calendar_says_nothing_about_today() {
    let (mut desk, _, midnight) = refused_before_the_opening();
    assert!(!desk.book.closed.is_empty());
    desk.book.note_closed(midnight + TimeDelta::hours(24 + 11), at(desk.now));
    assert!(desk.book.closed.is_empty());
}
