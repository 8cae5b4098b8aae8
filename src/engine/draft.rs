//! A change in the making: outcomes and fills are drafted over the book, and the aggregates follow by themselves.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::book::{Book, Tracked};
use super::decide::Rules;
use crate::domain::cause::ExitCause;
use crate::domain::fill::FillError;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::instrument::Instrument;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;
use crate::domain::refusal::Refusal;
use crate::domain::sessions::trading_day;
use crate::domain::signal::SignalType;
use crate::ledger::Change;
use crate::ledger::change::{FillRow, IntentUpdate, PortfolioRow, PyramidWrite, SignalUpdate};
use crate::ledger::inbox::SignalStatus;

/// Why a fill could not be booked; the order's evidence is kept out of the ledger until a person has looked.
#[derive(Debug, thiserror::Error)]
pub enum BookingError {
    /// The evidence contradicts the position.
    #[error("the fill does not fit its position")]
    Fill(#[from] FillError),
    /// The entry has no plan, or its instrument is not configured any more.
    #[error("entry intent {0} has no plan to make a position of")]
    NoPlan(IntentId),
    /// The exit's position is not held.
    #[error("exit intent {intent} closes position {position}, which is not held")]
    NoPosition {
        /// The exit.
        intent: IntentId,
        /// The position.
        position: PositionId,
    },
}

/// Drafts one [`Change`] over a book that stays as it is.
pub struct Draft<'a> {
    book: &'a Book,
    rules: &'a Rules,
    positions: BTreeMap<PositionId, (Position, bool)>,
    change: Change,
    anew: BTreeSet<SignalId>,
    at: DateTime<Utc>,
}

impl<'a> Draft<'a> {
    /// Begins an empty change; positions opened by it carry the time `at`.
    pub fn new(book: &'a Book, rules: &'a Rules, at: DateTime<Utc>) -> Self {
        Self { book, rules, positions: BTreeMap::new(), change: Change::default(), anew: BTreeSet::new(), at }
    }

    /// Moves an intent to `state`, with what else is known.
    pub fn intent(
        &mut self,
        tracked: &Tracked,
        state: IntentState,
        reason: Option<String>,
        order_id: Option<String>,
    ) {
        let intent = &tracked.intent;
        self.change.intents.push(IntentUpdate {
            id: intent.id,
            state,
            // The broker's own words; a NUL is no text to PostgreSQL and would make the change fail for ever.
            reason: reason.map(|reason| reason.replace('\0', "")),
            broker_order_id: order_id,
            filled: intent.filled,
            unwind: intent.class == OrderClass::Entry && intent.state.is_terminal(),
        });
    }

    /// Keeps a signal from ending with its orders: it is decided anew.
    pub fn keep(&mut self, signal: SignalId) {
        self.anew.insert(signal);
    }

    /// Books an execution of `quantity` units at `price` on the intent's position; to follow [`Draft::intent`].
    ///
    /// # Errors
    /// The fill contradicts the position; the draft is then to be thrown away.
    pub fn fill(
        &mut self,
        intent: &OrderIntent,
        quantity: Quantity,
        price: Price,
    ) -> Result<(), BookingError> {
        let cumulative = intent.filled + quantity;
        if let Some(update) = self.change.intents.iter_mut().rev().find(|update| update.id == intent.id) {
            update.filled = cumulative;
        }
        let booked = if intent.class == OrderClass::Entry {
            Some(self.entry_fill(intent, quantity, price)?)
        } else if intent.custody {
            // Of no position: a repair says of which.
            None
        } else {
            let missing = BookingError::NoPosition { intent: intent.id, position: intent.position };
            let position = self.position(intent.position).ok_or(missing)?;
            position.apply_exit_fill(quantity, price)?;
            if intent.rests() {
                // Nobody sent it out: its stop did.
                position.exit_cause = position.exit_cause.max(intent.cause);
            }
            Some(intent.position)
        };
        let charges = booked.and_then(|position| self.charge(intent, position, quantity, price));
        self.change.fills.push(FillRow { intent: intent.id, cumulative, quantity, price, charges });
        Ok(())
    }

    /// What the fill is charged, added to its position's charges. An order is charged as one, however its fills were booked.
    fn charge(
        &mut self,
        intent: &OrderIntent,
        position: PositionId,
        quantity: Quantity,
        price: Price,
    ) -> Option<Rupees> {
        let (schedule, day) = (&self.rules.charges, intent.day.unwrap_or_else(|| trading_day(self.at)));
        let before = self.book.intents.get(&intent.id);
        let (value, charged) =
            before.map_or_else(Default::default, |order| (order.filled_value, order.charged));
        let position = self.position(position)?;
        let turnover = position.turnover(value + price.0 * quantity.decimal());
        let charges = schedule.of_fill(&intent.order, day, turnover, charged);
        position.charges += charges;
        Some(charges)
    }

    /// Books an entry's fill; gives the position that it was booked on.
    fn entry_fill(
        &mut self,
        intent: &OrderIntent,
        quantity: Quantity,
        price: Price,
    ) -> Result<PositionId, BookingError> {
        // What an order filled too late for its position is one under the order's own id.
        let own = PositionId(intent.id.0);
        let id = if self.position(intent.position).is_some() { intent.position } else { own };
        if let Some(position) = self.position(id) {
            position.apply_entry_fill(quantity, price)?;
            // An order that the books had called ended has filled on, beside the one that was sent for what it left; or one
            // fills for the first time that was given up, as the operator was told, or called off with its position. The mark
            // says so when the order appeared before its trades did.
            let most = intent.bidding().map(|bidding| bidding.units);
            let beyond = most.is_some_and(|most| position.entry_quantity > most);
            let marked = intent.unwind && intent.filled == Quantity::ZERO;
            if (beyond || marked || intent.state == IntentState::Abandoned) && position.begin_exit() {
                position.exit_cause = Some(ExitCause::LateFill);
            }
            return Ok(id);
        }
        let (Some(plan), Some(signal)) = (&intent.plan, intent.signal) else {
            return Err(BookingError::NoPlan(intent.id));
        };
        let configured = self.rules.catalog.get(&intent.instrument).ok_or(BookingError::NoPlan(intent.id))?;
        // What was decided counts, not what the configuration says by now.
        let instrument = Instrument {
            symbol: intent.order.symbol.clone(),
            exchange: intent.order.exchange.clone(),
            product: intent.order.product,
            lot_size: plan.lot_size,
            point_value: plan.point_value,
            margin_per_lot: plan.margin_per_lot,
            ..configured.clone()
        };
        // Fills that come after their position was closed, or after their order was taken for ended, are wanted by
        // nobody any more and closed at once: the status says so in the same transaction, so that a crash in between
        // forgets nothing.
        let (begun, was_held) = (intent.filled > Quantity::ZERO, self.was_held(intent));
        let unwanted = begun || was_held || intent.unwind || intent.state.is_terminal();
        // An order that has ended may share its position with another one that nobody remembers, and which made it.
        let shared = was_held || (intent.state.is_terminal() && intent.bidding().is_some());
        let id = match (begun, shared) {
            (true, _) => PositionId::new(),
            (false, true) => own,
            (false, false) => intent.position,
        };
        let opening = plan.opening(id, signal);
        let mut position = opening.filled(&instrument, quantity, price, self.at)?;
        if unwanted {
            position.begin_exit();
            position.exit_cause = Some(ExitCause::LateFill);
        }
        self.positions.insert(id, (position, true));
        Ok(id)
    }

    /// Another order of the same entry has filled: a position that is not there any more has been.
    fn was_held(&self, intent: &OrderIntent) -> bool {
        let others = self.book.intents.values().map(|tracked| &tracked.intent);
        let mut others = others.filter(|other| other.id != intent.id && other.position == intent.position);
        others.any(|other| other.class == OrderClass::Entry && other.filled > Quantity::ZERO)
    }

    /// The position as drafted so far, to be changed.
    pub fn position(&mut self, id: PositionId) -> Option<&mut Position> {
        if !self.positions.contains_key(&id) {
            let held = self.book.position(id)?.clone();
            self.positions.insert(id, (held, false));
        }
        self.positions.get_mut(&id).map(|(position, _)| position)
    }

    /// Ends a signal, or says why it is where it is.
    pub fn signal(&mut self, id: SignalId, status: SignalStatus, reasons: Value, decision: Option<Value>) {
        self.change.signals.push(SignalUpdate { id, status, reasons, decision });
    }

    /// Closes the draft: versions, aggregates, pyramids, and the end of every signal whose orders are all ended.
    pub fn finish(mut self) -> Change {
        self.end_signals();
        if self.positions.is_empty() {
            return self.change;
        }
        let mut after = self.book.portfolio.clone();
        // Trade by trade, as the equity curve has them: by the time of their closing, and at the same time by their ids.
        let mut closed_equity = after.closed_equity();
        for (position, fresh) in self.positions.into_values() {
            let before = self.book.position(position.id).map_or(Rupees::ZERO, |held| held.realised);
            closed_equity += position.realised - before;
            after.equity_high = after.equity_high.max(closed_equity);
            if fresh {
                after.positions.push(position.clone());
                self.change.opened.push(position);
            } else {
                let position = Position { version: position.version + 1, ..position };
                let held = after.positions.iter_mut().find(|held| held.id == position.id);
                if let Some(held) = held {
                    *held = position.clone();
                }
                self.change.positions.push(position);
            }
        }
        self.change.portfolio = Some(PortfolioRow::of(&after));
        let changed = self.change.opened.iter().chain(&self.change.positions);
        let instruments: BTreeSet<String> = changed.map(|p| p.instrument.clone()).collect();
        let pyramids =
            instruments.into_iter().map(|name| match PyramidingState::derive(&name, &after.positions) {
                Some(state) => PyramidWrite::Set(state),
                None => PyramidWrite::Clear(name),
            });
        self.change.pyramids = pyramids.collect();
        self.change
    }

    /// Every signal of the touched intents whose orders have all ended gets its final status; and every EXIT whose
    /// position was closed here, by whose order ever.
    fn end_signals(&mut self) {
        let mut touched: BTreeSet<SignalId> = BTreeSet::new();
        for update in &self.change.intents {
            touched.extend(self.book.intents.get(&update.id).and_then(|tracked| tracked.intent.signal));
        }
        for (id, _) in self.positions.iter().filter(|(_, (position, _))| !position.is_held()) {
            let asked = self.book.closing.get(id).and_then(|closing| closing.signal);
            touched.extend(asked.map(|(signal, _)| signal));
        }
        for signal in touched.difference(&self.anew).copied() {
            if let Some((status, reasons)) = self.verdict(signal) {
                self.change.signals.push(SignalUpdate { id: signal, status, reasons, decision: None });
            }
        }
    }

    /// A signal's end, once all of its orders have ended and, for an EXIT, its positions are flat.
    fn verdict(&self, signal: SignalId) -> Option<(SignalStatus, Value)> {
        let Some(working) = self.book.working.get(&signal) else { return self.second_verdict(signal) };
        let (kind, ids) = (working.kind, &working.intents);
        let ends: Vec<(IntentState, Quantity, Option<String>, PositionId)> =
            ids.iter().filter_map(|id| self.after(*id)).collect();
        if ends.is_empty() || ends.iter().any(|(state, ..)| !state.is_terminal()) {
            return None;
        }
        if kind == SignalType::Exit {
            let held = |id| match self.positions.get(&id) {
                Some((position, _)) => position.is_held(),
                None => self.book.position(id).is_some(),
            };
            let asked = |id: &PositionId| {
                self.book
                    .closing
                    .get(id)
                    .is_some_and(|closing| closing.signal.is_some_and(|(by, _)| by == signal))
            };
            let waiting = self.book.closing.keys().filter(|id| asked(id)).any(|id| held(*id));
            let flat = !waiting && !ends.iter().any(|(.., position)| held(*position));
            return flat.then(|| (SignalStatus::Executed, json!([])));
        }
        let orders = ids.iter().filter_map(|id| self.book.intents.get(id)).map(|tracked| &tracked.intent);
        let last = orders.max_by_key(|intent| intent.attempt)?;
        let (state, _, reason, _) = self.after(last.id)?;
        let bought: Quantity = ends.iter().map(|(_, filled, ..)| *filled).sum();
        let wanted = last.bidding().map_or(last.order.quantity, |bidding| bidding.units);
        if state == IntentState::Cancelled && bought < wanted && self.may_go_on(last) {
            return None;
        }
        let status = match state {
            _ if bought > Quantity::ZERO => SignalStatus::Executed,
            IntentState::NotSent => SignalStatus::NotSent,
            IntentState::Abandoned => SignalStatus::Abandoned,
            _ => SignalStatus::Rejected,
        };
        let reasons = match reason {
            Some(reason) if status != SignalStatus::Executed => {
                json!([{ "code": status.as_str().to_uppercase(), "sentence": reason }])
            }
            _ if bought < wanted => json!([shortfall(bought, wanted)]),
            _ => json!([]),
        };
        Some((status, reasons))
    }

    /// What a cancelled order of an entry left may be ordered once more: the leader ends the signal, if it is not.
    fn may_go_on(&self, last: &OrderIntent) -> bool {
        let unwound = self.change.intents.iter().any(|update| update.id == last.id && update.unwind);
        !last.unwind && !unwound && last.bidding().is_some_and(|bidding| bidding.rest_at.is_some())
    }

    /// A signal that was final already, and one of whose orders has appeared or filled after all. What an entry filled
    /// makes it executed; nothing else changes a final status: the ledger would refuse it.
    fn second_verdict(&self, signal: SignalId) -> Option<(SignalStatus, Value)> {
        let entries = self.book.intents.values().filter(|t| t.intent.signal == Some(signal));
        let mut entries = entries.filter(|t| t.intent.class == OrderClass::Entry);
        let filled =
            |(_, filled, ..): (IntentState, Quantity, Option<String>, PositionId)| filled > Quantity::ZERO;
        entries
            .any(|t| self.after(t.intent.id).is_some_and(filled))
            .then(|| (SignalStatus::Executed, json!([])))
    }

    /// An intent's state as drafted so far.
    fn after(&self, id: IntentId) -> Option<(IntentState, Quantity, Option<String>, PositionId)> {
        let tracked = self.book.intents.get(&id)?;
        let update = self.change.intents.iter().rev().find(|update| update.id == id);
        Some(match update {
            Some(u) => (u.state, u.filled, u.reason.clone(), tracked.intent.position),
            None => {
                let intent = &tracked.intent;
                (intent.state, intent.filled, intent.reason.clone(), intent.position)
            }
        })
    }
}

/// Why an entry bought less than was decided.
pub fn shortfall(bought: Quantity, wanted: Quantity) -> Refusal {
    let code = if bought > Quantity::ZERO { "PARTLY_FILLED" } else { "NOT_FILLED" };
    Refusal::new(
        code,
        format!("{bought} of {wanted} units were bought before the order ended; the rest is not bought"),
    )
}
