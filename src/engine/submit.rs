//! One order on its way to the broker: the last check, the write, the outcome.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ha::Fence;
use tokio::sync::mpsc;

use super::outcomes::Outcome;
use super::senders::{Underway, proof, say_unsent};
use super::term::Event;
use crate::broker::{Ahead, Broker, Submission, Ticket};
use crate::failpoint;
use crate::ledger::{JournaledIntent, Ledger};
use crate::mutant::Mutant;
use crate::telemetry::Traces;
use crate::telemetry::traces::Step;

/// What an order needs on its way.
pub(super) struct Way {
    pub broker: Arc<dyn Broker>,
    /// The place in the budget that was asked for while it was journaled.
    pub ahead: Option<Ahead>,
    pub fence: Fence,
    pub ledger: Ledger,
    /// To the term.
    pub events: mpsc::Sender<Event>,
    pub traces: Traces,
    /// Says that this order may still be written.
    pub underway: Underway,
}

/// Sends a journaled intent, once, and reports what became of it.
pub(super) async fn submit(journaled: JournaledIntent, way: Way) {
    let Way { broker, ahead, fence, ledger, events, traces, underway } = way;
    failpoint::hit("after_journal");
    let send_by = journaled.send_by();
    let may_send = move || {
        let allowed = fence.check().is_ok() && fence.now() < send_by;
        if allowed {
            failpoint::hit("after_check");
            failpoint::soon("after_write");
        }
        allowed
    };
    let ticket = |ahead| Ticket {
        class: journaled.intent().class,
        ahead,
        strategy: journaled.strategy_tag(),
        within: None,
        may_send: &may_send,
    };
    let (begun, at) = (Instant::now(), SystemTime::now());
    let mut submission = broker.place(journaled.order(), ticket(ahead)).await;
    if Mutant::ResendsInDoubt.is_on() && matches!(submission, Submission::InDoubt { .. }) {
        submission = broker.place(journaled.order(), ticket(None)).await;
    }
    failpoint::hit("after_reply");
    traces.record(|| {
        let step = Step::of_order(journaled.intent(), "send").calls().since(at);
        match &submission {
            Submission::Acknowledged { order_id } => step.with("baton.order_id", order_id.clone()),
            Submission::Rejected { reason, .. } => step.failed(format!("rejected: {reason}")),
            Submission::NotSent { reason, .. } => step.failed(format!("not sent: {reason}")),
            Submission::InDoubt { reason, .. } => step.failed(format!("in doubt: {reason}")),
        }
    });
    let outcome = Outcome { id: journaled.id(), submission, took: begun.elapsed() };
    drop(underway);
    // The receiver is gone when the term has ended: the successor finds the intent unfinished and reads the books, which
    // cannot show that an order never left.
    if let Err(unheard) = events.send(Event::Outcome(outcome)).await
        && let Some((id, why)) = proof(&unheard.0)
    {
        say_unsent(ledger, vec![id], why).await;
    }
}
