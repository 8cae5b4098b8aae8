//! The day's square-off: intraday positions are closed before the broker does it.
//!
//! Nothing of it is remembered or stored: what is held, the day's calendar and the clock say what is due, so whoever leads when
//! the time comes does it, also one that takes over later. It is one more cause in the book's one closer of a position
//! ([`Book::close_at_look`]): a position that is on its way out gets no second exit. Its orders are of class `protective`, so
//! neither reduce-only nor a halt holds them back.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use ha::Moment;

use super::book::Book;
use super::term::{Term, wall_clock};
use crate::domain::cause::ExitCause;
use crate::domain::ids::PositionId;
use crate::domain::sessions::trading_day;
use crate::domain::square_off::{SquareOffPolicy, is_intraday, judge_held};
use crate::notify::{Event, Key, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

/// What a look at the intraday positions came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Positions that are on their way out from now on.
    pub begun: Vec<PositionId>,
    /// Those that should be gone, with a sentence each.
    pub late: BTreeMap<PositionId, String>,
    /// Some are held, and nobody knows the day's hours.
    pub unknown: bool,
}

/// What a term has told of it.
#[derive(Debug, Default)]
pub(super) struct SquareOff {
    /// Positions that were told to be late.
    pub late: BTreeMap<PositionId, String>,
    warned: Option<NaiveDate>,
}

impl Book {
    /// Has intraday positions closed whose time has come by the wall clock `at`.
    pub(super) fn square_off(&mut self, policy: &SquareOffPolicy, at: DateTime<Utc>, now: Moment) -> Look {
        let calendar = self.calendar.clone();
        let is_known = calendar.as_ref().is_some_and(|calendar| calendar.day() == trading_day(at));
        if !is_known && !self.market_asked {
            // Somebody may be about to tell.
            return Look::default();
        }
        let mut look = Look::default();
        let mut due = Vec::new();
        for position in self.portfolio.held().filter(|position| is_intraday(policy, position)) {
            let standing = judge_held(policy, calendar.as_deref(), position, at);
            due.extend(standing.due.map(|why| (position.id, why)));
            look.late.extend(standing.late.map(|sentence| (position.id, sentence)));
            look.unknown |= !is_known;
        }
        for (id, why) in due {
            if self.close_at_look(id, ExitCause::SquareOff, why, now) {
                look.begun.push(id);
            }
        }
        look
    }
}

impl SquareOff {
    /// Tells what is news of a look.
    pub fn tell(&mut self, look: Look, book: &Book, day: NaiveDate, metrics: &Metrics, notifier: &Notifier) {
        for position in look.begun.iter().filter_map(|id| book.position(*id)) {
            metrics.square_offs.inc();
            let why = book.closing.get(&position.id).and_then(|closing| closing.why.as_deref());
            tracing::info!(
                position = %position.id, instrument = position.instrument, label = position.label,
                "[STATE] {}: {}", position.symbol, why.unwrap_or_default()
            );
        }
        if look.unknown && self.warned != Some(day) {
            self.warned = Some(day);
            tracing::warn!(
                "[FALLBACK] nobody knows the market's hours of {day}: intraday positions are squared off by the usual ones"
            );
        }
        metrics.square_off_late.set(i64::try_from(look.late.len()).unwrap_or(i64::MAX));
        for (id, sentence) in look.late.iter().filter(|(id, _)| !self.late.contains_key(id)) {
            tracing::error!(position = %id, "[STATE] {sentence}");
            let sentence = format!("{sentence}; see RUNBOOK.md#square_off_late");
            notifier.raise(Event::about(Kind::SquareOffLate, id.to_string(), sentence));
        }
        for id in self.late.keys().filter(|id| !look.late.contains_key(id)) {
            notifier.resolve(Key::new(Kind::SquareOffLate, id.to_string()));
        }
        self.late = look.late;
    }
}

impl Term<'_> {
    /// Looks at what has to be gone today.
    pub(super) fn keep_square_off(&mut self) {
        let (at, now) = (wall_clock(), self.fence().now());
        let look = self.book.square_off(&self.engine.rules.policy.square_off, at, now);
        let (metrics, notifier) = (&self.engine.metrics, &self.engine.notifier);
        self.square_off.tell(look, &self.book, trading_day(at), metrics, notifier);
    }
}
