//! The rows against each other.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::earned;
use crate::domain::instrument::Catalog;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::portfolio::Aggregates;
use crate::domain::position::Position;
use crate::domain::pyramiding::{self, PyramidingState};
use crate::ledger::snapshot::{NOTHING, PositionFills, Snapshot};
use crate::recovery::Recovered;
use crate::recovery::report::Finding;

/// V3, first half: what is held is what was decided.
pub(super) fn plans(snapshot: &Snapshot) -> Vec<Finding> {
    let strayed = snapshot.strayed.iter();
    strayed.map(|s| Finding::mismatch("position", s.position, &s.column, &s.stored, &s.planned)).collect()
}

/// V3, second half: what is held is what was filled.
pub(super) fn fills(snapshot: &Snapshot) -> Vec<Finding> {
    let fills_of = |position: &Position| snapshot.position_fills.get(&position.id).copied();
    snapshot
        .positions
        .iter()
        .flat_map(|position| one_position(position, fills_of(position).unwrap_or_default()))
        .collect()
}

fn one_position(position: &Position, fills: PositionFills) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |field: &str, stored: String, calculated: String| {
        findings.push(Finding::mismatch("position", position.id, field, stored, calculated));
    };
    // A late fill is a position of its own, while its order names the one that was closed before.
    let is_late = !fills.entered;
    if !is_late && fills.bought != position.entry_quantity {
        wrong("entry_quantity", position.entry_quantity.to_string(), fills.bought.to_string());
    }
    let bought = if is_late { position.entry_quantity } else { fills.bought };
    let held = bought - fills.sold;
    if held != position.quantity {
        wrong("quantity", position.quantity.to_string(), held.to_string());
    }
    if findings.is_empty() || fills.sold == Quantity::ZERO {
        findings.extend(earned::finding(position, &fills));
    }
    findings
}

/// V4. The stored aggregates.
pub(super) fn aggregates(snapshot: &Snapshot, capital: Rupees) -> Vec<Finding> {
    let Some(stored) = snapshot.portfolio else {
        let open = snapshot.positions.len();
        let missing =
            Finding::mismatch("portfolio_state", 1, "row", "none", format!("{open} open positions"))
                .said(format!("{open} open positions, but no portfolio_state row"));
        return if open == 0 { Vec::new() } else { vec![missing] };
    };
    let figures = Aggregates {
        closed_equity: stored.closed_equity,
        risk: stored.risk,
        volatility: stored.volatility,
        margin_used: stored.margin_used,
        charges: stored.charges,
    };
    let calculated = Recovered::aggregates(snapshot, capital);
    let mut findings: Vec<Finding> = calculated.mismatches(&figures).iter().map(Finding::figure).collect();
    if stored.equity_high < stored.closed_equity {
        let least = format!("at least the closed equity {}", stored.closed_equity);
        findings.push(Finding::mismatch("portfolio_state", 1, "equity_high", stored.equity_high, least));
    }
    findings
}

/// V9. The capital, to the last decimal: it is the sum of rows that are only added. An account with such rows has a portfolio.
pub(super) fn cash(snapshot: &Snapshot) -> Option<Finding> {
    let of = |field, moved: String, capital: Rupees| {
        let said = format!("cash_movement: the movements add up to {moved}, the capital is {capital}");
        Finding::mismatch("cash_movement", "(all)", field, moved, capital).said(said)
    };
    match (snapshot.portfolio.map(|row| row.capital), snapshot.moved) {
        (Some(capital), None) => Some(of("row", NOTHING.to_owned(), capital)),
        (Some(capital), Some(moved)) => (moved != capital).then(|| of("amount", moved.to_string(), capital)),
        // With open positions it is told already.
        (None, Some(moved)) if snapshot.positions.is_empty() => {
            let finding =
                Finding::mismatch("portfolio_state", 1, "row", "none", format!("a capital of {moved}"));
            Some(finding.said(format!("the movements add up to {moved}, but no portfolio_state row")))
        }
        (None, _) => None,
    }
}

/// V10. A brake is released by whoever names it, or by its own time.
pub(super) fn switches(snapshot: &Snapshot) -> Vec<Finding> {
    let lifted = |lifted: &crate::ledger::snapshot::Lifted| {
        let mismatch = Finding::mismatch("leadership", 1, &lifted.column, &lifted.stored, &lifted.told);
        let said =
            format!("{mismatch}; set the switch anew or end it by its command: see RUNBOOK.md#switches");
        mismatch.said(said)
    };
    snapshot.lifted.iter().map(lifted).collect()
}

/// V5. The stored pyramids, and labels held twice.
pub(super) fn pyramids(snapshot: &Snapshot, catalog: &Catalog) -> Vec<Finding> {
    let faults = pyramiding::faults(&snapshot.pyramids, &snapshot.positions, catalog);
    if faults.is_empty() {
        return Vec::new();
    }
    // Every instrument may be at fault: none is searched for.
    let derived = PyramidingState::derive_all(&snapshot.positions);
    let (stored, derived) = (by_instrument(&snapshot.pyramids), by_instrument(&derived));
    let json_of = |state: Option<&&PyramidingState>| state.map_or(Value::Null, |state| json!(state));
    let finding = |fault| -> Finding {
        let path: &crate::domain::fault::Fault = fault;
        let (place, _) = path.field.rsplit_once('.').unwrap_or((&path.field, ""));
        let (kind, row) = place.split_once(' ').unwrap_or(("pyramiding", place));
        if kind == "position" {
            return Finding::mismatch("position", row, "label", "held twice", "unique among open positions")
                .said(path.to_string());
        }
        let (stored, derived) = (json_of(stored.get(row)), json_of(derived.get(row)));
        Finding::fault("pyramiding_state", row, path, &stored, Some(&derived))
    };
    faults.iter().map(finding).collect()
}

fn by_instrument(states: &[PyramidingState]) -> HashMap<&str, &PyramidingState> {
    states.iter().map(|state| (state.instrument.as_str(), state)).collect()
}

/// V6. Orders whose position has gone.
pub(super) fn orphans(snapshot: &Snapshot) -> Vec<Finding> {
    let orphan = |orphan: &crate::ledger::snapshot::Orphan| {
        Finding::mismatch(
            "position",
            orphan.position,
            "row",
            "none",
            format!("order {} filled it", orphan.intent),
        )
        .said(format!(
            "order_intent {} filled {} units of {}, but position {} has no row",
            orphan.intent, orphan.filled, orphan.symbol, orphan.position
        ))
    };
    snapshot.orphans.iter().map(orphan).collect()
}

/// V7. What was decided and by whom.
pub(super) fn audit(snapshot: &Snapshot) -> Vec<Finding> {
    let broken = |fault: &String| {
        Finding::mismatch("audit_log", "(chain)", "hash", fault, "as it was written")
            .said(format!("the audit chain is broken: {fault}; see RUNBOOK.md#audit-broken"))
            .as_warning()
    };
    snapshot.audit.iter().map(broken).collect()
}
