//! Orders that the broker took and that do not fill.
//!
//! Brokers make a market order a limit order with some protection, so that it can rest while the price walks away from it. An
//! exit that rests is cancelled and, once the books show its end, sent anew, with the protection of the price that is now; an
//! entry is cancelled, since what it was decided by is over. What such an order filled meanwhile the books say, as ever:
//! the next exit is made of what is held then.
//!
//! Nothing is remembered beyond the term: a takeover waits anew. An entry that is worked by a plan has times of its own
//! (`bids`).

use std::collections::HashMap;
use std::time::Duration;

use ha::Moment;

use super::book::Book;
use super::term::Term;
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::listing::Listing;
use crate::domain::money::Quantity;
use crate::domain::order::OrderClass;
use crate::domain::policy::OrderPolicy;
use crate::ledger::LedgerError;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// An exit has twice the patience of the one before it: where nobody buys, at the end of the price band, a new order only loses
/// its place in the queue. So often it is doubled at most.
const DOUBLED_AT_MOST: u32 = 6;

/// Since when each order at the broker has filled so much and no more.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    since: HashMap<IntentId, (Quantity, Moment)>,
    next_look: Option<Moment>,
}

/// An order that has not filled on for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Late {
    pub id: IntentId,
    /// Of what it is cancelled for: a switch that holds an exit back leaves the one that is out, and nothing keeps an entry.
    pub class: OrderClass,
}

impl Overdue {
    /// Notes how far each order is; gives those that have stood still for longer than the policy's patience.
    pub fn look(&mut self, book: &Book, policy: &OrderPolicy, now: Moment) -> Vec<Late> {
        let watched =
            |intent: &OrderIntent| intent.state.is_live() && !intent.rests() && intent.bidding().is_none();
        self.since.retain(|id, _| book.intents.get(id).is_some_and(|t| watched(&t.intent)));
        let mut late = Vec::new();
        for intent in book.intents.values().map(|tracked| &tracked.intent).filter(|intent| watched(intent)) {
            let (filled, since) = self.since.entry(intent.id).or_insert((intent.filled, now));
            if *filled != intent.filled {
                (*filled, *since) = (intent.filled, now);
            }
            let is_entry = intent.class == OrderClass::Entry;
            let patience = if is_entry { policy.entry_patience_ms } else { policy.exit_patience_ms };
            let ended = book.closing.get(&intent.position).map_or(0, |closing| closing.failures);
            let patience = Duration::from_millis(patience.into()) * (1 << ended.min(DOUBLED_AT_MOST));
            let is_late = now.since(*since) >= patience;
            // While the exchange is closed nothing fills, and the next order would rest as well; so it is with what is sold in a
            // closing auction, which fills at its end.
            let order = &intent.order;
            let waits = book.closed.contains(&order.exchange)
                || !is_entry && book.auctions.contains(&Listing::new(&order.exchange, &order.symbol));
            if is_late && !waits {
                let class = if is_entry { OrderClass::Operator } else { intent.class };
                late.push(Late { id: intent.id, class });
            }
        }
        late
    }
}

impl Term<'_> {
    /// Has orders cancelled that rest where they should fill.
    pub(super) async fn cancel_overdue(&mut self) -> Result<(), LedgerError> {
        let now = self.fence().now();
        if self.overdue.next_look.is_some_and(|next| now < next) {
            return Ok(());
        }
        self.overdue.next_look = Some(now.plus(LOOK));
        // A cancel is forgotten with its order, also where no stop rests: while one is remembered the books are awaited.
        self.at_broker.forget(&self.book, now);
        for Late { id, class } in self.overdue.look(&self.book, &self.engine.rules.policy.orders, now) {
            let first = !self.at_broker.cancels.contains_key(&id);
            self.withdraw(id, class).await?;
            if first && self.at_broker.cancels.contains_key(&id) {
                self.tell_overdue(id);
            }
        }
        Ok(())
    }

    fn tell_overdue(&self, id: IntentId) {
        let Some(intent) = self.book.intents.get(&id).map(|tracked| &tracked.intent) else { return };
        let next = if intent.is_exit() { "sent anew once it has ended" } else { "not sent again" };
        self.engine.metrics.orders_overdue.with_label_values(&[intent.class.as_str()]).inc();
        tracing::warn!(
            intent = %id,
            order_id = intent.broker_order_id,
            "{} {} {} rests at the broker with {} filled: it is cancelled, and {next}",
            intent.order.side,
            intent.order.quantity,
            intent.order.symbol,
            intent.filled
        );
    }
}
