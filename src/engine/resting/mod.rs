//! Stops that rest at the broker, so that a position is protected while nobody leads (docs/adr/0024).
//!
//! Nothing here is remembered beyond the term: every look compares what is held with what rests, as ledger and books say
//! it, and takes the steps that lead from one to the other ([`steps`]). What the ledger lets through decides: the journal
//! statement takes no sale beyond what is held, so a stop that may still sell keeps every other exit of its units away.
//! Therefore each of those has it cancelled first, and waits until the books show its end ([`Term::make_room`]).
//!
//! The monitor goes on beside it. A hit leaves the sale to a stop that stands at the level, for a moment; then that is
//! cancelled and the leader sells.

mod memory;
mod moves;
mod room;

use std::collections::HashMap;
use std::time::Duration;

use ha::Moment;

use super::book::Tracked;
use super::decide::{Rules, freeze_of};
use super::intents::resting_stop;
use super::tell;
use super::term::Term;
use crate::domain::freeze::largest;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::{OrderClass, OrderSpec};
use crate::domain::policy::RestingStops;
use crate::domain::position::{HoldingKey, Position};
use crate::domain::resting::{Level, Resting, Step, beyond, steps};
use crate::feed::Freshness;
use crate::ledger::LedgerError;
use crate::notify::{Key, Kind};

pub(super) use memory::AtBroker;
use memory::Told;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long an entry that fills in parts may go on before what it has filled gets its stop.
const SETTLES: Duration = Duration::from_secs(1);
/// How long a position may be without its stop at the broker before it is told.
const GRACE: Duration = Duration::from_secs(5);

/// What a round of looking came to.
#[derive(Debug, Default)]
struct Round {
    place: Vec<OrderIntent>,
    raise: Vec<(IntentId, OrderSpec)>,
    withdraw: Vec<(IntentId, OrderClass)>,
}

/// Where a position's stop is to rest; none where no order can have it.
fn level_of(rules: &Rules, position: &Position) -> Option<Level> {
    let tick = rules.catalog.get(&position.instrument)?.tick;
    Level::of(position.current_stop, tick, rules.policy.stops.limit_percent)
}

impl Term<'_> {
    /// Compares what is held with what rests at the broker, and takes the steps between the two.
    pub(super) async fn keep_stops_resting(&mut self) -> Result<(), LedgerError> {
        let now = self.fence().now();
        if self.at_broker.next_look.is_some_and(|next| now < next) {
            return Ok(());
        }
        self.at_broker.next_look = Some(now.plus(LOOK));
        let is_on = self.engine.rules.policy.stops.resting == RestingStops::On;
        if !is_on && self.book.resting().next().is_none() {
            return Ok(());
        }
        self.at_broker.forget(&self.book, now);
        self.end_moves(now).await?;
        if self.book.drift.has_suspects() && self.book.resting().next().is_some() {
            // A stop may have sold what the ledger still holds.
            self.read_books_soon();
        }
        let round = self.look_at_stops(is_on, now);
        for (id, class) in round.withdraw {
            self.withdraw(id, class).await?;
        }
        for (id, to) in round.raise {
            self.raise(id, to).await?;
        }
        if !round.place.is_empty() {
            let stops: Vec<_> = round.place.iter().map(|stop| (stop.id, stop.position)).collect();
            self.journal_and_send(round.place, Vec::new(), &HashMap::new()).await?;
            // The others were held back, each until its time.
            for (_, position) in stops.iter().filter(|(id, _)| self.book.intents.contains_key(id)) {
                self.at_broker.pace(*position, now);
            }
        }
        self.tell_bare(now);
        Ok(())
    }

    fn look_at_stops(&mut self, is_on: bool, now: Moment) -> Round {
        let mut round = Round::default();
        // Nothing holds back what keeps the account from being short.
        round.withdraw.extend(self.stops_too_many().into_iter().map(|id| (id, OrderClass::Operator)));
        let held: Vec<Position> = self.book.portfolio.held().cloned().collect();
        let mut resting: HashMap<PositionId, Vec<Resting>> = HashMap::new();
        for tracked in self.book.resting() {
            resting.entry(tracked.intent.position).or_default().push(self.at_broker.of(&tracked.intent));
        }
        for position in &held {
            let id = position.id;
            let stops = resting.remove(&id).unwrap_or_default();
            if !is_on {
                round.withdraw.extend(stops.iter().map(|stop| (stop.id, OrderClass::Protective)));
                continue;
            }
            if self.book.closing.contains_key(&id)
                || self.at_broker.room.contains_key(&id)
                || self.book.closed.contains(&position.exchange)
                || self.book.auctions.contains(&position.listing())
            {
                self.at_broker.bare.remove(&id);
                continue;
            }
            let seen = stops.iter().filter(|stop| self.at_broker.seen.contains(&stop.id));
            let covered: Quantity = seen.map(|stop| stop.units).sum();
            self.note_bare(position, position.quantity - covered, now);
            let Some(level) = level_of(&self.engine.rules, position) else { continue };
            let freeze = freeze_of(&self.engine.rules, &self.book, position);
            let most = freeze.map(|freeze| largest(freeze, position.lot_size));
            let leaving = stops.iter().any(|stop| self.at_broker.cancels.contains_key(&stop.id));
            for step in steps(position.quantity, level, most, &stops) {
                match step {
                    Step::Withdraw(stop) => round.withdraw.push((stop, OrderClass::Protective)),
                    // The monitor sells what the price has reached.
                    _ if self.is_reached(position, level) => {}
                    Step::Raise(stop) if !leaving => round.raise.extend(self.raised(stop, level, now)),
                    Step::Place(units) if !self.at_broker.is_paced(id, now) && self.has_settled(id, now) => {
                        let stop = resting_stop(&self.engine.rules, &self.book, position, units, level);
                        round.place.push(stop);
                    }
                    Step::Raise(_) | Step::Place(_) => {}
                }
            }
        }
        round
    }

    /// Stops that would sell what is not held: of positions that are gone, and beyond what the broker's verified book holds
    /// of a contract.
    fn stops_too_many(&self) -> Vec<IntentId> {
        let gone = self.book.resting().filter(|t| self.book.position(t.intent.position).is_none());
        let mut ids: Vec<IntentId> = gone.map(|t| t.intent.id).collect();
        for (key, known) in self.book.drift.confirmed().filter(|(_, known)| known.broker < known.ledger) {
            let of_key = |t: &&Tracked| contract_is(&t.intent.order, key);
            let stops = self.book.resting().filter(of_key);
            let stops: Vec<(IntentId, Quantity)> =
                stops.map(|t| (t.intent.id, t.intent.exit_quantity_out())).collect();
            ids.extend(beyond(known.broker, &stops));
        }
        ids
    }

    /// The price is at the level, as far as is known: an order there would be refused, and the monitor sells.
    fn is_reached(&self, position: &Position, level: Level) -> bool {
        let (prices, now) = (&self.engine.prices, self.fence().now());
        let priced = prices.get(&position.listing());
        let fresh = priced.filter(|priced| prices.ages().judge(now.since(priced.at)) != Freshness::Dead);
        fresh.is_some_and(|priced| priced.price <= level.trigger)
    }

    /// What an entry is still filling is waited for, a moment.
    fn has_settled(&self, position: PositionId, now: Moment) -> bool {
        let filling = |t: &Tracked| {
            let intent = &t.intent;
            intent.position == position && intent.class == OrderClass::Entry && !intent.state.is_terminal()
        };
        let lasted =
            self.at_broker.bare.get(&position).is_some_and(|(_, since)| now.since(*since) >= SETTLES);
        lasted || !self.book.intents.values().any(filling)
    }

    fn note_bare(&mut self, position: &Position, bare: Quantity, now: Moment) {
        let (id, at) = (position.id, &mut self.at_broker);
        let told = at.told.entry(id).or_insert(Told::Nothing);
        if bare > Quantity::ZERO {
            let before = at.bare.get(&id).filter(|(units, _)| *units == bare);
            let since = before.map_or(now, |(_, since)| *since);
            at.bare.insert(id, (bare, since));
        } else if std::mem::replace(told, Told::Rests) != Told::Rests {
            // Also what a former leader told of it is over.
            tell::rests(position, &self.engine.notifier);
            at.covered(id);
        } else {
            at.covered(id);
        }
    }

    /// Counts the positions that have been without their stop at the broker for too long, and tells each once.
    fn tell_bare(&mut self, now: Moment) {
        let AtBroker { bare, told, .. } = &mut self.at_broker;
        let long = bare.iter().filter(|(_, (_, since))| now.since(*since) >= GRACE);
        let long: Vec<(PositionId, Quantity)> = long.map(|(id, (units, _))| (*id, *units)).collect();
        self.engine.metrics.stops_not_resting.set(i64::try_from(long.len()).unwrap_or(i64::MAX));
        for (id, _) in told.extract_if(|id, _| self.book.position(*id).is_none()) {
            self.engine.notifier.resolve(Key::new(Kind::StopNotResting, id.to_string()));
        }
        for (id, units) in long {
            let fresh = told.insert(id, Told::Bare) != Some(Told::Bare);
            let Some(position) = self.book.position(id).filter(|_| fresh) else { continue };
            let stops = self.book.intents.values().map(|t| &t.intent);
            let last = stops.filter(|intent| intent.rests() && intent.position == id).max_by_key(|i| i.id);
            let why = last.and_then(|intent| intent.reason.clone());
            tell::bare(position, units, why.as_deref(), &self.engine.notifier);
        }
    }
}

fn contract_is(order: &OrderSpec, key: &HoldingKey) -> bool {
    (&order.symbol, &order.exchange, order.product) == (&key.symbol, &key.exchange, key.product)
}
