//! Events applied: an order's outcome, a signal's quotes, the broker's books. Each change is committed, then installed.

use std::time::{Duration, SystemTime};

use super::anew;
use super::book::Book;
use super::custody::Custody;
use super::draft::Draft;
use super::evidence::{Evidence, Reading};
use super::lanes::Phase;
use super::senders::{self, say_unsent};
use super::takeover::SESSION_EXPIRED;
use super::tell::{self, tell};
use super::term::{Event, Term, wall_clock};
use super::trace::trace;
use crate::broker::{BrokerError, NotSentCause, Submission};
use crate::domain::ids::IntentId;
use crate::domain::order::IntentState;
use crate::failpoint;
use crate::ledger::{Change, LedgerError};
use crate::mutant::Mutant;
use crate::telemetry::{Metrics, traces};

/// How long a signal whose quote could not be read waits before the next try.
const QUOTE_RETRY: Duration = Duration::from_millis(500);
/// Failed readings of the books in a row before the operator is told.
const BRIDGE_PATIENCE: u32 = 3;

impl Term<'_> {
    /// Applies one event: drafts the change, commits it, installs it.
    pub(super) async fn apply(&mut self, event: Event) -> Result<(), LedgerError> {
        match event {
            Event::Outcome { id, submission, took } => self.outcome(id, submission, took).await,
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
            Event::Held { book, begun, marked } => {
                self.held(book, begun, marked);
                Ok(())
            }
            Event::Confirmed { listing, quote } => {
                self.confirmed(&listing, quote);
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

    async fn outcome(
        &mut self,
        id: IntentId,
        submission: Submission,
        took: Duration,
    ) -> Result<(), LedgerError> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.clocks.answered(id, took, &self.engine.metrics);
        let Some(tracked) = self.book.intents.get(&id) else { return Ok(()) };
        let word = senders::word(id, &submission);
        let withheld = matches!(submission, Submission::NotSent { cause: NotSentCause::Deadline, .. });
        let anew = anew::signal_of(&tracked.intent).filter(|_| withheld);
        let (state, reason, order_id) = match submission {
            Submission::Acknowledged { order_id } => (IntentState::Acknowledged, None, Some(order_id)),
            Submission::Rejected { reason, order_id } => (IntentState::Rejected, Some(reason), order_id),
            // A human may still release it at the bridge: not proven gone.
            Submission::NotSent { reason, cause: NotSentCause::QueuedForHuman } => {
                (IntentState::InDoubt, Some(reason), None)
            }
            Submission::NotSent { reason, cause } => {
                (IntentState::NotSent, Some(format!("{cause}: {reason}")), None)
            }
            Submission::InDoubt { reason, .. } if Mutant::BelievesSilence.is_on() => {
                (IntentState::NotSent, Some(reason), None)
            }
            Submission::InDoubt { mut reason, wrong_mode } => {
                if let Some(wrong) = wrong_mode {
                    if let Some(order) = &wrong.order_id {
                        reason = format!("{reason}; there it is order {order}");
                    }
                    self.engine.operational.error(
                        "WRONG_MODE",
                        format!("the bridge answered in {} mode: {reason}", wrong.found),
                    );
                }
                (IntentState::InDoubt, Some(reason), None)
            }
        };
        if !tracked.intent.state.may_become(state) {
            return Ok(());
        }
        let mut draft = Draft::new(&self.book, &self.engine.rules.catalog, wall_clock());
        draft.intent(tracked, state, reason, order_id);
        anew.into_iter().for_each(|signal| draft.keep(signal));
        let change = draft.finish();
        failpoint::hit("before_ack_commit");
        if let Err(error) = self.commit(change).await {
            // Whoever leads next could not know it.
            if let Some((id, why)) = word {
                tokio::spawn(say_unsent(self.engine.ledger.clone(), vec![id], why));
            }
            return Err(error);
        }
        anew.into_iter().for_each(|signal| self.decide_anew(signal));
        if !state.is_terminal() {
            self.read_books_soon();
        }
        Ok(())
    }

    async fn books(&mut self, reading: Reading) -> Result<(), LedgerError> {
        if self.bridge_failures >= BRIDGE_PATIENCE && self.custody.is_none() {
            self.engine.operational.over(SESSION_EXPIRED, "the broker's session is back");
            self.engine.operational.active("the bridge answers again");
        }
        self.bridge_failures = 0;
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
        let mut moved = false;
        for id in &findings.intents {
            if !self.may_settle(*id) {
                continue;
            }
            let settled =
                evidence.settle(&self.book, &self.engine.rules.catalog, *id, &confirmed, wall_clock());
            match settled {
                Ok(change) => {
                    failpoint::hit("before_fill_commit");
                    if findings.unseen.contains(id) {
                        tell::unseen_end(&change, &self.engine.notifier);
                    }
                    let committed = self.commit(change).await;
                    moved |= committed.is_ok();
                    self.bearable(committed)?;
                }
                Err(error) => {
                    tracing::error!(intent = %id, error = &error as &dyn std::error::Error, "the broker's books contradict the ledger");
                    self.engine.operational.error("DATA_CORRUPT", format!("intent {id}: {error}"));
                }
            }
        }
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
        self.book.install(&change, now);
        show_in_doubt(metrics, &self.book);
        Ok(())
    }
}

/// Shows how many orders are in doubt: also those that a takeover put there, before anything else is committed.
pub(super) fn show_in_doubt(metrics: &Metrics, book: &Book) {
    metrics.orders_in_doubt.set(i64::try_from(book.in_doubt().count()).unwrap_or(i64::MAX));
}
