//! The engine's memory: what is held, what is out, what is asked for. Changed only by installing a committed change.
//!
//! Decisions are made over a [`Book`] and come out as a [`Change`]; the ledger commits it; only then is it
//! installed here. A crash between the two loses memory, never truth.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha::Moment;
use rust_decimal::Decimal;

use crate::domain::auction;
use crate::domain::cause::ExitCause;
use crate::domain::contract::Contracts;
use crate::domain::exit::ExitRequest;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::instrument::Catalog;
use crate::domain::intent::OrderIntent;
use crate::domain::limits::Day;
use crate::domain::listing::Listing;
use crate::domain::money::Rupees;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::portfolio::{PendingEntry, Portfolio};
use crate::domain::position::{Position, PositionStatus};
use crate::domain::sessions::{Calendar, Holiday, trading_day};
use crate::domain::signal::{Signal, SignalType};
use crate::ledger::Change;
use crate::recovery::Recovered;
use crate::recovery::reconcile::Drift;
use crate::strategy::states::States;

/// How long an ended order is watched for what the books say of it later: the books hold a day.
const WATCH: Duration = Duration::from_secs(24 * 3600);

/// Between two exits that the broker refuses while the exchange is known to be closed.
const WHILE_CLOSED: Duration = Duration::from_secs(60);

/// An intent and what only this process knows of it.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The intent as stored.
    pub intent: OrderIntent,
    /// Σ price · quantity of its recorded fills.
    pub filled_value: Decimal,
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

/// A position that is meant to be gone: exits are sent until it is flat.
#[derive(Clone, Debug)]
pub struct Closing {
    /// The EXIT that asked for it and its leg; none for what no signal asked for.
    pub signal: Option<(SignalId, i32)>,
    /// Why; the strongest of those that asked for it. Decides what may hold the next exit back.
    pub cause: ExitCause,
    /// The same in words.
    pub why: Option<String>,
    /// The next exit's attempt number.
    pub next_attempt: i32,
    /// Exits that ended one after the other without selling what they were for.
    pub failures: u32,
    /// No new exit before this moment.
    pub not_before: Moment,
}

impl Closing {
    /// To be closed now, by no signal's wish.
    fn at_once(now: Moment, cause: ExitCause) -> Self {
        Self { signal: None, cause, why: None, next_attempt: 0, failures: 0, not_before: now }
    }
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
            let filled_value = snapshot.filled.get(&intent.id).map_or(Decimal::ZERO, |sum| sum.value);
            book.intents.insert(
                intent.id,
                Tracked { intent, filled_value, sent_by: now.plus(window), silent: false },
            );
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

    /// Has a position closed for `signal`, under the next free leg number.
    pub fn close_for(&mut self, signal: SignalId, position: PositionId, not_before: Moment) {
        let legs = self.intents.values().filter(|t| t.intent.signal == Some(signal)).map(|t| t.intent.leg);
        let waiting = self
            .closing
            .values()
            .filter_map(|c| c.signal)
            .filter(|(by, _)| *by == signal)
            .map(|(_, leg)| leg);
        let leg = legs.chain(waiting).max().map_or(0, |leg| leg + 1);
        let closing =
            Closing { signal: Some((signal, leg)), ..Closing::at_once(not_before, ExitCause::Signal) };
        self.closing.entry(position).or_insert(closing);
    }

    /// Has a position closed for a reason of its own, beside or before any signal's. False when it is on its way out
    /// for a reason as strong already, or not held. The one closer of a position is its entry here: a second reason
    /// never makes a second exit.
    pub fn close_by(&mut self, position: PositionId, cause: ExitCause, why: String, now: Moment) -> bool {
        let stronger = self.is_news_to(position, cause);
        if stronger {
            let closing = self.closing.entry(position).or_insert(Closing::at_once(now, cause));
            closing.cause = cause;
            closing.why = Some(why);
            closing.not_before = closing.not_before.min(now);
        }
        stronger
    }

    /// As [`Self::close_by`], for a cause that every look gives anew: true only when it was not this one's before, under a former
    /// leader either.
    pub fn close_at_look(
        &mut self,
        position: PositionId,
        cause: ExitCause,
        why: String,
        now: Moment,
    ) -> bool {
        let is_first = self.closing.get(&position).is_none_or(|closing| closing.cause < cause);
        let begun = self.close_by(position, cause, why, now) && is_first;
        // A stop that a switch held back meanwhile has taken its entry along.
        begun && self.looked.insert((position, cause))
    }

    /// True for a held position that is not on its way out, or only for a reason weaker than `cause`.
    pub fn is_news_to(&self, position: PositionId, cause: ExitCause) -> bool {
        let before = self.closing.get(&position);
        let stronger = before.is_none_or(|c| c.cause < cause || c.cause == cause && c.why.is_none());
        stronger && self.position(position).is_some()
    }

    /// Forgets a wish to close what no order was sent for yet.
    pub fn keep_open(&mut self, position: PositionId) {
        if self.may_be_kept_open(position) {
            self.closing.remove(&position);
        }
    }

    /// A switch holds the sale `exit` back: the monitor looks again at a price that reached a stop or a take-profit, for it may come back
    /// before the sale is let through. What the clock asks for stays asked for.
    pub fn judge_anew(&mut self, exit: &OrderIntent) {
        let by_price = matches!(exit.cause, Some(ExitCause::StopLoss | ExitCause::TakeProfit));
        if by_price && exit.signal.is_none() && !exit.rests() && exit.attempt == 0 {
            self.keep_open(exit.position);
        }
    }

    /// True while a position is wanted closed by no signal and no order was journaled for it yet.
    pub fn may_be_kept_open(&self, position: PositionId) -> bool {
        self.position(position).is_some_and(|p| p.status == PositionStatus::Open)
            && self.closing.get(&position).is_some_and(|closing| closing.signal.is_none())
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

    /// Stops of a position that may still sell, the oldest first.
    pub fn resting_of(&self, position: PositionId) -> impl Iterator<Item = &Tracked> {
        self.resting().filter(move |tracked| tracked.intent.position == position)
    }

    /// The portfolio with the entries that are on their way: what gates and sizing must count.
    pub fn projected(&self) -> Portfolio {
        let mut portfolio = self.portfolio.clone();
        portfolio.pending = self
            .intents
            .values()
            .filter(|t| t.intent.class == OrderClass::Entry && !t.intent.state.is_terminal())
            .filter_map(|tracked| pending_entry(&tracked.intent))
            .collect();
        portfolio
    }

    /// Notes which exchanges of held positions are known to be closed at the wall-clock time `at`: by today's calendar,
    /// since yesterday's says nothing about today. An exit that waits for its exchange is due the moment it opens.
    pub fn note_closed(&mut self, at: DateTime<Utc>, now: Moment) {
        let today = self.calendar.as_ref().filter(|calendar| calendar.day() == trading_day(at));
        let closed: BTreeSet<String> = today.map_or_else(BTreeSet::new, |calendar| {
            let held = self.portfolio.held().map(|position| &position.exchange);
            held.filter(|exchange| !calendar.is_open(exchange, at)).cloned().collect()
        });
        let before = std::mem::replace(&mut self.closed, closed);
        for position in &self.portfolio.positions {
            let opened = before.contains(&position.exchange) && !self.closed.contains(&position.exchange);
            if let Some(closing) = self.closing.get_mut(&position.id).filter(|_| opened) {
                closing.not_before = closing.not_before.min(now);
            }
        }
    }

    /// Notes which held contracts are said to be in their closing auction at the wall-clock time `at`.
    pub fn note_auctions(&mut self, catalog: &Catalog, at: DateTime<Utc>) {
        let calendar = self.calendar.as_deref();
        let held = self.portfolio.held().filter(|position| {
            let instrument = catalog.get(&position.instrument);
            let exchange = &position.exchange;
            instrument.is_some_and(|instrument| auction::holds_back(calendar, exchange, instrument, at))
        });
        self.auctions = held.map(Position::listing).collect();
    }

    /// Takes over what the ledger has committed.
    pub fn install(&mut self, change: &Change, now: Moment) {
        for fill in &change.fills {
            if let Some(tracked) = self.intents.get_mut(&fill.intent) {
                tracked.filled_value += fill.price.0 * fill.quantity.decimal();
            }
        }
        for update in &change.intents {
            if let Some(order_id) = &update.broker_order_id {
                self.claimed.insert(order_id.clone());
            }
            if let Some(Tracked { intent, .. }) = self.intents.get_mut(&update.id) {
                intent.state = update.state;
                intent.filled = update.filled;
                intent.unwind |= update.unwind;
                intent.broker_order_id = update.broker_order_id.clone().or(intent.broker_order_id.take());
                intent.reason = update.reason.clone().or(intent.reason.take());
            }
        }
        for position in &change.opened {
            if position.status == PositionStatus::Closing {
                self.closing.insert(position.id, Closing::at_once(now, ExitCause::LateFill));
            }
            self.portfolio.positions.push(position.clone());
        }
        for position in &change.positions {
            self.replace(position);
        }
        if let Some(row) = &change.portfolio {
            self.portfolio.equity_high = row.equity_high;
        }
        self.note_orders_that_ended(change, now);
        for wish in &change.wishes {
            self.close_by(wish.position, ExitCause::Operator, wish.why.clone(), now);
        }
        for signal in &change.signals {
            if signal.status.is_final() {
                self.working.remove(&signal.id);
            }
        }
        self.forget_finished(now);
    }

    /// Counts an intent that is about to be journaled: later decisions of the same batch must see it.
    pub fn plan(&mut self, intent: OrderIntent, sent_by: Moment) {
        let tracked = Tracked { intent, filled_value: Decimal::ZERO, sent_by, silent: false };
        let known = self.intents.insert(tracked.intent.id, tracked).is_some();
        if let Some(day) = self.day.as_mut().filter(|_| !known) {
            day.orders += 1;
        }
    }

    /// Forgets an intent that the journal did not take.
    pub fn unplan(&mut self, id: IntentId) {
        let known = self.intents.remove(&id).is_some();
        if let Some(day) = self.day.as_mut().filter(|_| known) {
            day.orders = day.orders.saturating_sub(1);
        }
    }

    /// Takes over an intent that the journal has committed: it is out now, and so is its signal.
    pub fn journaled(&mut self, intent: OrderIntent, kind: Option<SignalType>, sent_by: Moment) {
        if let (Some(signal), Some(kind)) = (intent.signal, kind) {
            let working = self.working.entry(signal).or_insert(Working { kind, intents: Vec::new() });
            working.intents.push(intent.id);
        }
        if intent.class != OrderClass::Entry && !intent.custody && !intent.rests() {
            let cause = intent.cause.unwrap_or(ExitCause::Signal);
            let closing = self.closing.entry(intent.position).or_insert(Closing::at_once(sent_by, cause));
            closing.signal = intent.signal.map(|signal| (signal, intent.leg));
            closing.next_attempt = intent.attempt + 1;
            let id = intent.position;
            if let Some(position) = self.portfolio.positions.iter_mut().find(|position| position.id == id)
                && position.status == PositionStatus::Open
            {
                // The journal statement did the same to the row.
                position.status = PositionStatus::Closing;
                position.exit_cause = intent.cause;
                position.version += 1;
            }
        }
        self.plan(intent, sent_by);
    }

    /// Entries on their way that an EXIT means: its label, its strategy, from an earlier signal.
    pub fn entries_meant(&self, exit: &ExitRequest<'_>) -> Vec<IntentId> {
        let meant = |intent: &OrderIntent| {
            intent.plan.as_ref().filter(|_| !intent.state.is_terminal()).is_some_and(|plan| {
                exit.target.includes(plan.label)
                    && exit.strategy.is_none_or(|strategy| strategy == plan.strategy)
                    && (plan.bar_time, plan.signal_seq) < (exit.bar_time, exit.seq)
            })
        };
        self.intents_of(exit.instrument, meant).map(|tracked| tracked.intent.id).collect()
    }

    fn replace(&mut self, position: &Position) {
        let positions = &mut self.portfolio.positions;
        let before = positions.iter().find(|held| held.id == position.id).map(|held| held.realised);
        if let Some(day) = &mut self.day {
            day.realised += position.realised - before.unwrap_or(position.realised);
        }
        if position.status == PositionStatus::Closed {
            if let Some(day) = &mut self.day {
                match position.exit_cause {
                    Some(ExitCause::StopLoss) => day.stop_outs += 1,
                    Some(ExitCause::LateFill) => {}
                    _ => day.stop_outs = 0,
                }
            }
            positions.retain(|held| held.id != position.id);
            self.portfolio.realised_closed += position.realised;
            self.closing.remove(&position.id);
        } else if let Some(held) = positions.iter_mut().find(|held| held.id == position.id) {
            *held = position.clone();
        }
    }

    /// An exit that ended without selling what it was for is sent again, later each time; after one that sold it, what is left of
    /// its position is due at once. What was never sent is no order of the day.
    fn note_orders_that_ended(&mut self, change: &Change, now: Moment) {
        for update in change.intents.iter().filter(|update| update.state.is_terminal()) {
            let Some(tracked) = self.intents.get(&update.id) else { continue };
            let entry = tracked.intent.class == OrderClass::Entry;
            let refused = update.state == IntentState::Rejected && !entry;
            let counts = update.state != IntentState::NotSent && !refused;
            if let Some(day) = self.day.as_mut().filter(|_| !counts) {
                // As the ledger counts: tries to get out must not use up the day's entries.
                day.orders = day.orders.saturating_sub(1);
            }
            if entry {
                continue;
            }
            if let Some(closing) = self.closing.get_mut(&tracked.intent.position) {
                let is_sold = update.state == IntentState::Filled;
                if is_sold {
                    // All that it was for, but not all that is held: more than one order takes. The broker sells.
                    closing.failures = 0;
                }
                if is_sold || tracked.intent.rests() {
                    // What is left is due: a stop that ended made room.
                    closing.not_before = closing.not_before.min(now);
                    continue;
                }
                closing.failures += 1;
                let exchange = &tracked.intent.order.exchange;
                let delay = match self.closed.contains(exchange) {
                    true => WHILE_CLOSED,
                    false => retry_delay(closing.failures, closing.cause),
                };
                closing.not_before = now.plus(delay);
            }
        }
    }

    /// Keeps what may still change: live intents, those of working signals and of positions on their way out, and for
    /// a day those that have an end which the books may still unsay: abandoned ones may appear, cancelled and rejected
    /// ones may turn out to be filled.
    fn forget_finished(&mut self, now: Moment) {
        let positions = &self.portfolio.positions;
        self.looked.retain(|(id, _)| positions.iter().any(|position| position.id == *id));
        let (working, closing) = (&self.working, &self.closing);
        self.intents.retain(|_, Tracked { intent, sent_by, .. }| {
            !intent.state.is_terminal()
                || (may_be_unsaid(intent) && now < sent_by.plus(WATCH))
                || intent.signal.is_some_and(|signal| working.contains_key(&signal))
                || (intent.class != OrderClass::Entry && closing.contains_key(&intent.position))
        });
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

/// An end that rests on the books' silence or on their word alone.
fn may_be_unsaid(intent: &OrderIntent) -> bool {
    match intent.state {
        IntentState::Abandoned => true,
        IntentState::Cancelled | IntentState::Rejected => intent.broker_order_id.is_some(),
        _ => false,
    }
}

/// 0.5 s, 1 s, 2 s … 30 s: an exit is never given up, only paced. A stop and an operator wait for 2 s at most.
fn retry_delay(failures: u32, cause: ExitCause) -> Duration {
    let doubled = 500u64.saturating_mul(1 << failures.saturating_sub(1).min(6));
    let longest = if cause.class() == OrderClass::Exit { 30_000 } else { 2_000 };
    Duration::from_millis(doubled.min(longest))
}

fn pending_entry(intent: &OrderIntent) -> Option<PendingEntry> {
    let plan = intent.plan.as_ref()?;
    let lots = intent.remaining().in_lots(plan.lot_size);
    let points = (plan.planned_price.0 - plan.stop.0).max(Decimal::ZERO);
    Some(PendingEntry {
        instrument: intent.instrument.clone(),
        label: plan.label.to_string(),
        risk: Rupees(points * lots * plan.point_value.0),
        volatility: Rupees(plan.atr.0 * lots * plan.point_value.0),
        margin: Rupees(lots * plan.margin_per_lot.0),
    })
}
