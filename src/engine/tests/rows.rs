//! A ledger double: the rows, and the rules of `V2__ledger.sql` as panics. A change that the database would refuse ends
//! the term, and would end the next one too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rust_decimal::Decimal;

use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::position::{Position, PositionStatus};
use crate::domain::pyramiding::PyramidingState;
use crate::ledger::Change;
use crate::ledger::change::{FillRow, PortfolioRow, PyramidWrite};
use crate::ledger::inbox::SignalStatus;
use crate::ledger::snapshot::{FilledSoFar, Orphan, PositionFills, Snapshot, Strayed};
use crate::ledger::switches::Switches;
use crate::ledger::wishes::Wish;

#[derive(Clone, Default)]
pub(super) struct Rows {
    pub intents: BTreeMap<IntentId, OrderIntent>,
    pub fills: BTreeMap<(IntentId, i64), FillRow>,
    pub positions: BTreeMap<PositionId, Position>,
    pub signals: BTreeMap<SignalId, SignalStatus>,
    pub portfolio: Option<PortfolioRow>,
    pub pyramids: BTreeMap<String, PyramidingState>,
    pub foreign: HashMap<String, i64>,
    pub wishes: Vec<Wish>,
}

impl Rows {
    /// The journal statement: false when it takes nothing.
    pub fn journal(&mut self, intent: &OrderIntent) -> bool {
        let others = || self.intents.values();
        let taken =
            others().any(|o| (o.signal, o.leg, o.attempt) == (intent.signal, intent.leg, intent.attempt));
        let alike = others().any(|o| o.state.is_unresolved() && o.order == intent.order);
        if (taken && intent.signal.is_some()) || alike {
            return false;
        }
        if intent.class == OrderClass::Entry && intent.signal.is_some() {
            use IntentState::{Cancelled, Filled, NotSent, Rejected};
            let orders = others().filter(|o| o.signal == intent.signal && o.class == OrderClass::Entry);
            let spoken_for: Quantity = orders
                .map(|o| match o.state {
                    Filled | Cancelled | Rejected | NotSent => o.filled,
                    _ => o.order.quantity,
                })
                .sum();
            let most = intent.bidding().map_or(intent.order.quantity, |bidding| bidding.units);
            if most < spoken_for + intent.order.quantity {
                return false;
            }
        }
        if intent.class != OrderClass::Entry {
            let out: Quantity =
                others().filter(|o| o.position == intent.position).map(OrderIntent::exit_quantity_out).sum();
            let Some(position) = self.positions.get_mut(&intent.position) else { return false };
            if position.quantity < out + intent.order.quantity {
                return false;
            }
            if !intent.rests() && position.begin_exit() {
                position.exit_cause = intent.cause;
                position.version += 1;
            }
        }
        if let Some(signal) = intent.signal {
            self.signals.insert(signal, SignalStatus::Working);
        }
        self.intents.insert(intent.id, intent.clone());
        true
    }

    pub fn commit(&mut self, change: &Change) {
        self.wishes.extend(change.wishes.iter().cloned());
        for fill in &change.fills {
            assert!(fill.quantity > Quantity::ZERO && fill.quantity <= fill.cumulative);
            assert!(fill.price.0 > Decimal::ZERO, "a fill at {}", fill.price);
            let before = self.fills.insert((fill.intent, fill.cumulative.0), fill.clone());
            assert_eq!(before, None, "fill recorded twice");
        }
        for update in &change.intents {
            let row = self.intents.get_mut(&update.id).expect("an intent's row");
            assert!(
                row.state == update.state || row.state.may_become(update.state),
                "{} -> {}",
                row.state,
                update.state
            );
            assert!(update.filled >= row.filled && update.filled <= row.order.quantity);
            assert!(update.state != IntentState::Filled || update.filled == row.order.quantity);
            row.broker_order_id = update.broker_order_id.clone().or(row.broker_order_id.take());
            assert!(!update.state.is_live() || row.broker_order_id.is_some());
            assert!(!update.reason.as_ref().is_some_and(|reason| reason.contains('\0')));
            (row.state, row.filled, row.unwind) = (update.state, update.filled, row.unwind || update.unwind);
            row.reason = update.reason.clone().or(row.reason.take());
        }
        for position in &change.opened {
            self.check_position(position);
            let before = self.positions.insert(position.id, position.clone());
            assert_eq!(before, None, "position opened twice");
        }
        for position in &change.positions {
            self.check_position(position);
            let before = self.positions.insert(position.id, position.clone()).expect("a position's row");
            assert_eq!(before.version + 1, position.version, "conflict");
            assert!(position.current_stop >= before.current_stop, "a stop moved down");
        }
        if let Some(row) = change.portfolio {
            assert!(row.equity_high >= row.closed_equity);
            self.portfolio = Some(row);
        }
        for pyramid in &change.pyramids {
            match pyramid {
                PyramidWrite::Set(state) => {
                    drop(self.pyramids.insert(state.instrument.clone(), state.clone()))
                }
                PyramidWrite::Clear(instrument) => drop(self.pyramids.remove(instrument)),
            }
        }
        for update in &change.signals {
            use SignalStatus::{Abandoned, Executed, NotSent, Pending, Rejected, Working};
            let old = self.signals.insert(update.id, update.status).expect("a signal's row");
            let allowed = old == update.status
                || old == Pending
                || (old == Working && update.status != Pending)
                || (matches!(old, Abandoned | NotSent | Rejected)
                    && matches!(update.status, Working | Executed));
            assert!(allowed, "signal {old} -> {}", update.status);
        }
    }

    fn check_position(&self, position: &Position) {
        assert_eq!(position.faults(), vec![]);
        let open = |p: &&Position| p.status == PositionStatus::Open;
        let twin = self.positions.values().filter(open).find(|held| {
            held.id != position.id
                && (&held.instrument, &held.label) == (&position.instrument, &position.label)
        });
        assert!(!open(&position) || twin.is_none(), "position_open_label");
    }

    /// What a new leader reads.
    pub fn snapshot(&self) -> Snapshot {
        let kept = |intent: &&OrderIntent| {
            let watched = matches!(intent.state, IntentState::Cancelled | IntentState::Rejected)
                && intent.broker_order_id.is_some();
            let working = intent.signal.is_some_and(|id| self.signals[&id] == SignalStatus::Working);
            let closing = self.positions.get(&intent.position).map(|position| position.status);
            let closing = closing == Some(PositionStatus::Closing);
            let ended = intent.state.is_terminal() && intent.state != IntentState::Abandoned;
            !ended || watched || working || closing
        };
        let shared: BTreeSet<PositionId> = self
            .intents
            .values()
            .filter(kept)
            .filter(|intent| is_entry(intent))
            .map(|i| i.position)
            .collect();
        let kept =
            |intent: &&OrderIntent| kept(intent) || is_entry(intent) && shared.contains(&intent.position);
        let intents: Vec<OrderIntent> = self.intents.values().filter(kept).cloned().collect();
        let mut filled: HashMap<IntentId, FilledSoFar> = HashMap::new();
        for FillRow { intent, quantity, price, charges, .. } in self.fills.values() {
            let sum = filled.entry(*intent).or_default();
            sum.quantity = sum.quantity + *quantity;
            sum.value += price.0 * quantity.decimal();
            sum.charges += charges.unwrap_or_default();
        }
        let mut positions: Vec<Position> =
            self.positions.values().filter(|position| position.is_held()).cloned().collect();
        positions.sort_by_key(|position| (position.opened_at, position.id));
        Snapshot {
            positions,
            filled,
            portfolio: self.portfolio,
            moved: self.portfolio.map(|row| row.capital),
            realised: self.positions.values().map(|position| position.realised).sum::<Rupees>(),
            charges: self.positions.values().map(|position| position.charges).sum::<Rupees>(),
            pyramids: self.pyramids.values().cloned().collect(),
            switches: Switches::default(),
            claimed_orders: self
                .intents
                .values()
                .filter_map(|intent| intent.broker_order_id.clone())
                .collect(),
            foreign_orders: self.foreign.clone(),
            position_fills: self.position_fills(),
            strayed: self.unasked(),
            orphans: self.orphans(),
            movements: None,
            days: Default::default(),
            charged: None,
            off_orders: Vec::new(),
            lifted: Vec::new(),
            wishes: self.wishes.iter().filter(|w| self.positions[&w.position].is_held()).cloned().collect(),
            audit: Vec::new(),
            recorded: Default::default(),
            intents,
        }
    }

    /// Positions on their way out by nobody's order, and by no late fill of their entry.
    fn unasked(&self) -> Vec<Strayed> {
        let closing = self.positions.values().filter(|p| p.status == PositionStatus::Closing);
        let unasked = closing.filter(|position| {
            let orders: Vec<&OrderIntent> =
                self.intents.values().filter(|intent| intent.position == position.id).collect();
            let asked = orders.iter().any(|intent| !is_entry(intent) && !intent.rests());
            let entered = orders.iter().any(|intent| is_entry(intent));
            entered && !asked && !orders.iter().any(|intent| is_entry(intent) && intent.unwind)
        });
        let strayed = unasked.map(|position| Strayed {
            position: position.id,
            column: "status".to_owned(),
            stored: "closing".to_owned(),
            planned: "open".to_owned(),
        });
        strayed.collect()
    }

    /// Orders that filled and whose position has no row.
    fn orphans(&self) -> Vec<Orphan> {
        let rows = |id| self.positions.contains_key(&id);
        let filled = self.intents.values().filter(|intent| intent.filled > Quantity::ZERO && !intent.custody);
        let orphans = filled.filter(|intent| !rows(intent.position) && !rows(PositionId(intent.id.0)));
        let orphan = |intent: &OrderIntent| Orphan {
            intent: intent.id,
            position: intent.position,
            filled: intent.filled,
            symbol: intent.order.symbol.clone(),
            exchange: intent.order.exchange.clone(),
            product: intent.order.product,
            instrument: intent.instrument.clone(),
            class: intent.class,
            rests: intent.rests(),
            cause: intent.cause,
            signal: intent.signal,
            plan: intent.plan.clone(),
            fills: Vec::new(),
        };
        orphans.map(orphan).collect()
    }

    fn position_fills(&self) -> HashMap<PositionId, PositionFills> {
        let mut sums: HashMap<PositionId, PositionFills> = HashMap::new();
        for fill in self.fills.values() {
            let intent = &self.intents[&fill.intent];
            let sum = sums.entry(intent.position).or_default();
            sum.add(intent.class, Some((fill.quantity.0, fill.price)), fill.charges);
        }
        sums.retain(|id, _| self.positions.get(id).is_some_and(Position::is_held));
        sums
    }

    /// Units held by all positions.
    pub fn held(&self) -> i64 {
        self.positions.values().map(|position| position.quantity.0).sum()
    }
}

fn is_entry(intent: &OrderIntent) -> bool {
    intent.class == OrderClass::Entry
}
