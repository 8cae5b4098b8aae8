//! Cancels and modifies on their way: journaled, sent once in a task of their own, their answer recorded. What became of
//! the order itself the books tell.

use std::sync::Arc;

use ha::Fence;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::term::{Event, Term};
use crate::broker::{Broker, Submission, Ticket};
use crate::domain::ids::IntentId;
use crate::domain::order::OrderClass;
use crate::domain::request::{Ask, RequestState};
use crate::failpoint;
use crate::ledger::requests::{Asked, JournaledRequest};
use crate::ledger::{Ledger, LedgerError};

/// The answer to a request.
#[derive(Debug)]
pub struct Answered {
    /// The request.
    pub id: Uuid,
    /// The intent whose order it is about.
    pub intent: IntentId,
    /// Where the request is now.
    pub state: RequestState,
}

/// What became of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// It is on its way.
    Sent(Uuid),
    /// A switch holds it back.
    HeldBack,
    /// There is nothing to ask.
    Needless,
}

impl Term<'_> {
    /// Asks the broker about the order of an intent, for the sake of an order of `class`.
    pub(super) async fn request(
        &mut self,
        intent: IntentId,
        ask: Ask,
        class: OrderClass,
    ) -> Result<Request, LedgerError> {
        failpoint::hit("before_request");
        let (ledger, window) = (&self.engine.ledger, self.engine.pace.send_window);
        let asked = self.patiently(ledger.journal_request(self.fence(), intent, ask, class, window)).await?;
        let request = match asked {
            Asked::Journaled(request) => request,
            Asked::Blocked(switches) => {
                tracing::debug!(%intent, %class, "a request is held back: {}", switches.sentence());
                return Ok(Request::HeldBack);
            }
            Asked::Needless => return Ok(Request::Needless),
        };
        let id = request.id;
        self.in_flight += 1;
        let way = Way {
            broker: Arc::clone(&self.engine.broker),
            fence: self.fence().clone(),
            ledger: ledger.clone(),
            events: self.sender.clone(),
        };
        tokio::spawn(way.carry(request));
        Ok(Request::Sent(id))
    }
}

/// What a request needs on its way.
struct Way {
    broker: Arc<dyn Broker>,
    fence: Fence,
    ledger: Ledger,
    /// To the term.
    events: mpsc::Sender<Event>,
}

impl Way {
    async fn carry(self, request: JournaledRequest) {
        failpoint::hit("after_request_journal");
        let Self { broker, fence, ledger, events } = self;
        let (tag, send_by) = (request.strategy_tag(), request.send_by);
        let may_send = move || {
            let allowed = fence.check().is_ok() && fence.now() < send_by;
            if allowed {
                failpoint::soon("after_request_write");
            }
            allowed
        };
        let ticket =
            Ticket { class: request.class, ahead: None, strategy: &tag, within: None, may_send: &may_send };
        let order_id = &request.order_id;
        let submission = match &request.ask {
            Ask::Cancel => broker.cancel(order_id, ticket).await,
            Ask::Modify(order) => broker.modify(order_id, order, ticket).await,
        };
        failpoint::hit("after_request_reply");
        let (state, reason) = match submission {
            Submission::Acknowledged { .. } => (RequestState::Acknowledged, None),
            Submission::Rejected { reason, .. } => (RequestState::Rejected, Some(reason)),
            Submission::NotSent { reason, .. } => (RequestState::NotSent, Some(reason)),
            Submission::InDoubt { reason, .. } => (RequestState::InDoubt, Some(reason)),
        };
        tracing::info!(intent = %request.intent, order_id, reason, "{tag} is {state}");
        if let Err(error) = ledger.record_request(request.id, &request.ask, state, reason.as_deref()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the answer to {tag} was not recorded");
        }
        // Gone with the term.
        let _ =
            events.send(Event::Answered(Answered { id: request.id, intent: request.intent, state })).await;
    }
}
