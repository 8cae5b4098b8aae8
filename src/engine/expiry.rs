//! The end of contracts: what is held in one is warned about once a day, and sold before it where the policy says so.
//!
//! As the day's square-off it is read from the clock and the day's data at each look, and is one more cause in the book's one
//! closer of a position ([`Book::close_at_look`]). A bridge that only simulates trades contracts on past their end, so nothing of
//! this holds there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use ha::Moment;

use super::book::Book;
use super::term::{Term, wall_clock};
use crate::domain::cause::ExitCause;
use crate::domain::expiry::{RolloverPolicy, judge_held};
use crate::domain::ids::PositionId;
use crate::domain::sessions::trading_day;
use crate::notify::{Event, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

/// What a look at the contracts of what is held came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Positions that are on their way out from now on.
    pub begun: Vec<PositionId>,
    /// Those to be warned about, with a sentence each.
    pub warnings: BTreeMap<PositionId, String>,
}

/// What a term has told of it.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    told: BTreeSet<(PositionId, NaiveDate)>,
}

impl Book {
    /// Has positions closed whose contract ends, by the wall clock `at`.
    pub(super) fn leave_expiring(&mut self, policy: &RolloverPolicy, at: DateTime<Utc>, now: Moment) -> Look {
        if !self.market_asked {
            // Somebody may be about to tell.
            return Look::default();
        }
        let (contracts, calendar) = (self.contracts.clone(), self.calendar.clone());
        let holidays = Arc::clone(&self.holidays);
        let mut look = Look::default();
        let mut due = Vec::new();
        for position in self.portfolio.held() {
            let (contracts, calendar) = (contracts.as_deref(), calendar.as_deref());
            let standing = judge_held(policy, contracts, calendar, &holidays, position, at);
            due.extend(standing.due.map(|why| (position.id, why)));
            look.warnings.extend(standing.warning.map(|sentence| (position.id, sentence)));
        }
        for (id, why) in due {
            if self.close_at_look(id, ExitCause::Expiry, why, now) {
                look.begun.push(id);
            }
        }
        look
    }
}

impl Expiry {
    /// What of a look is news: each position once a day.
    pub fn news<'a>(&mut self, look: &'a Look, day: NaiveDate) -> Vec<(PositionId, &'a str)> {
        self.told.retain(|(_, told)| *told == day);
        let fresh = look.warnings.iter().filter(|(id, _)| self.told.insert((**id, day)));
        fresh.map(|(id, sentence)| (*id, sentence.as_str())).collect()
    }

    /// Tells what is news of a look.
    pub fn tell(&mut self, look: &Look, book: &Book, day: NaiveDate, metrics: &Metrics, notifier: &Notifier) {
        let expiring = i64::try_from(look.warnings.len()).unwrap_or(i64::MAX);
        metrics.positions_expiring.set(expiring);
        for position in look.begun.iter().filter_map(|id| book.position(*id)) {
            tracing::warn!(
                position = %position.id, instrument = position.instrument, label = position.label,
                "[STATE] {}: its contract nears its end: it is sold", position.symbol
            );
        }
        for (id, sentence) in self.news(look, day) {
            tracing::warn!(position = %id, "[STATE] {sentence}");
            let sentence = format!("{sentence}; see RUNBOOK.md#contract_expiring");
            notifier.raise(Event::about(Kind::ContractExpiring, id.to_string(), sentence));
        }
    }
}

impl Term<'_> {
    /// Looks at what is held in contracts that near their end.
    pub(super) fn keep_off_expiry(&mut self) {
        let rules = &self.engine.rules;
        if rules.simulated || rules.allow_after_market {
            return;
        }
        let (at, now) = (wall_clock(), self.fence().now());
        let look = self.book.leave_expiring(&rules.policy.rollover, at, now);
        let (metrics, notifier) = (&self.engine.metrics, &self.engine.notifier);
        self.expiry.tell(&look, &self.book, trading_day(at), metrics, notifier);
    }
}
