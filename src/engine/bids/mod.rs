//! Entries that are worked: bids that rise in place while they stand, and end when their time is over (docs/adr/0039).
//!
//! The plan is stored with the order, so the leader remembers only since when it has seen a bid; one that takes over goes on
//! from the price where the books show it. Each look compares where a bid stands with where it should, and takes one step: a
//! modify, recorded first, one at a time, or the cancel. What may still be filled is called off at once when nobody wants it
//! any more: an EXIT means it, its position is on its way out, a switch holds entries, its strategy's or its instrument's back,
//! stored state is damaged.
//!
//! What a cancelled bid left is ordered once more only by what is proven ([`rest`]).

pub(in crate::engine) mod rest;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha::Moment;

use super::book::Book;
use super::requests::Request;
use super::resting::AtBroker;
use super::term::{Term, wall_clock};
use crate::domain::execution::Bidding;
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{IntentState, OrderClass, OrderSpec};
use crate::domain::request::Ask;
use crate::ledger::LedgerError;
use rest::Known;
pub(super) use rest::is_paused_on;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How often the switches are asked about the bids that stand: a limit is never raised, and nothing else would say.
const ASK: Duration = Duration::from_secs(1);

/// What a term knows of the entries that are worked.
#[derive(Debug, Default)]
pub(super) struct Bids {
    /// How far each bid was when this term saw it first, and when that was.
    since: HashMap<IntentId, (Duration, Moment)>,
    /// What is known of the entries that are between two orders.
    pauses: HashMap<SignalId, Known>,
    /// Bids that a switch holds back, as the ledger said last.
    held_back: BTreeSet<IntentId>,
    next_ask: Option<Moment>,
    next_look: Option<Moment>,
}

/// What is to be done about a bid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It is to stand at this price.
    Raise(Price),
    /// Its time is over; what is left may be ordered once more.
    EndForMore,
    /// Its time is over.
    End,
    /// Nobody wants it any more.
    CallOff,
}

impl Bids {
    /// What is to be done about each bid at the broker. `unwanted` are to be called off, `wall` is the wall-clock time and
    /// `reject_s` how old an entry may be.
    pub fn look(
        &mut self,
        book: &Book,
        at_broker: &AtBroker,
        unwanted: &BTreeSet<IntentId>,
        (wall, reject_s): (DateTime<Utc>, u32),
        now: Moment,
    ) -> Vec<(IntentId, Step)> {
        self.since.retain(|id, _| book.intents.get(id).is_some_and(|t| bid(&t.intent).is_some()));
        let mut steps = Vec::new();
        for (intent, bidding) in book.intents.values().filter_map(|tracked| bid(&tracked.intent)) {
            let stands = at_broker.stands_at(intent);
            let (reached, since) = *self.since.entry(intent.id).or_insert((bidding.reached(stands), now));
            let beyond = bidding.units < bought(book, intent) + intent.remaining();
            let step = if beyond || unwanted.contains(&intent.id) || is_unwanted(book, intent) {
                Some(Step::CallOff)
            } else if bidding.is_stale(wall, reject_s) {
                Some(Step::End)
            } else {
                match bidding.at(reached + now.since(since)) {
                    None if bidding.rest_at.is_some() => Some(Step::EndForMore),
                    None => Some(Step::End),
                    // What has begun to fill is at the market's price already.
                    Some(price) => (price > stands && intent.state == IntentState::Acknowledged)
                        .then_some(Step::Raise(price)),
                }
            };
            steps.extend(step.map(|step| (intent.id, step)));
        }
        steps
    }
}

/// A bid that is at the broker.
fn bid(intent: &OrderIntent) -> Option<(&OrderIntent, &Bidding)> {
    intent.bidding().filter(|_| intent.state.is_live()).map(|bidding| (intent, bidding))
}

/// What all orders of an entry have bought.
fn bought(book: &Book, entry: &OrderIntent) -> Quantity {
    let orders = book.intents.values().map(|tracked| &tracked.intent);
    let orders = orders.filter(|o| o.class == OrderClass::Entry && o.signal == entry.signal);
    orders.map(|order| order.filled).sum()
}

/// Its position is meant to be gone, or is.
fn is_unwanted(book: &Book, intent: &OrderIntent) -> bool {
    let gone = book.position(intent.position).is_none() && bought(book, intent) > Quantity::ZERO;
    intent.unwind || gone || book.closing.contains_key(&intent.position)
}

impl Term<'_> {
    /// Compares where bids stand with where they should, and takes the steps between the two.
    pub(super) async fn keep_bids(&mut self) -> Result<(), LedgerError> {
        let now = self.fence().now();
        let worked = self.book.intents.values().any(|tracked| bid(&tracked.intent).is_some());
        if !worked || self.bids.next_look.is_some_and(|next| now < next) {
            return Ok(());
        }
        self.bids.next_look = Some(now.plus(LOOK));
        self.at_broker.forget(&self.book, now);
        self.end_moves(now).await?;
        let unwanted = self.unwanted_bids(now).await?;
        let times = (wall_clock(), self.engine.rules.policy.age.reject_s);
        let waits = !self.entries_wait_for().is_empty();
        for (id, step) in self.bids.look(&self.book, &self.at_broker, &unwanted, times, now) {
            match step {
                // It stands where it is, as a new entry would wait.
                Step::Raise(_) if waits => {}
                Step::Raise(price) => self.raise_bid(id, price, now).await?,
                Step::EndForMore => self.end_bid(id, OrderClass::Entry, "timed_out").await?,
                Step::End => self.end_bid(id, OrderClass::Operator, "timed_out").await?,
                Step::CallOff => self.end_bid(id, OrderClass::Operator, "called_off").await?,
            }
        }
        Ok(())
    }

    /// Bids that an EXIT means which waits for its turn, that a switch holds back, or that the clock or a limit would not let in any
    /// more; or all of them over damaged state.
    async fn unwanted_bids(&mut self, now: Moment) -> Result<BTreeSet<IntentId>, LedgerError> {
        if self.custody.is_some() {
            return Ok(self.book.intents.keys().copied().collect());
        }
        if self.bids.next_ask.is_none_or(|next| now >= next) {
            self.bids.next_ask = Some(now.plus(ASK));
            let bids = self.book.intents.values().filter_map(|tracked| bid(&tracked.intent));
            let bids: Vec<IntentId> = bids.map(|(intent, _)| intent.id).collect();
            self.bids.held_back = self.ask_pool(|| self.engine.ledger.entries_held_back(&bids)).await?;
        }
        let meant = self.lanes.exits().flat_map(|exit| self.book.entries_meant(&exit));
        let wall = wall_clock();
        let bids = self.book.intents.values().filter_map(|tracked| bid(&tracked.intent));
        let late = bids.filter(|(intent, _)| self.lets_in_no_more(intent, wall).is_some());
        let late = late.map(|(intent, _)| intent.id);
        Ok(meant.chain(self.bids.held_back.iter().copied()).chain(late).collect())
    }

    /// Has a bid raised, unless a move or a cancel of it is under way: a late one would undo the next.
    async fn raise_bid(&mut self, id: IntentId, price: Price, now: Moment) -> Result<(), LedgerError> {
        if self.at_broker.is_asked(id, now) {
            return Ok(());
        }
        let Some(tracked) = self.book.intents.get(&id) else { return Ok(()) };
        let to = OrderSpec { price, ..tracked.intent.order.clone() };
        match self.request(id, Ask::Modify(to.clone()), OrderClass::Entry).await? {
            Request::Sent(request) => {
                tracing::info!(intent = %id, "the bid for {} {} rises to {price}", to.quantity, to.symbol);
                self.engine.metrics.bids.with_label_values(&["raised"]).inc();
                self.at_broker.moved(id, request, to, now);
            }
            Request::HeldBack => self.end_bid(id, OrderClass::Operator, "called_off").await?,
            Request::Needless => {
                self.at_broker.not_moved(id, now);
                self.read_books_soon();
            }
        }
        Ok(())
    }

    /// Has a bid cancelled, for the sake of an order of `class`. A switch that holds entries back takes it away, too.
    async fn end_bid(
        &mut self,
        id: IntentId,
        class: OrderClass,
        event: &'static str,
    ) -> Result<(), LedgerError> {
        let first = !self.at_broker.cancels.contains_key(&id);
        if !self.withdraw(id, class).await? {
            self.withdraw(id, OrderClass::Operator).await?;
        }
        if let Some(tracked) =
            self.book.intents.get(&id).filter(|_| first && self.at_broker.cancels.contains_key(&id))
        {
            let intent = &tracked.intent;
            self.engine.metrics.bids.with_label_values(&[event]).inc();
            tracing::info!(
                intent = %id,
                order_id = intent.broker_order_id,
                "the bid for {} {} is cancelled with {} filled: {}",
                intent.order.quantity,
                intent.order.symbol,
                intent.filled,
                if event == "timed_out" { "its time is over" } else { "nobody wants it any more" }
            );
        }
        Ok(())
    }
}
