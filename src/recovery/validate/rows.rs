//! Each row on its own.

use serde_json::json;

use super::bids;
use crate::domain::instrument::Catalog;
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::{IntentState, OrderClass, Side};
use crate::domain::position::Position;
use crate::ledger::snapshot::Snapshot;
use crate::recovery::report::Finding;

/// V1. A position's figures, its instrument, its stop.
pub(super) fn positions(positions: &[Position], catalog: &Catalog) -> Vec<Finding> {
    positions.iter().flat_map(|position| one_position(position, catalog)).collect()
}

fn one_position(position: &Position, catalog: &Catalog) -> Vec<Finding> {
    let faults = position.faults();
    let mut findings = Vec::new();
    if !faults.is_empty() {
        let row = json!(position);
        findings
            .extend(faults.iter().map(|fault| Finding::fault("position", position.id, fault, &row, None)));
    }
    let mut wrong = |field: &str, stored: String, rule: String| {
        let finding = Finding::mismatch("position", position.id, field, &stored, &rule);
        findings.push(finding.said(format!("position {}.{field} is {stored}: {rule}", position.id)));
    };
    if catalog.get(&position.instrument).is_none() {
        let rule = "no such instrument is configured; add it to [instruments] again".to_owned();
        wrong("instrument", position.instrument.clone(), rule);
    }
    // A stop trails below the highest close; only the first one, of a fill that was worse than planned, may be above.
    let highest = position.highest_close.max(position.initial_stop);
    if position.current_stop > highest {
        wrong("current_stop", position.current_stop.to_string(), format!("a long stop is at most {highest}"));
    }
    if position.version < 0 {
        wrong("version", position.version.to_string(), "versions count up from 0".to_owned());
    }
    let part = position.lot_size.0 > 0 && position.quantity.0 % position.lot_size.0 != 0;
    if part && findings.is_empty() {
        let rule = format!("a multiple of the lot size {}", position.lot_size);
        let finding = Finding::mismatch("position", position.id, "quantity", position.quantity, rule);
        // A broker may have filled part of a lot: then it is true.
        findings.push(finding.as_warning());
    }
    findings
}

/// V2. An order's figures, and its fills against its row.
pub(super) fn intents(snapshot: &Snapshot) -> Vec<Finding> {
    let filled =
        |intent: &OrderIntent| snapshot.filled.get(&intent.id).map_or(Quantity::ZERO, |sum| sum.quantity);
    snapshot.intents.iter().flat_map(|intent| one_intent(intent, filled(intent))).collect()
}

/// V2, third part. Whoever leads next knows an open order by these.
pub(super) fn off_orders(snapshot: &Snapshot) -> Vec<Finding> {
    let off = snapshot.off_orders.iter();
    off.map(|off| Finding::mismatch("order_intent", off.intent, &off.column, &off.stored, &off.told))
        .collect()
}

fn one_intent(intent: &OrderIntent, filled: Quantity) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |holds: bool, field: &str, stored: String, rule: String| {
        if !holds {
            findings.push(Finding::mismatch("order_intent", intent.id, field, stored, rule));
        }
    };
    let quantity = intent.order.quantity;
    wrong(quantity > Quantity::ZERO, "quantity", quantity.to_string(), "at least 1".to_owned());
    let is_entry = intent.class == OrderClass::Entry;
    let side = if is_entry { Side::Buy } else { Side::Sell };
    wrong(
        intent.order.side == side,
        "side",
        intent.order.side.to_string(),
        format!("{side}, of class {}", intent.class),
    );
    let within = intent.filled >= Quantity::ZERO && intent.filled <= quantity;
    wrong(within, "filled_quantity", intent.filled.to_string(), format!("0 to {quantity}"));
    wrong(filled == intent.filled, "filled_quantity", intent.filled.to_string(), filled.to_string());
    let has_plan = !is_entry || intent.plan.is_some();
    wrong(has_plan, "plan", "none".to_owned(), "an entry has one".to_owned());
    let has_order = !intent.state.is_live() || intent.broker_order_id.is_some();
    wrong(
        has_order,
        "broker_order_id",
        "none".to_owned(),
        format!("an order that is {} has one", intent.state),
    );
    let is_full = intent.state != IntentState::Filled || intent.filled == quantity;
    wrong(is_full, "state", intent.state.to_string(), format!("{} of {quantity} are filled", intent.filled));
    findings
        .extend(intent.bidding().into_iter().flat_map(|bids| bids::findings(intent.id, &intent.order, bids)));
    findings
}
