//! Moves of orders that rest, stops and bids: up, in place, one at a time.

use std::time::Duration;

use ha::Moment;

use super::memory::Move;
use crate::broker::OrderStatus;
use crate::domain::ids::IntentId;
use crate::domain::order::{OrderClass, OrderSpec, Side};
use crate::domain::request::{Ask, RequestState};
use crate::domain::resting::Level;
use crate::engine::evidence::Reading;
use crate::engine::requests::{Answered, Request};
use crate::engine::term::Term;
use crate::ledger::LedgerError;

/// How long the books may take to show a move that was acknowledged.
const MOVE_SHOWS: Duration = Duration::from_secs(5);
/// Moves of one stop that may fail before it is replaced by another.
const MOVES_REFUSED: u32 = 3;

impl Term<'_> {
    /// A stop as it is to be after its move, if it may be moved now.
    pub(super) fn raised(&self, id: IntentId, level: Level, now: Moment) -> Option<(IntentId, OrderSpec)> {
        let intent = &self.book.intents.get(&id)?.intent;
        let to = OrderSpec { price: level.limit, trigger_price: level.trigger, ..intent.order.clone() };
        (!self.at_broker.is_asked(id, now)).then_some((id, to))
    }

    /// Has a stop moved up.
    pub(super) async fn raise(&mut self, id: IntentId, to: OrderSpec) -> Result<(), LedgerError> {
        if self.at_broker.refused.get(&id).is_some_and(|(times, _)| *times >= MOVES_REFUSED) {
            // The broker does not move it: another one takes its place.
            return self.withdraw(id, OrderClass::Protective).await.map(drop);
        }
        let now = self.fence().now();
        if let Request::Sent(request) =
            self.request(id, Ask::Modify(to.clone()), OrderClass::Protective).await?
        {
            tracing::info!(intent = %id, "[SL] the stop at the broker moves up to {}", to.trigger_price);
            self.at_broker.moved(id, request, to, now);
        }
        Ok(())
    }

    /// Takes the answer to a cancel or a modify in.
    pub(in crate::engine) fn answered(&mut self, answered: &Answered) {
        let Answered { id, intent, state } = answered;
        if let Some(cancel) = self.at_broker.cancels.get_mut(intent) {
            cancel.answer = Some(*state);
        }
        let refused = matches!(state, RequestState::Rejected | RequestState::NotSent);
        match self.at_broker.moves.get_mut(intent).filter(|asked| asked.request == *id) {
            Some(_) if refused => {
                let now = self.journal.fence().now();
                self.at_broker.moves.remove(intent);
                self.at_broker.not_moved(*intent, now);
            }
            Some(asked) => asked.answer = Some(*state),
            None => {}
        }
        self.read_books_soon();
    }

    /// Notes where the books show each order that rests.
    pub(in crate::engine) fn note_resting(&mut self, reading: &Reading) {
        self.note_stops(reading);
        let bids = self.book.intents.values().map(|tracked| &tracked.intent);
        for bid in bids.filter(|intent| intent.state.is_live() && intent.bidding().is_some()) {
            let row = reading.books.orders.iter().find(|row| {
                bid.broker_order_id.as_deref() == Some(&row.order_id)
                    && (&row.symbol, row.side) == (&bid.order.symbol, bid.order.side)
            });
            // Some brokers show no price, or the one that it filled at.
            if let Some(row) = row.filter(|row| row.price >= bid.order.price) {
                self.at_broker.shown.insert(bid.id, row.price);
            }
        }
    }

    /// Notes where the books show each stop, if they show it at work.
    fn note_stops(&mut self, reading: &Reading) {
        for tracked in self.book.resting() {
            let intent = &tracked.intent;
            let row = reading.books.orders.iter().find(|row| {
                intent.broker_order_id.as_deref() == Some(&row.order_id)
                    && (&row.symbol, row.side) == (&intent.order.symbol, Side::Sell)
            });
            match row.map(|row| (&row.status, row.trigger_price)) {
                Some((OrderStatus::TriggerPending, trigger)) => {
                    self.at_broker.seen.insert(intent.id);
                    self.at_broker.shown.insert(intent.id, trigger);
                }
                Some((OrderStatus::Open | OrderStatus::Other(_), _)) => {
                    self.at_broker.seen.insert(intent.id);
                }
                // It has ended, or a plug-in shows it so: looked at again soon, and not counted on meanwhile.
                Some((OrderStatus::Complete | OrderStatus::Rejected | OrderStatus::Cancelled, _)) => {
                    self.at_broker.seen.remove(&intent.id);
                }
                None => {}
            }
        }
    }

    /// Ends the moves of which the books say what became of them. One in doubt blocks the next until it cannot arrive any
    /// more: it would undo it.
    pub(in crate::engine) async fn end_moves(&mut self, now: Moment) -> Result<(), LedgerError> {
        let (absence, window) = (self.engine.pace.absence, self.engine.pace.send_window);
        let mut ended = Vec::new();
        for (id, asked) in &self.at_broker.moves {
            let shown = self.at_broker.shown.get(id).is_some_and(|at| *at >= asked.to.stands_at());
            let waits = match asked.answer {
                Some(RequestState::Acknowledged) => MOVE_SHOWS,
                _ => window + absence.user_timeout + absence.settle,
            };
            if shown {
                ended.push((*id, RequestState::Applied));
            } else if now.since(asked.at) > waits {
                ended.push((*id, RequestState::Void));
            }
        }
        for (id, state) in ended {
            let Some(Move { request, to, .. }) = self.at_broker.moves.remove(&id) else { continue };
            if state == RequestState::Void {
                self.at_broker.not_moved(id, now);
            }
            let (ledger, ask) = (&self.engine.ledger, Ask::Modify(to));
            self.ask_pool(|| ledger.record_request(request, &ask, state, None)).await?;
        }
        Ok(())
    }
}
