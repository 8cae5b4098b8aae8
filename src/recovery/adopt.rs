//! Taking up what the broker holds and the ledger does not: a position by the operator's word, pure.
//!
//! - A1 Only what the verified book shows beyond the ledger is taken up, and no more of it: nothing is held twice.
//! - A2 Nothing is taken up on a contract of which an order is under way or in doubt: it may be that order's.
//! - A3 What it is taken up as passes every check of a recovery, like a position that a signal opened.
//!
//! The price, the stop and the size are the operator's: the broker's book does not know them all.

use chrono::{DateTime, Utc};

use super::reconcile::{DiffRow, Verdict};
use super::repair::{Plan, Proposal, critical, follow_positions, follow_pyramids};
use super::validate;
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::intent::EntryPlan;
use crate::domain::label::Label;
use crate::domain::money::{Lots, Price, Quantity, Rupees};
use crate::domain::position::{HoldingKey, Position, PositionStatus};
use crate::ledger::repair::Adopted;
use crate::ledger::snapshot::{PositionFills, Snapshot};

/// What an operator wants taken up. Its ids are chosen once, so that what is shown is what is written.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The position's id.
    pub position: PositionId,
    /// The id of the order that stands for how it was bought.
    pub intent: IntentId,
    /// The id of the signal that stands for the operator's word.
    pub signal: SignalId,
    /// A configured instrument, or its tradable symbol.
    pub name: String,
    /// How much.
    pub lots: Lots,
    /// What it was bought at, per quoted unit.
    pub price: Price,
    /// Its stop.
    pub stop: Price,
    /// Average true range in points; the distance from price to stop when left out.
    pub atr: Option<Price>,
    /// Its label; the first free one when left out.
    pub label: Option<Label>,
    /// The strategy whose EXITs mean it.
    pub strategy: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Why nothing is taken up.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No such instrument.
    #[error("no instrument is configured that is called or traded as {0}")]
    Unknown(String),
    /// An order is under way, in doubt, or ended just now.
    #[error(
        "an order on {0} is under way or in doubt, or just ended: what the broker holds may be its; try again when it is over"
    )]
    Unsettled(HoldingKey),
    /// The broker does not hold so much beyond the ledger.
    #[error(
        "of {contract} the broker's verified book holds {broker} units and the ledger {ledger}: {wanted} more cannot be taken up"
    )]
    NotThere {
        /// Of what.
        contract: HoldingKey,
        /// Units wanted.
        wanted: Quantity,
        /// Units that the broker holds.
        broker: Quantity,
        /// Units that the ledger holds.
        ledger: Quantity,
    },
    /// Every label, or the wanted one, is held.
    #[error("{0} is held already")]
    Label(String),
    /// It would not add up.
    #[error("it would not be whole: {}", .0.join("; "))]
    NotWhole(Vec<String>),
}

/// Proposes what takes the position up; `diff` is a verified comparison.
///
/// # Errors
/// Why it cannot be taken up.
pub fn plan(
    snapshot: &Snapshot,
    diff: &[DiffRow],
    wanted: &Wanted,
    capital: Rupees,
    catalog: &Catalog,
) -> Result<Plan, Refused> {
    let named = |of: &&Instrument| of.name == wanted.name || of.symbol == wanted.name;
    let instrument = catalog.iter().find(named).ok_or_else(|| Refused::Unknown(wanted.name.clone()))?;
    let units = Quantity(wanted.lots.0.saturating_mul(instrument.lot_size.0));
    let contract = beyond_the_ledger(snapshot, diff, instrument, units)?;
    let label = free_label(snapshot, instrument, wanted.label)?;
    let position = position(wanted, instrument, label, units);
    let mut after = snapshot.clone();
    let value = wanted.price.0 * units.decimal();
    let fills =
        PositionFills { entered: true, bought: units, bought_value: value, ..PositionFills::default() };
    after.position_fills.insert(position.id, fills);
    after.positions.push(position.clone());
    let mut plan = Plan::default();
    plan.proposals.push(Proposal {
        table: "position",
        row: position.id.to_string(),
        field: "row",
        before: "none".to_owned(),
        after: format!(
            "{} {}: {units} units at {}, stop {}",
            position.instrument, position.label, position.entry_price, position.current_stop
        ),
        because: format!("the broker's verified book holds that much of {contract} beyond the ledger"),
    });
    follow_positions(&mut plan, snapshot, &mut after, capital);
    follow_pyramids(&mut plan, snapshot, &mut after);
    let wrong = critical(&validate::findings(&after, capital, catalog));
    if !wrong.is_empty() {
        return Err(Refused::NotWhole(wrong));
    }
    let entry = entry_plan(wanted, &position, label);
    plan.mending.adopted = Some(Adopted { position, intent: wanted.intent, plan: entry });
    Ok(plan)
}

/// A1, A2.
fn beyond_the_ledger(
    snapshot: &Snapshot,
    diff: &[DiffRow],
    instrument: &Instrument,
    units: Quantity,
) -> Result<HoldingKey, Refused> {
    let contract = HoldingKey {
        symbol: instrument.symbol.clone(),
        exchange: instrument.exchange.clone(),
        product: instrument.product,
    };
    let of_contract = |p: &&Position| p.holding_key() == contract;
    let ledger: Quantity = snapshot.positions.iter().filter(of_contract).map(|p| p.quantity).sum();
    let row = diff.iter().find(|row| row.key().as_ref() == Some(&contract));
    let under_way = snapshot.intents.iter().any(|intent| {
        let order = &intent.order;
        let same = (&order.symbol, &order.exchange, order.product)
            == (&contract.symbol, &contract.exchange, contract.product);
        same && !intent.state.is_terminal()
    });
    // Compared before the ledger was locked: what moved since is not known.
    let moved = row.is_some_and(|row| row.verdict == Verdict::Unsettled || row.ledger != ledger);
    if under_way || moved {
        return Err(Refused::Unsettled(contract));
    }
    let broker = row.map_or(Quantity::ZERO, |row| row.broker);
    if units <= Quantity::ZERO || units > broker - ledger {
        return Err(Refused::NotThere { contract, wanted: units, broker, ledger });
    }
    Ok(contract)
}

fn free_label(snapshot: &Snapshot, instrument: &Instrument, wanted: Option<Label>) -> Result<Label, Refused> {
    let held = |label: Label| {
        let label = label.to_string();
        snapshot.positions.iter().any(|p| p.instrument == instrument.name && p.label == label)
    };
    let all = || Refused::Label(format!("every label of {}", instrument.name));
    match wanted {
        Some(label) if held(label) => Err(Refused::Label(format!("{} {label}", instrument.name))),
        Some(label) => Ok(label),
        None => Label::all().find(|label| !held(*label)).ok_or_else(all),
    }
}

fn position(wanted: &Wanted, instrument: &Instrument, label: Label, units: Quantity) -> Position {
    Position {
        id: wanted.position,
        instrument: instrument.name.clone(),
        label: label.to_string(),
        strategy: wanted.strategy.clone(),
        symbol: instrument.symbol.clone(),
        exchange: instrument.exchange.clone(),
        product: instrument.product,
        status: PositionStatus::Open,
        quantity: units,
        entry_quantity: units,
        entry_price: wanted.price,
        lot_size: instrument.lot_size,
        point_value: instrument.point_value,
        margin_per_lot: instrument.margin_per_lot,
        atr: wanted.atr.unwrap_or(Price((wanted.price.0 - wanted.stop.0).abs())),
        initial_stop: wanted.stop,
        current_stop: wanted.stop,
        take_profit: None,
        highest_close: wanted.price,
        exit_cause: None,
        realised: Rupees::default(),
        charges: Rupees::default(),
        entry_signal: wanted.signal,
        // The inbox gives it its place when it is written.
        entry_signal_seq: 0,
        entry_bar_time: wanted.at,
        opened_at: wanted.at,
        version: 0,
    }
}

fn entry_plan(wanted: &Wanted, position: &Position, label: Label) -> EntryPlan {
    EntryPlan {
        label,
        strategy: position.strategy.clone(),
        lot_size: position.lot_size,
        point_value: position.point_value,
        margin_per_lot: position.margin_per_lot,
        atr: position.atr,
        stop: position.initial_stop,
        take_profit: None,
        planned_price: wanted.price,
        bidding: None,
        signal_seq: 0,
        bar_time: wanted.at,
    }
}
