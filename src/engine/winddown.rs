//! The last instance stops and nobody takes over: the exit policy, in steps with a budget each.
//!
//! A term of its own: it reads the ledger and the broker's books back like every takeover, decides no signal, cancels
//! entries that rest at the broker, and under `flatten` sells everything that is held until the books show it flat.
//! `hold` sells nothing. Protective orders are never cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ha::Fence;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::term::{End, Event, Term};
use crate::broker::{Submission, Ticket};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::order::{IntentState, OrderClass};
use crate::ledger::LedgerError;

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Reading back and cancelling entries.
    pub cancel: Duration,
    /// Closing what is held.
    pub close: Duration,
}

/// One step and how it ended, for the log.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Whether it did all it should.
    pub done: bool,
    /// What happened, in a sentence.
    pub outcome: String,
    /// How long it took.
    pub took: Duration,
}

impl Step {
    fn ended(name: &'static str, begun: Instant, outcome: Result<String, String>) -> Self {
        let (done, outcome) = match outcome {
            Ok(outcome) => (true, outcome),
            Err(outcome) => (false, outcome),
        };
        Self { name, done, outcome, took: begun.elapsed() }
    }
}

impl Engine {
    /// Carries the exit policy out under the leadership that `fence` proves; gives each step's outcome.
    pub async fn wind_down(&self, fence: Fence, flatten: bool, budgets: Budgets) -> Vec<Step> {
        let (begun, never) = (Instant::now(), CancellationToken::new());
        let taken = tokio::time::timeout(budgets.cancel, Term::take_over(self, fence, &never)).await;
        let mut term = match taken {
            Ok(Some(term)) => term,
            Ok(None) => {
                return vec![Step::ended(
                    "cancel",
                    begun,
                    Err("leadership ended: nothing was done".to_owned()),
                )];
            }
            Err(_) => {
                let outcome = "the ledger or the broker did not answer, or is not usable: nothing was cancelled or closed, \
                    positions stay as they are and nobody watches their stops"
                    .to_owned();
                return vec![Step::ended("cancel", begun, Err(outcome))];
            }
        };
        let outcome = term.cancel_entries(begun + budgets.cancel).await;
        let mut steps = vec![Step::ended("cancel", begun, outcome)];
        if flatten {
            let begun = Instant::now();
            let outcome = term.sell_everything(begun + budgets.close).await;
            steps.push(Step::ended("close", begun, outcome));
        }
        steps
    }
}

impl Term<'_> {
    /// Cancels entries that rest at the broker, and waits until the books show their end.
    async fn cancel_entries(&mut self, until: Instant) -> Result<String, String> {
        let resting: Vec<IntentId> = self
            .book
            .intents
            .values()
            .filter(|t| t.intent.class == OrderClass::Entry && t.intent.state.is_live())
            .map(|t| t.intent.id)
            .collect();
        if resting.is_empty() {
            return Ok("no entry rests at the broker".to_owned());
        }
        for id in &resting {
            self.cancel(*id).await.map_err(|error| error.to_string())?;
        }
        let ids = resting.clone();
        let ended = move |term: &Self| {
            ids.iter().all(|id| term.book.intents.get(id).is_none_or(|t| t.intent.state.is_terminal()))
        };
        match self.turn_until(until, ended).await? {
            true => Ok(format!("{} resting entries ended", resting.len())),
            false => Err(format!("not all of {} resting entries are seen to have ended", resting.len())),
        }
    }

    async fn cancel(&mut self, id: IntentId) -> Result<(), LedgerError> {
        let ledger = self.engine.ledger.clone();
        let window = self.engine.pace.send_window;
        let fence = self.fence().clone();
        let asked = self.from_pool(|| ledger.journal_cancel(&fence, id, window)).await?;
        let Some(cancel) = asked else {
            return Ok(());
        };
        let (broker, sender) = (Arc::clone(&self.engine.broker), self.sender.clone());
        tokio::spawn(async move {
            let (tag, send_by) = (cancel.strategy_tag(), cancel.send_by);
            let may_send = move || fence.check().is_ok() && fence.now() < send_by;
            let ticket =
                Ticket { class: OrderClass::Operator, strategy: &tag, within: None, may_send: &may_send };
            let submission = broker.cancel(&cancel.order_id, ticket).await;
            let (state, reason) = match submission {
                Submission::Acknowledged { .. } => ("acknowledged", None),
                Submission::Rejected { reason } => ("rejected", Some(reason)),
                Submission::NotSent { reason, .. } => ("not_sent", Some(reason)),
                Submission::InDoubt { reason, .. } => ("in_doubt", Some(reason)),
            };
            tracing::info!(intent = %cancel.intent, order_id = cancel.order_id, reason, "cancel {state}");
            if let Err(error) = ledger.record_cancel(cancel.id, state, reason.as_deref()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a cancel's answer was not recorded"
                );
            }
            // Gone with the term.
            let _ = sender.send(Event::Cancelled).await;
        });
        Ok(())
    }

    /// Sells everything that is held, again and again, until the books show it flat.
    async fn sell_everything(&mut self, until: Instant) -> Result<String, String> {
        let now = self.fence().now();
        let held: Vec<PositionId> = self.book.portfolio.held().map(|position| position.id).collect();
        for id in &held {
            self.book.close_by(*id, ExitCause::Shutdown, "the last instance stops: flatten".to_owned(), now);
        }
        let flat = self.turn_until(until, |term| term.book.portfolio.held().next().is_none()).await?;
        if flat {
            return Ok(format!("{} positions closed, flat by the broker's books", held.len()));
        }
        let open = self.book.portfolio.held().map(|position| {
            let exits = self.book.intents.values().map(|t| &t.intent);
            let last = exits
                .filter(|intent| intent.position == position.id && intent.class != OrderClass::Entry)
                .max_by_key(|intent| (intent.attempt, intent.id));
            let state = match last.map(|intent| intent.state) {
                None => "no order was sent",
                Some(IntentState::InDoubt | IntentState::Journaled) => "its exit is in doubt",
                Some(state) if state.is_live() => "its exit is not filled",
                Some(_) => "its exit was refused",
            };
            format!("{} of {}: {state}", position.quantity, position.symbol)
        });
        let open: Vec<String> = open.collect();
        Err(format!("still held: {}", open.join("; ")))
    }

    /// Turns the loop without deciding signals until `done`, or until the time is over.
    async fn turn_until(&mut self, until: Instant, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        while !done(self) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match tokio::time::timeout(left, self.turn()).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => {
                    return Err(format!("{end}: what was sent is in doubt for whoever leads next"));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.engine.pulse.beat();
        let due = self.exits_due();
        let sent = match due.is_empty() {
            true => Ok(()),
            false => self.journal_and_send(due, Vec::new(), &std::collections::HashMap::new()).await,
        };
        if let Err(error) = sent {
            return Err(self.failed(error));
        }
        self.read_books_if_due();
        self.next_event().await
    }
}
