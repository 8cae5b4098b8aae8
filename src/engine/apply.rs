//! Events applied: an order's outcome, a signal's quotes, the broker's books. Each change is committed, then installed.

use std::time::{Duration, SystemTime};

use super::book::Book;
use super::custody::Custody;
use super::evidence::{Evidence, Reading};
use super::holdings::key;
use super::lanes::Phase;
use super::takeover::{SESSION_EXPIRED, WRONG_MODE};
use super::tell::{self, tell};
use super::term::{Event, Term};
use super::trace::trace;
use crate::broker::BrokerError;
use crate::ledger::{Change, LedgerError};
use crate::telemetry::{Metrics, traces};

/// How long a signal whose quote could not be read waits before the next try.
const QUOTE_RETRY: Duration = Duration::from_millis(500);
/// Failed readings of the books in a row before the operator is told.
const BRIDGE_PATIENCE: u32 = 3;

impl Term<'_> {
    /// Applies one event: drafts the change, commits it, installs it.
    pub(super) async fn apply(&mut self, event: Event) -> Result<(), LedgerError> {
        match event {
            Event::Outcome(outcome) => self.outcomes(vec![outcome]).await,
            Event::Quoted { id, quotes, at, failures } => {
                let retry = self.fence().now().plus(QUOTE_RETRY);
                if let Some(waiting) = self.lanes.find(id) {
                    if !failures.is_empty() {
                        tracing::warn!(signal = %id, trace_id = %traces::of_signal(id), "no live price: {}", failures.join("; "));
                        waiting.not_before = retry;
                    }
                    waiting.phase = Phase::Quoted(quotes, at);
                }
                Ok(())
            }
            Event::Ahead { instrument, quotes, at } => {
                self.ahead.came(&instrument, quotes, at);
                Ok(())
            }
            Event::Held { book, marked, begun } => {
                self.held(book, marked, begun);
                Ok(())
            }
            Event::Confirmed { listing, quote, asked } => {
                self.confirmed(&listing, quote, asked);
                Ok(())
            }
            Event::Answered(answered) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.answered(&answered);
                Ok(())
            }
            Event::Books(Ok(reading)) => self.books(reading).await,
            Event::Books(Err(error)) => {
                self.books_failed(&error);
                Ok(())
            }
        }
    }

    async fn books(&mut self, reading: Reading) -> Result<(), LedgerError> {
        if self.bridge_failures >= BRIDGE_PATIENCE && self.custody.is_none() {
            self.engine.operational.over(SESSION_EXPIRED, "the broker's session is back");
            if std::mem::take(&mut self.mode_is_other) {
                self.engine
                    .operational
                    .over(WRONG_MODE, "the bridge is back in the mode that this agent is armed for");
            }
            self.engine.operational.active("the bridge answers again");
        }
        self.bridge_failures = 0;
        self.pace_readings(&reading.books);
        self.note_resting(&reading);
        let confirmed = self.suspects.clone();
        let mut suspects = std::mem::take(&mut self.suspects);
        let evidence = Evidence::gather(&self.book, &reading, self.engine.pace.absence);
        let findings = evidence.findings(&self.book, &mut suspects);
        self.suspects = suspects;
        for (intents, orders) in &findings.ambiguous {
            tracing::error!(
                ?intents,
                ?orders,
                "more orders at the broker than in-doubt intents: say which is ours"
            );
        }
        let moved = self.settle(&evidence, &findings, &confirmed).await?;
        // Where not every order of ours is known, none can be called another's.
        let blind = self.custody.as_ref().is_some_and(Custody::is_blind);
        if !findings.foreign.is_empty() && !blind {
            tracing::warn!(orders = ?findings.foreign, "orders at the broker that are not ours: reported, never touched");
            tell::foreign(&findings.foreign, &self.engine.notifier);
            let (ledger, foreign) = (&self.engine.ledger, &findings.foreign);
            let watermark = self.ask_pool(|| ledger.remember_foreign_orders(self.fence(), foreign)).await?;
            self.book.foreign.extend(findings.foreign.iter().map(|id| (id.clone(), watermark)));
            self.book.watermark = watermark;
        }
        if self.custody.is_none() {
            self.look_for_lost_exits(&reading).await?;
            self.prove_failover(reading.begun, &findings).await?;
        }
        // What cannot be booked will not be bookable in 20 ms either.
        self.plan_next_reading(moved);
        Ok(())
    }

    fn books_failed(&mut self, error: &BrokerError) {
        self.bridge_failures += 1;
        if matches!(error, BrokerError::WrongMode { .. }) {
            // Its first word in the other mode is enough: an order would be real where none is meant to be, or none.
            self.bridge_failures = self.bridge_failures.max(BRIDGE_PATIENCE);
            self.mode_is_other |= !self.engine.operational.is_error_but(SESSION_EXPIRED);
        }
        tracing::warn!(
            error = error as &dyn std::error::Error,
            failures = self.bridge_failures,
            "the books could not be read"
        );
        if self.bridge_failures >= BRIDGE_PATIENCE && self.custody.is_none() {
            self.engine.without_bridge(error);
        }
        self.plan_next_reading(false);
    }

    /// The one way to change the book: commit, then install.
    pub(super) async fn commit(&mut self, change: Change) -> Result<(), LedgerError> {
        let change = self.undamaged(change);
        if change.is_empty() {
            return Ok(());
        }
        let begun = SystemTime::now();
        self.ask_pool(|| self.engine.ledger.commit(self.fence(), &change)).await?;
        trace(&self.book, &change, &self.engine.traces, begun);
        let metrics = &self.engine.metrics;
        tell(&self.book, &change, metrics, &self.engine.notifier);
        for update in &change.intents {
            self.clocks.moved(update.id, update.state, metrics);
        }
        let now = self.fence().now();
        for fill in &change.fills {
            if let Some(tracked) = self.book.intents.get(&fill.intent) {
                self.holdings.traded(key(&tracked.intent), now);
            }
        }
        self.book.install(&change, now);
        show_in_doubt(metrics, &self.book);
        Ok(())
    }
}

/// Shows how many orders are in doubt: also those that a takeover put there, before anything else is committed.
pub(super) fn show_in_doubt(metrics: &Metrics, book: &Book) {
    metrics.orders_in_doubt.set(i64::try_from(book.in_doubt().count()).unwrap_or(i64::MAX));
}
