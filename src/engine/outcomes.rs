//! What became of orders that were sent: what came in together is committed together.

use std::slice;
use std::time::Duration;

use super::anew;
use super::draft::Draft;
use super::senders::{self, say_unsent};
use super::takeover::WRONG_MODE;
use super::term::{Term, wall_clock};
use crate::broker::{NotSentCause, Submission};
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::order::IntentState;
use crate::failpoint;
use crate::ledger::LedgerError;
use crate::mutant::Mutant;

/// How an order's submission ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whose.
    pub id: IntentId,
    /// How.
    pub submission: Submission,
    /// From the call to the answer.
    pub took: Duration,
}

/// What an outcome says of its intent.
struct Learnt {
    id: IntentId,
    state: IntentState,
    reason: Option<String>,
    order_id: Option<String>,
    /// The signal to decide anew.
    anew: Option<SignalId>,
    /// That it never left, where that is known.
    word: Option<(IntentId, String)>,
}

impl Term<'_> {
    /// Records what became of orders in one change; each in its own where the ledger refuses that, so that one which cannot
    /// be recorded leaves no other in doubt.
    pub(super) async fn outcomes(&mut self, ended: Vec<Outcome>) -> Result<(), LedgerError> {
        let learnt: Vec<Learnt> = ended.into_iter().filter_map(|outcome| self.learn(outcome)).collect();
        let recorded = match self.record(&learnt).await {
            Err(error) if learnt.len() > 1 && error.is_refusal() => self.record_each(&learnt).await,
            recorded => recorded,
        };
        if recorded.is_err() {
            // Whoever leads next could not know it.
            for (id, why) in learnt.into_iter().filter_map(|one| one.word) {
                tokio::spawn(say_unsent(self.engine.ledger.clone(), vec![id], why));
            }
        }
        recorded
    }

    async fn record_each(&mut self, learnt: &[Learnt]) -> Result<(), LedgerError> {
        for one in learnt {
            self.record(slice::from_ref(one)).await?;
        }
        Ok(())
    }

    async fn record(&mut self, learnt: &[Learnt]) -> Result<(), LedgerError> {
        let mut draft = Draft::new(&self.book, &self.engine.rules, wall_clock());
        for one in learnt {
            let Some(tracked) = self.book.intents.get(&one.id) else { continue };
            draft.intent(tracked, one.state, one.reason.clone(), one.order_id.clone());
            one.anew.into_iter().for_each(|signal| draft.keep(signal));
        }
        let change = draft.finish();
        failpoint::hit("before_ack_commit");
        self.commit(change).await?;
        learnt.iter().filter_map(|one| one.anew).for_each(|signal| self.decide_anew(signal));
        if learnt.iter().any(|one| !one.state.is_terminal()) {
            self.read_books_soon();
        }
        Ok(())
    }

    /// What an outcome says of its intent; nothing, where that is known already.
    fn learn(&mut self, Outcome { id, submission, took }: Outcome) -> Option<Learnt> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.clocks.answered(id, took, &self.engine.metrics);
        let tracked = self.book.intents.get(&id)?;
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
                    // An order went there: that the bridge is back is not the end of it.
                    self.mode_is_other = false;
                    self.engine
                        .operational
                        .error(WRONG_MODE, format!("the bridge answered in {} mode: {reason}", wrong.found));
                }
                (IntentState::InDoubt, Some(reason), None)
            }
        };
        let fresh = tracked.intent.state.may_become(state);
        fresh.then_some(Learnt { id, state, reason, order_id, anew, word })
    }
}
