//! A committed change taken over, and what is forgotten then.

use std::collections::BTreeSet;
use std::time::Duration;

use ha::Moment;
use rust_decimal::Decimal;

use super::{Book, Closing, Tracked, Working};
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::Rupees;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::position::{Position, PositionStatus};
use crate::domain::signal::SignalType;
use crate::ledger::Change;

/// How long an ended order is watched for what the books say of it later: the books hold a day.
const WATCH: Duration = Duration::from_secs(24 * 3600);

/// Between two exits that the broker refuses while the exchange is known to be closed.
const WHILE_CLOSED: Duration = Duration::from_secs(60);

impl Book {
    /// Takes over what the ledger has committed.
    pub fn install(&mut self, change: &Change, now: Moment) {
        for fill in &change.fills {
            if let Some(tracked) = self.intents.get_mut(&fill.intent) {
                tracked.filled_value += fill.price.0 * fill.quantity.decimal();
                tracked.charged += fill.charges.unwrap_or_default();
            }
        }
        if let Some(day) = &mut self.day {
            day.charges += change.fills.iter().filter_map(|fill| fill.charges).sum();
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
            if position.status == PositionStatus::Closing {
                // More was bought than was decided.
                let closing = Closing::at_once(now, ExitCause::LateFill);
                self.closing.entry(position.id).or_insert(closing);
            }
        }
        if let Some(row) = &change.portfolio {
            self.portfolio.equity_high = row.equity_high;
            self.portfolio.cash = row.capital;
        }
        if let (Some(cash), Some(day)) = (&change.cash, &mut self.day) {
            // What the day began with moves along: neither is its profit or loss.
            day.opening = day.opening.map(|opening| opening + cash.movement.amount);
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
        let (filled_value, charged) = (Decimal::ZERO, Rupees::ZERO);
        let tracked = Tracked { intent, filled_value, charged, sent_by, silent: false };
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
            self.portfolio.charges_closed += position.charges;
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
    /// ones may turn out to be filled. With an entry's order goes every other one of the entry: a late fill of one has to
    /// know what they did.
    fn forget_finished(&mut self, now: Moment) {
        let positions = &self.portfolio.positions;
        self.looked.retain(|(id, _)| positions.iter().any(|position| position.id == *id));
        let (working, closing) = (&self.working, &self.closing);
        let is_entry = |intent: &OrderIntent| intent.class == OrderClass::Entry;
        let kept = |Tracked { intent, sent_by, .. }: &Tracked| {
            !intent.state.is_terminal()
                || (may_be_unsaid(intent) && now < sent_by.plus(WATCH))
                || intent.signal.is_some_and(|signal| working.contains_key(&signal))
                || (!is_entry(intent) && closing.contains_key(&intent.position))
        };
        let entries = self.intents.values().filter(|tracked| is_entry(&tracked.intent) && kept(tracked));
        let entered: BTreeSet<PositionId> = entries.map(|tracked| tracked.intent.position).collect();
        self.intents.retain(|_, tracked| {
            kept(tracked) || (is_entry(&tracked.intent) && entered.contains(&tracked.intent.position))
        });
    }
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
