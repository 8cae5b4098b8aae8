//! What would mend stored state: proposals from the fills and the broker's verified book, pure and in order.
//!
//! - M1 A position's quantity follows its orders' fills: a closed position that was opened again is closed again.
//! - M2 Where the broker's verified book shows less than the ledger, what is missing was sold by hand: booked on the
//!   youngest positions first, at the price of the sales that the trade book shows, or the operator's.
//! - M3 The aggregates and the pyramids follow from the positions.
//! - M4 What cannot be derived from these is not touched: it is told, and belongs to a backup.
//!
//! A repair is proven before it is committed: state that would still not be whole is rolled back.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::reconcile::DiffRow;
use super::report::Finding;
use super::{Recovered, cash, validate};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::instrument::Catalog;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::position::{HoldingKey, Position, PositionStatus};
use crate::domain::pyramiding::PyramidingState;
use crate::ledger::change::{PortfolioRow, PyramidWrite};
use crate::ledger::repair::{Booking, Mending};
use crate::ledger::snapshot::Snapshot;

/// One value that a repair would change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Proposal {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
    /// The column.
    pub field: &'static str,
    /// What is stored.
    pub before: String,
    /// What it would be.
    pub after: String,
    /// What says so.
    pub because: String,
}

/// What would be done, and what is left.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// For people, the audit, and to see that nothing changed since they were shown.
    pub proposals: Vec<Proposal>,
    /// For the ledger.
    pub mending: Mending,
    /// What there is no proposal for.
    pub unsolved: Vec<String>,
}

/// Proposes what would mend `snapshot`; `diff` is a verified comparison, `prices` what sales by hand were made at.
pub fn plan(
    snapshot: &Snapshot,
    diff: &[DiffRow],
    prices: &BTreeMap<HoldingKey, Price>,
    capital: Rupees,
    catalog: &Catalog,
) -> Plan {
    let mut plan = Plan::default();
    let mut after = snapshot.clone();
    follow_fills(&mut plan, &mut after);
    for row in diff.iter().filter(|row| row.verdict.is_drift()) {
        book_sales(&mut plan, &mut after, row, prices);
    }
    plan.mending.positions = changed(&snapshot.positions, &after.positions);
    after.positions.retain(Position::is_held);
    follow_positions(&mut plan, snapshot, &mut after, capital);
    let left = validate::findings(&after, capital, catalog);
    plan.unsolved.extend(critical(&left));
    plan
}

/// The sentences of what nobody may trade into.
pub fn critical(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|finding| finding.is_critical()).map(ToString::to_string).collect()
}

/// M1.
fn follow_fills(plan: &mut Plan, after: &mut Snapshot) {
    let Snapshot { positions, position_fills, .. } = after;
    for position in positions {
        let Some(fills) = position_fills.get(&position.id).filter(|fills| fills.entered) else { continue };
        let held = fills.bought - fills.sold;
        let fits = held >= Quantity::ZERO && fills.bought == position.entry_quantity;
        if held == position.quantity || !fits {
            continue;
        }
        plan.proposals.push(Proposal {
            table: "position",
            row: position.id.to_string(),
            field: "quantity",
            before: position.quantity.to_string(),
            after: held.to_string(),
            because: format!("its orders bought {} and sold {}", fills.bought, fills.sold),
        });
        position.quantity = held;
        if held == Quantity::ZERO {
            position.status = PositionStatus::Closed;
        }
    }
}

/// M2.
fn book_sales(plan: &mut Plan, after: &mut Snapshot, row: &DiffRow, prices: &BTreeMap<HoldingKey, Price>) {
    let Some(key) = row.key() else { return };
    let of_key = |p: &&mut Position| {
        p.is_held() && (&p.symbol, &p.exchange, p.product) == (&key.symbol, &key.exchange, key.product)
    };
    let mut held: Vec<&mut Position> = after.positions.iter_mut().filter(of_key).collect();
    let total: Quantity = held.iter().map(|position| position.quantity).sum();
    // The comparison saw the quantities before M1.
    if total == row.broker {
        return;
    }
    let mut missing = total - row.broker.max(Quantity::ZERO);
    if row.broker > total || row.broker < Quantity::ZERO {
        let what = if row.broker < Quantity::ZERO { "is short" } else { "holds more than the ledger" };
        plan.unsolved.push(format!("{key}: the broker {what} ({}): close or adopt it by hand", row.broker));
    }
    if missing <= Quantity::ZERO {
        return;
    }
    let Some(price) = prices.get(&key).copied() else {
        plan.unsolved.push(format!(
            "{key}: {missing} units were sold by hand and the trade book does not say at what price: give it with --price {}=PRICE",
            key.symbol
        ));
        return;
    };
    held.sort_by_key(|position| std::cmp::Reverse((position.entry_bar_time, position.entry_signal_seq)));
    for position in held {
        let quantity = position.quantity.min(missing);
        if quantity == Quantity::ZERO {
            break;
        }
        let before = position.clone();
        if let Err(error) = position.apply_exit_fill(quantity, price) {
            plan.unsolved.push(format!("position {}: {error}", before.id));
            return;
        }
        missing = missing - quantity;
        plan.proposals.push(Proposal {
            table: "position",
            row: before.id.to_string(),
            field: "quantity",
            before: before.quantity.to_string(),
            after: position.quantity.to_string(),
            because: format!(
                "the broker's verified book holds {} of {key}: sold by hand at {price}",
                row.broker
            ),
        });
        if let Some(fills) = after.position_fills.get_mut(&before.id) {
            fills.sold = fills.sold + quantity;
        }
        after.realised += position.realised - before.realised;
        let intent = synthetic(before.id, before.version, quantity);
        plan.mending.bookings.push(Booking { intent, position: before, quantity, price });
    }
}

/// R7: the same sale has the same id, whoever computes it.
fn synthetic(position: PositionId, version: i64, quantity: Quantity) -> IntentId {
    let text = format!("sold by hand/{position}/{version}/{quantity}");
    let digest = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    IntentId(uuid::Builder::from_custom_bytes(bytes).into_uuid() as Uuid)
}

fn changed(before: &[Position], after: &[Position]) -> Vec<Position> {
    let pairs = before.iter().zip(after).filter(|(before, after)| before != after);
    pairs.map(|(before, after)| Position { version: before.version + 1, ..after.clone() }).collect()
}

/// M3.
pub(super) fn follow_positions(plan: &mut Plan, before: &Snapshot, after: &mut Snapshot, capital: Rupees) {
    let sums = Recovered::aggregates(after, capital);
    let cash = cash(after, capital);
    let row = PortfolioRow {
        capital: cash,
        closed_equity: sums.closed_equity,
        equity_high: after.portfolio.map_or(cash, |row| row.equity_high).max(sums.closed_equity),
        risk: sums.risk,
        volatility: sums.volatility,
        margin_used: sums.margin_used,
    };
    let stored = before.portfolio;
    if stored != Some(row) {
        let old = stored.unwrap_or_default();
        for (field, before, after) in [
            ("capital", old.capital, row.capital),
            ("closed_equity", old.closed_equity, row.closed_equity),
            ("equity_high", old.equity_high, row.equity_high),
            ("risk_amount", old.risk, row.risk),
            ("volatility_amount", old.volatility, row.volatility),
            ("margin_used", old.margin_used, row.margin_used),
        ] {
            if before != after {
                plan.proposals.push(Proposal {
                    table: "portfolio_state",
                    row: "1".to_owned(),
                    field,
                    before: before.to_string(),
                    after: after.to_string(),
                    because: "the positions, their realised profit and the capital give it".to_owned(),
                });
            }
        }
        plan.mending.portfolio = Some(row);
        after.portfolio = Some(row);
    }
    let derived = PyramidingState::derive_all(&after.positions);
    for state in &derived {
        let stored = before.pyramids.iter().find(|stored| stored.instrument == state.instrument);
        if stored != Some(state) {
            plan.proposals.push(pyramid(&state.instrument, stored, Some(state)));
            plan.mending.pyramids.push(PyramidWrite::Set(state.clone()));
        }
    }
    for stored in &before.pyramids {
        if !derived.iter().any(|state| state.instrument == stored.instrument) {
            plan.proposals.push(pyramid(&stored.instrument, Some(stored), None));
            plan.mending.pyramids.push(PyramidWrite::Clear(stored.instrument.clone()));
        }
    }
    after.pyramids = derived;
}

fn pyramid(name: &str, before: Option<&PyramidingState>, after: Option<&PyramidingState>) -> Proposal {
    let shown = |state: Option<&PyramidingState>| {
        state.map_or_else(
            || "none".to_owned(),
            |state| {
                let base =
                    state.base_position.map_or_else(|| "no base".to_owned(), |id| format!("base {id}"));
                format!("{base}, last price {}, {} pyramids", state.last_pyramid_price, state.count)
            },
        )
    };
    Proposal {
        table: "pyramiding_state",
        row: name.to_owned(),
        field: "row",
        before: shown(before),
        after: shown(after),
        because: "the open positions give it".to_owned(),
    }
}
