//! Exits that do not get their position flat.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rust_decimal::dec;

use super::desk::{Desk, at, order, trade};
use super::slices::freezes;
use crate::broker::OrderStatus;
use crate::domain::cause::ExitCause;
use crate::domain::fixtures;
use crate::domain::ids::PositionId;
use crate::domain::order::IntentState;
use crate::domain::sessions::{Calendar, Session, day_start, trading_day};
use crate::engine::not_flat::{NotFlat, PATIENCE};
use crate::notify::{Key, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

/// A desk that wants its 900 units sold, and who is told of it.
struct Exits {
    desk: Desk,
    held: PositionId,
    watch: NotFlat,
    metrics: Metrics,
    notifier: Notifier,
}

impl Exits {
    fn wanted() -> Self {
        let mut desk = Desk::new();
        let held = desk.bought(1, 1, 900).position;
        let (watch, metrics, notifier) = (NotFlat::default(), Metrics::new(), Notifier::new());
        let mut exits = Self { desk, held, watch, metrics, notifier };
        assert_eq!(exits.look(), 0);
        let (book, now) = (&mut exits.desk.book, at(exits.desk.now));
        assert!(book.close_by(held, ExitCause::Operator, "asha: news".to_owned(), now));
        assert_eq!(exits.look(), 0);
        exits
    }

    /// Looks; gives how many do not get flat.
    fn look(&mut self) -> i64 {
        let found = self.watch.look(&self.desk.book, |_| true, at(self.desk.now));
        self.watch.tell(found, &self.desk.book, &self.metrics, &self.notifier);
        self.metrics.exits_not_flat.get()
    }

    /// What is raised and withdrawn since the last time.
    fn told(&self) -> (Option<String>, bool) {
        let key = Key::new(Kind::ExitNotFlat, self.held.to_string());
        let tally = self.notifier.taken().remove(&key).unwrap_or_default();
        ((tally.count > 0).then_some(tally.message), !tally.withdrawn.is_empty())
    }

    /// The next exit ends like this.
    fn ends(&mut self, state: IntentState, word: &str) {
        self.desk.now += 30;
        let exit = self.desk.due_exit(self.held).unwrap();
        assert!(self.desk.journal(&exit));
        self.desk.told(exit.id, state, None, word);
    }

    /// The next exit is sold whole.
    fn sells(&mut self, id: &str) {
        let exit = self.desk.due_exit(self.held).unwrap();
        assert!(self.desk.journal(&exit));
        self.desk.outcome(exit.id, IntentState::Acknowledged, Some(id));
        self.desk.show(order(id, &exit, OrderStatus::Complete));
        self.desk.books.trades.push(trade(id, &exit, exit.order.quantity.0, dec!(950)));
        self.desk.read(20);
        self.desk.read(21_000);
    }

    /// Another leader.
    fn takes_over(&mut self) {
        self.desk.restart();
        (self.watch, self.notifier) = (NotFlat::default(), Notifier::new());
    }
}

#[test]
fn the_second_refusal_is_told_once_with_the_brokers_words_until_it_is_sold() {
    let mut exits = Exits::wanted();
    assert_eq!(exits.look(), 0);
    exits.ends(IntentState::Rejected, "RMS: first");
    assert_eq!((exits.look(), exits.told().0), (0, None), "one may be a hiccup");
    exits.ends(IntentState::Rejected, "RMS: blocked");
    assert_eq!(exits.look(), 1);
    let (told, _) = exits.told();
    let told = told.expect("it is told");
    for part in [
        "900 of 900 units of",
        "asha: news",
        "order 2 ended as rejected: RMS: blocked",
        "RUNBOOK.md#exit-not-flat",
    ] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    for _ in 0..5 {
        exits.ends(IntentState::Rejected, "RMS: blocked");
        assert_eq!((exits.look(), exits.told()), (1, (None, false)), "it is known");
    }
    exits.sells("S");
    assert_eq!((exits.look(), exits.told()), (0, (None, true)), "it is over");
    assert_eq!((exits.look(), exits.told()), (0, (None, false)), "and that is said once");
}

#[test]
fn an_exit_that_sells_is_never_told() {
    let mut exits = Exits::wanted();
    freezes(&mut exits.desk.book, 200);
    for id in ["A", "B", "C", "D"] {
        assert_eq!(exits.look(), 0);
        exits.ends(IntentState::Rejected, "busy");
        assert_eq!(exits.look(), 0);
        exits.sells(id);
    }
    exits.sells("E");
    assert_eq!((exits.look(), exits.told()), (0, (None, false)));
}

#[test]
fn what_is_left_of_a_position_stays_told_while_it_is_being_sold() {
    let mut exits = Exits::wanted();
    freezes(&mut exits.desk.book, 500);
    exits.ends(IntentState::Rejected, "RMS: blocked");
    exits.ends(IntentState::Rejected, "RMS: blocked");
    assert_eq!((exits.look(), exits.told().0.is_some()), (1, true));
    exits.sells("S");
    assert_eq!((exits.look(), exits.told()), (0, (None, false)), "it goes on, and is not over");
    exits.sells("T");
    assert_eq!((exits.look(), exits.told()), (0, (None, true)));
}

#[test]
fn nothing_sold_for_long_is_told_whatever_the_reason() {
    let mut exits = Exits::wanted();
    assert_eq!(exits.look(), 0);
    let exit = exits.desk.due_exit(exits.held).unwrap();
    assert!(exits.desk.journal(&exit));
    exits.desk.told(exit.id, IntentState::InDoubt, None, "no answer");
    exits.desk.now += u64::try_from(PATIENCE.as_millis()).unwrap() - 1;
    assert_eq!(exits.look(), 0);
    exits.desk.now += 1;
    assert_eq!(exits.look(), 1);
    let told = exits.told().0.unwrap();
    assert!(told.contains("what became of its last order is not known: no answer"), "{told}");
}

// The night is no time to wake somebody: what the closed exchange refuses does not count, not even in the morning.
#[test]
fn an_exit_that_waits_for_its_exchange_is_not_told() {
    let mut exits = Exits::wanted();
    let (day, opens) =
        (trading_day(fixtures::at(0)), day_start(trading_day(fixtures::at(0))) + TimeDelta::hours(9));
    let exchange = exits.desk.book.position(exits.held).unwrap().exchange.clone();
    let session = Session { exchange, opens, closes: opens + TimeDelta::hours(14) };
    exits.desk.book.calendar = Some(Arc::new(Calendar::new(day, vec![session])));
    let night = opens - TimeDelta::hours(3);
    exits.desk.book.note_closed(night, at(exits.desk.now));
    for _ in 0..3 {
        exits.ends(IntentState::Rejected, "market closed");
        exits.desk.now += 60_000;
        assert_eq!(exits.look(), 0);
    }
    exits.desk.book.note_closed(opens, at(exits.desk.now));
    assert_eq!(exits.look(), 0);
    exits.ends(IntentState::Rejected, "RMS: blocked");
    assert_eq!((exits.look(), exits.told().0), (0, None));
    exits.ends(IntentState::Rejected, "RMS: blocked");
    assert_eq!((exits.look(), exits.told().0.is_some()), (1, true));
}

// What was told stands until it is over, whoever leads; and is told again by the first refusal, for the gauge.
#[test]
fn a_takeover_neither_ends_what_was_told_nor_needs_it_all_again() {
    let mut exits = Exits::wanted();
    exits.ends(IntentState::Rejected, "RMS: blocked");
    exits.ends(IntentState::Rejected, "RMS: blocked");
    assert_eq!((exits.look(), exits.told().0.is_some()), (1, true));
    let scope = exits.held.to_string();
    assert!(exits.watch.census(1, &exits.desk.book).holds.contains_key(&scope));

    exits.takes_over();
    assert_eq!((exits.look(), exits.told()), (0, (None, false)));
    let census = exits.watch.census(2, &exits.desk.book);
    assert!(census.holds.is_empty() && census.unsure.contains(&scope), "{census:?}");
    exits.ends(IntentState::Rejected, "RMS: blocked");
    assert_eq!((exits.look(), exits.told().0.is_some()), (1, true), "one more is enough");

    exits.takes_over();
    assert_eq!(exits.look(), 0);
    exits.sells("S");
    assert_eq!((exits.look(), exits.told()), (0, (None, true)), "what a former leader told is over");
    let census = exits.watch.census(3, &exits.desk.book);
    assert!(census.holds.is_empty() && census.unsure.is_empty(), "{census:?}");
}

#[test]
fn what_does_not_count_is_not_told() {
    let mut exits = Exits::wanted();
    exits.ends(IntentState::Rejected, "RMS: blocked");
    exits.ends(IntentState::Rejected, "RMS: blocked");
    let now = at(exits.desk.now).plus(Duration::from_secs(600));
    assert!(
        exits.watch.look(&exits.desk.book, |closing| closing.cause != ExitCause::Operator, now).is_empty()
    );
}
