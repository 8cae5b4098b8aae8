//! What was charged: positions against their fills, and both against the audit log.

use crate::domain::money::Rupees;
use crate::domain::position::Position;
use crate::ledger::recorded::Charged;
use crate::ledger::snapshot::{ChargedFill, ChargedPosition, ChargedRows, NOTHING, Snapshot};
use crate::recovery::report::Finding;

/// V3, charges: of what is held they are the sum of its fills'; to the last decimal, since nothing is divided. A late fill is
/// booked on a position that its order does not name.
pub(super) fn held(snapshot: &Snapshot) -> Vec<Finding> {
    let off = |position: &Position| {
        let fills = snapshot.position_fills.get(&position.id).copied().unwrap_or_default();
        let fits = match fills.entered {
            true => position.charges == fills.charges,
            false => position.charges >= fills.charges,
        };
        (!fits)
            .then(|| Finding::mismatch("position", position.id, "charges", position.charges, fills.charges))
    };
    snapshot.positions.iter().filter_map(off).collect()
}

/// A row that is not what the log tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recovery) enum OffCharges {
    /// A fill, and what it was charged.
    Fill(ChargedFill, Option<Rupees>),
    /// A closed position, and what it was charged.
    Closed(ChargedPosition, Rupees),
}

/// What is off in these rows, by a log that was walked from its first row on. Versions that knew of no charges told none, and
/// wrote none.
pub(in crate::recovery) fn off(rows: &ChargedRows, told: &Charged) -> Vec<OffCharges> {
    let fills = rows.fills.iter().filter_map(|fill| {
        let charges = told.fills.get(&(fill.intent, fill.cumulative)).copied();
        (charges != fill.charges).then_some(OffCharges::Fill(*fill, charges))
    });
    let closed = rows.closed.iter().filter_map(|position| {
        let charges = told.positions.get(&position.id).copied().unwrap_or_default();
        (charges != position.charges).then_some(OffCharges::Closed(*position, charges))
    });
    fills.chain(closed).collect()
}

/// V9, last part: each of all history's charges is what the log tells of it.
pub(super) fn told(snapshot: &Snapshot) -> Vec<Finding> {
    let Some((rows, told)) = snapshot.charged.as_ref().zip(snapshot.recorded.charged.as_ref()) else {
        return Vec::new();
    };
    let finding = |off| match off {
        OffCharges::Fill(fill, charges) => {
            Finding::mismatch("fill", fill.intent, "charges", shown(fill.charges), shown(charges))
        }
        OffCharges::Closed(position, charges) => {
            Finding::mismatch("position", position.id, "charges", position.charges, charges)
        }
    };
    off(rows, told).into_iter().map(finding).collect()
}

/// Charges, for people.
pub(in crate::recovery) fn shown(charges: Option<Rupees>) -> String {
    charges.map_or_else(|| NOTHING.to_owned(), |charges| charges.to_string())
}
