//! The engine's memory: what is held, what is out, what is asked for. Changed only by installing a committed change.
//!
//! Decisions are made over a [`Book`] and come out as a [`Change`](crate::ledger::Change); the ledger commits it; only then is it
//! installed here. A crash between the two loses memory, never truth.

mod changed;
mod closing;
mod hours;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ha::Moment;
use rust_decimal::Decimal;

use crate::domain::cause::ExitCause;
use crate::domain::contract::Contracts;
use crate::domain::exit::ExitRequest;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::{EntryPlan, OrderIntent};
use crate::domain::limits::Day;
use crate::domain::listing::Listing;
use crate::domain::money::Rupees;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::portfolio::Portfolio;
use crate::domain::position::{Position, PositionStatus};
use crate::domain::sessions::{Calendar, Holiday};
use crate::domain::signal::{Signal, SignalType};
use crate::ledger::snapshot::FilledSoFar;
use crate::recovery::Recovered;
use crate::recovery::reconcile::Drift;
use crate::strategy::states::States;
pub use closing::Closing;

/// An intent and what only this process knows of it.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The intent as stored.
    pub intent: OrderIntent,
    /// Σ price · quantity of its recorded fills.
    pub filled_value: Decimal,
    /// What those were charged.
    pub charged: Rupees,
    /// No byte of it can be written after this moment, whoever journaled it.
    pub sent_by: Moment,
    /// Its sender is known to be past writing it, even one that was paused before the write.
    pub silent: bool,
}

/// A signal whose orders are out.
#[derive(Clone, Debug)]
pub struct Working {
    /// Its type.
    pub kind: SignalType,
    /// Its intents, all attempts.
    pub intents: Vec<IntentId>,
}

/// Everything the leader knows.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Positions, cash and high-water mark.
    pub portfolio: Portfolio,
    /// Intents that may still change, and those of working signals.
    pub intents: BTreeMap<IntentId, Tracked>,
    /// Signals whose orders are out.
    pub working: HashMap<SignalId, Working>,
    /// Positions on their way out.
    pub closing: BTreeMap<PositionId, Closing>,
    /// Broker order ids that belong to an intent.
    pub claimed: HashSet<String>,
    /// Broker orders that no intent explains, with their place in the order they were seen.
    pub foreign: HashMap<String, i64>,
    /// The newest place among the foreign orders.
    pub watermark: i64,
    /// Contracts of which the broker's position book holds something else.
    pub drift: Arc<Drift>,
    /// The account's day; none before it was read.
    pub day: Option<Day>,
    /// When exchanges are open today; none before it was read.
    pub calendar: Option<Arc<Calendar>>,
    /// The days that are not as usual, as far as they are known.
    pub holidays: Arc<Vec<Holiday>>,
    /// What is known of today's contracts; none before any was read.
    pub contracts: Option<Arc<Contracts>>,
    /// All of these are what was known after bridge and ledger had been asked; until then nothing follows from what is missing.
    pub market_asked: bool,
    /// Exchanges of held positions that are known to be closed now.
    pub closed: BTreeSet<String>,
    /// What looks have begun, and why.
    pub looked: BTreeSet<(PositionId, ExitCause)>,
    /// Held contracts that are said to be in their closing auction now.
    pub auctions: BTreeSet<Listing>,
    /// Which strategies may enter, as read last; the journal's statement has the last word.
    pub strategies: Arc<States>,
}

impl Book {
    /// The memory of a new leader: what recovery proved, as seen at `now`.
    ///
    /// Nobody knows how long ago an inherited intent was journaled, so its bytes may leave for a whole send window
    /// from now.
    pub fn restored(recovered: Recovered, now: Moment) -> Self {
        let Recovered { snapshot, portfolio, .. } = recovered;
        let mut book = Self { portfolio, ..Self::default() };
        for intent in snapshot.intents {
            let window = Duration::from_millis(u64::try_from(intent.send_window_ms).unwrap_or(0));
            let FilledSoFar { value: filled_value, charges: charged, .. } =
                snapshot.filled.get(&intent.id).copied().unwrap_or_default();
            let sent_by = now.plus(window);
            book.intents.insert(intent.id, Tracked { intent, filled_value, charged, sent_by, silent: false });
        }
        for position in book.portfolio.positions.iter().filter(|p| p.status == PositionStatus::Closing) {
            let exits = book.intents.values().map(|tracked| &tracked.intent);
            let last = exits
                .filter(|intent| {
                    intent.position == position.id && intent.class != OrderClass::Entry && !intent.rests()
                })
                .max_by_key(|intent| intent.attempt);
            let cause = last.and_then(|intent| intent.cause).max(position.exit_cause);
            let cause = cause.unwrap_or(ExitCause::Signal);
            let closing = Closing {
                signal: last.and_then(|intent| intent.signal.map(|signal| (signal, intent.leg))),
                next_attempt: last.map_or(0, |intent| intent.attempt + 1),
                ..Closing::at_once(now, cause)
            };
            book.closing.insert(position.id, closing);
        }
        for wish in snapshot.wishes {
            book.close_by(wish.position, ExitCause::Operator, wish.why, now);
        }
        book.claimed = snapshot.claimed_orders.into_iter().collect();
        book.watermark = snapshot.foreign_orders.values().copied().max().unwrap_or(0);
        book.foreign = snapshot.foreign_orders;
        book
    }

    /// Takes over a signal that a former leader began.
    pub fn resume(&mut self, signal: SignalId, kind: SignalType) {
        let intents = self.intents.values().filter(|t| t.intent.signal == Some(signal)).map(|t| t.intent.id);
        let working = Working { kind, intents: intents.collect() };
        self.working.insert(signal, working);
    }

    /// The position with this id, if it is still held.
    pub fn position(&self, id: PositionId) -> Option<&Position> {
        self.portfolio.positions.iter().find(|position| position.id == id)
    }

    /// Intents of an instrument in one of the given states.
    pub fn intents_of<'a>(
        &'a self,
        instrument: &'a str,
        wanted: impl Fn(&OrderIntent) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Tracked> {
        self.intents
            .values()
            .filter(move |tracked| tracked.intent.instrument == instrument && wanted(&tracked.intent))
    }

    /// Intents whose outcome only the books can tell.
    pub fn in_doubt(&self) -> impl Iterator<Item = &Tracked> {
        self.intents.values().filter(|tracked| tracked.intent.state == IntentState::InDoubt)
    }

    /// True while the books have something to say about an intent. A stop that rests untouched is left to the order
    /// stream and to the reading that comes in any case.
    pub fn wants_books(&self) -> bool {
        let live = |i: &OrderIntent| i.state.is_live() && !i.rests_untouched();
        self.intents.values().any(|t| live(&t.intent) || t.intent.state == IntentState::InDoubt)
    }

    /// True while an exit of this position is out or in doubt; a stop that rests is not one.
    pub fn exit_is_out(&self, position: PositionId) -> bool {
        self.intents.values().any(|tracked| {
            tracked.intent.position == position
                && tracked.intent.class != OrderClass::Entry
                && !tracked.intent.rests()
                && !tracked.intent.state.is_terminal()
        })
    }

    /// Stops that may still sell, the oldest first.
    pub fn resting(&self) -> impl Iterator<Item = &Tracked> {
        self.intents.values().filter(|t| t.intent.rests() && !t.intent.state.is_terminal())
    }

    /// Entries on their way that an EXIT means: its label, its strategy, from an earlier signal.
    pub fn entries_meant(&self, exit: &ExitRequest<'_>) -> Vec<IntentId> {
        let meant = |intent: &OrderIntent| {
            !intent.state.is_terminal() && intent.plan.as_ref().is_some_and(|plan| means(exit, plan))
        };
        self.intents_of(exit.instrument, meant).map(|tracked| tracked.intent.id).collect()
    }

    /// The account's closed equity.
    pub fn closed_equity(&self) -> Rupees {
        self.portfolio.closed_equity()
    }
}

/// A signal waiting for its turn, as read from the inbox.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Its id.
    pub id: SignalId,
    /// Its place in the inbox.
    pub seq: i64,
    /// What it asks for.
    pub signal: Signal,
    /// How many intents it has had, one after the other: all but the next provably never left.
    pub attempt: i32,
}

/// True where an EXIT of its instrument means what an entry opens: its label, its strategy, from an earlier signal.
pub fn means(exit: &ExitRequest<'_>, plan: &EntryPlan) -> bool {
    exit.target.includes(plan.label)
        && exit.strategy.is_none_or(|strategy| strategy == plan.strategy)
        && (plan.bar_time, plan.signal_seq) < (exit.bar_time, exit.seq)
}
