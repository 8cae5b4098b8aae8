//! One order on its way to the broker: the last check, the write, the outcome.

use std::sync::Arc;
use std::time::Instant;

use ha::Fence;
use tokio::sync::mpsc;

use super::term::Event;
use crate::broker::{Broker, Submission, Ticket};
use crate::failpoint;
use crate::ledger::JournaledIntent;
use crate::mutant::Mutant;

/// Sends a journaled intent, once, and reports what became of it.
pub async fn submit(
    broker: Arc<dyn Broker>,
    fence: Fence,
    journaled: JournaledIntent,
    events: mpsc::Sender<Event>,
) {
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
    let ticket = Ticket {
        class: journaled.intent().class,
        strategy: journaled.strategy_tag(),
        within: None,
        may_send: &may_send,
    };
    let begun = Instant::now();
    let mut submission = broker.place(journaled.order(), ticket).await;
    if Mutant::ResendsInDoubt.is_on() && matches!(submission, Submission::InDoubt { .. }) {
        submission = broker.place(journaled.order(), ticket).await;
    }
    failpoint::hit("after_reply");
    let outcome = Event::Outcome { id: journaled.id(), submission, took: begun.elapsed() };
    // The receiver is gone when the term has ended: the successor finds the intent unfinished and reads the books.
    let _ = events.send(outcome).await;
}
