//! Room for exits: a stop that may still sell is cancelled, and seen to have ended, before anything else sells its units.

use std::time::Duration;

use ha::Moment;

use super::{LOOK, contract_is, level_of};
use crate::domain::cause::ExitCause;
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::order::OrderClass;
use crate::domain::position::HoldingKey;
use crate::domain::request::Ask;
use crate::engine::book::Tracked;
use crate::engine::holdings::Held;
use crate::engine::requests::Request;
use crate::engine::term::{Term, wall_clock};
use crate::ledger::LedgerError;

/// For how long an exit that wanted room keeps a new stop away.
const ROOM: Duration = Duration::from_secs(5);

impl Term<'_> {
    /// Has a stop, or another order that rests, cancelled, for the sake of an order of `class`; false when a switch holds that
    /// back.
    pub(in crate::engine) async fn withdraw(
        &mut self,
        id: IntentId,
        class: OrderClass,
    ) -> Result<bool, LedgerError> {
        let now = self.fence().now();
        let live = self.book.intents.get(&id).filter(|t| t.intent.state.is_live());
        let may_cancel = |t: &Tracked| {
            let is_closed = self.book.is_closed(&t.intent.order.exchange, wall_clock());
            self.at_broker.may_cancel(&t.intent, is_closed, now)
        };
        if !live.is_some_and(may_cancel) {
            return Ok(true);
        }
        match self.request(id, Ask::Cancel, class).await? {
            Request::Sent(_) => {
                self.at_broker.cancelled(id, now);
            }
            Request::Needless => self.read_books_soon(),
            Request::HeldBack => return Ok(false),
        }
        Ok(true)
    }

    /// Has the stops of a contract cancelled, for an operator.
    pub(in crate::engine) async fn withdraw_stops_of(
        &mut self,
        contract: &HoldingKey,
    ) -> Result<(), LedgerError> {
        let stops = self.book.resting().filter(|t| contract_is(&t.intent.order, contract));
        let stops: Vec<IntentId> = stops.map(|t| t.intent.id).collect();
        for id in stops {
            self.withdraw(id, OrderClass::Operator).await?;
        }
        Ok(())
    }

    /// Has the stops cancelled that stand in the way of exits, and parts the exits into those that may go on and those that
    /// wait for the end of a stop. The books show it, or what the stop sold instead; while its outcome is not known, so is
    /// what may be sold.
    pub(in crate::engine) async fn make_room(
        &mut self,
        batch: Vec<OrderIntent>,
    ) -> Result<(Vec<OrderIntent>, Vec<Held>), LedgerError> {
        let (mut free, mut held) = (Vec::new(), Vec::new());
        for exit in batch {
            let stands = |t: &&Tracked| exit.is_exit() && !exit.rests() && t.intent.position == exit.position;
            let stops: Vec<OrderIntent> =
                self.book.resting().filter(stands).map(|t| t.intent.clone()).collect();
            if stops.is_empty() {
                free.push(exit);
                continue;
            }
            let now = self.fence().now();
            let mut allowed = true;
            for stop in &stops {
                if !self.sells_by_itself(stop, &exit, now) {
                    allowed &= self.withdraw(stop.id, exit.class).await?;
                }
            }
            if allowed {
                self.at_broker.room.insert(exit.position, now.plus(ROOM));
            } else {
                self.book.judge_anew(&exit);
            }
            held.push(Held::until(exit, now.plus(LOOK)));
        }
        Ok((free, held))
    }

    /// A stop that stands where the price is has the sale left to it, for a moment.
    fn sells_by_itself(&mut self, stop: &OrderIntent, exit: &OrderIntent, now: Moment) -> bool {
        let rules = &self.engine.rules;
        let position = self.book.position(exit.position);
        let level = position.and_then(|position| level_of(rules, position));
        let stands = level.is_some_and(|level| self.at_broker.stands_at(stop) >= level.trigger);
        if exit.cause != Some(ExitCause::StopLoss) || !stands {
            return false;
        }
        let patience = Duration::from_millis(rules.policy.stops.patience_ms.into());
        if !self.at_broker.hits.contains_key(&stop.id) {
            self.read_books_soon();
        }
        let since = *self.at_broker.hits.entry(stop.id).or_insert(now);
        now.since(since) < patience
    }
}
