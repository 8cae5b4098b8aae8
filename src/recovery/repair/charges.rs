//! What was charged goes back to what the audit log tells of it; what that leaves open, to what the fills add up to.

use super::{AUDIT, Plan, Proposal};
use crate::domain::money::{Quantity, Rupees};
use crate::ledger::snapshot::{ChargedFill, ChargedRows, Snapshot};
use crate::recovery::validate::charges::{OffCharges, off, shown};

/// M1. Fills first: positions are held against them.
pub(super) fn follow(plan: &mut Plan, after: &mut Snapshot) {
    let rows_and_told = after.charged.as_ref().zip(after.recorded.charged.as_ref());
    for off in rows_and_told.map(|(rows, told)| off(rows, told)).unwrap_or_default() {
        match off {
            OffCharges::Fill(fill, charges) => {
                plan.proposals.push(Proposal {
                    table: "fill",
                    row: fill.intent.to_string(),
                    field: "charges",
                    before: shown(fill.charges),
                    after: shown(charges),
                    because: AUDIT.to_owned(),
                });
                let mended = ChargedFill { charges, ..fill };
                plan.mending.charged.push(mended);
                set(after, fill, mended);
            }
            OffCharges::Closed(position, charges) => {
                plan.propose(position.id, "charges", position.charges, charges, AUDIT);
                plan.mending.charges.push((position.id, charges));
                after.charges += charges - position.charges;
                let closed = after.charged.iter_mut().flat_map(|rows| &mut rows.closed);
                closed.filter(|row| row.id == position.id).for_each(|row| row.charges = charges);
            }
        }
    }
    let Snapshot { positions, recorded, position_fills, charges: all, .. } = after;
    for position in positions {
        let told = recorded.positions.get(&position.id).and_then(|at| at.charges);
        let fills = position_fills.get(&position.id).filter(|fills| fills.entered);
        let (charges, because) = match (told, fills) {
            (Some(told), _) => (told, AUDIT),
            (None, Some(fills)) => (fills.charges, "its fills' charges give it"),
            (None, None) => continue,
        };
        if charges != position.charges {
            plan.propose(position.id, "charges", position.charges, charges, because);
            *all += charges - position.charges;
            position.charges = charges;
        }
    }
}

/// Has all that is read of the fill say what it was charged.
fn set(after: &mut Snapshot, fill: ChargedFill, mended: ChargedFill) {
    let Snapshot { charged, position_fills, filled, orphans, .. } = after;
    let rows = charged.iter_mut().flat_map(|ChargedRows { fills, .. }| fills);
    rows.filter(|row| **row == fill).for_each(|row| *row = mended);
    let more: Rupees = mended.charges.unwrap_or_default() - fill.charges.unwrap_or_default();
    if let Some(fills) = position_fills.get_mut(&fill.position) {
        fills.charges += more;
    }
    if let Some(sum) = filled.get_mut(&fill.intent) {
        sum.charges += more;
    }
    for orphan in orphans.iter_mut().filter(|orphan| orphan.intent == fill.intent) {
        let mut cumulative = Quantity::ZERO;
        for part in &mut orphan.fills {
            cumulative = cumulative + part.quantity;
            if cumulative == fill.cumulative {
                part.charges = mended.charges;
            }
        }
    }
}
