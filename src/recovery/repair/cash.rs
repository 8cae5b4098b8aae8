//! Deposits and withdrawals go back to what the audit log tells of them.

use super::{AUDIT, Plan, Proposal};
use crate::domain::cash::CashKind;
use crate::domain::ids::MovementId;
use crate::domain::money::Rupees;
use crate::ledger::cash::CashRow;
use crate::ledger::recorded::Moved;
use crate::ledger::repair::CashMend;
use crate::ledger::snapshot::{NOTHING, Snapshot};
use crate::recovery::validate::recorded::{OffMovement, off_movements, stored, told};

/// M1. Before the figures: the capital is what the movements add up to.
pub(super) fn follow_records(plan: &mut Plan, after: &mut Snapshot) {
    let Some(mut rows) = after.movements.take() else { return };
    for off in off_movements(&rows.clone(), &after.recorded) {
        let (row, field, before, after, mend) = match off {
            OffMovement::Untold(row) => {
                (row.id.to_string(), "row", stored(row), NOTHING.to_owned(), CashMend::Remove(row.id))
            }
            OffMovement::Gone(moved) => {
                (moved.id.to_string(), "row", NOTHING.to_owned(), told(moved), CashMend::Put(moved.clone()))
            }
            OffMovement::Other(row, moved) => {
                (row.id.to_string(), "row", stored(row), told(moved), CashMend::Put(moved.clone()))
            }
            OffMovement::Opening(row, opened) => {
                let put = CashMend::Put(opening(MovementId(row.id), opened));
                (row.id.to_string(), "amount", row.amount.normalize().to_string(), opened.to_string(), put)
            }
            OffMovement::OpeningGone(opened) => {
                let opening = opening(MovementId::new(), opened);
                ("(opening)".to_owned(), "row", NOTHING.to_owned(), told(&opening), CashMend::Put(opening))
            }
        };
        let because = match mend {
            CashMend::Put(Moved { kind: CashKind::Opening, .. }) => {
                "the capital, less what was paid in and out since, is that"
            }
            _ => AUDIT,
        };
        plan.proposals.push(Proposal {
            table: "cash_movement",
            row,
            field,
            before,
            after,
            because: because.to_owned(),
        });
        put(&mut rows, &mend);
        plan.mending.cash.push(mend);
    }
    after.moved = (!rows.is_empty()).then(|| rows.iter().map(|row| Rupees(row.amount)).sum());
    after.movements = Some(rows);
}

fn put(rows: &mut Vec<CashRow>, mend: &CashMend) {
    let id = match mend {
        CashMend::Put(moved) => moved.id.0,
        CashMend::Remove(id) => *id,
    };
    let at = rows.iter().find(|row| row.id == id).map(|row| row.at).unwrap_or_default();
    rows.retain(|row| row.id != id);
    if let CashMend::Put(moved) = mend {
        let (kind, amount) = (moved.kind.as_str().to_owned(), moved.amount.0);
        rows.push(CashRow { id, kind, amount, who: moved.who.clone(), why: moved.why.clone(), at });
    }
}

/// As the database writes it with the first portfolio.
fn opening(id: MovementId, amount: Rupees) -> Moved {
    let (who, why) = ("baton".to_owned(), "what the account was opened with".to_owned());
    Moved { id, kind: CashKind::Opening, amount, who, why }
}
