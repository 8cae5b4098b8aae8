//! The account's newest day goes back to what the audit log tells of it.

use super::{AUDIT, Plan, Proposal};
use crate::ledger::repair::DayMend;
use crate::ledger::snapshot::Snapshot;
use crate::recovery::validate::day::{OffDay, off_day};

/// M1. What the day began with, and which limits were hit in it.
pub(super) fn follow_records(plan: &mut Plan, after: &mut Snapshot) {
    for off in off_day(&after.days, &after.recorded.day) {
        let (before, told) = off.shown();
        plan.proposals.push(Proposal {
            table: off.table(),
            row: off.row(),
            field: off.field(),
            before,
            after: told,
            because: AUDIT.to_owned(),
        });
        let (openings, latches) = (&mut after.days.openings, &mut after.days.latches);
        plan.mending.days.push(match off {
            OffDay::Opening { day, told: Some(told), .. } => {
                openings.insert(day, told);
                DayMend::Open(day, told)
            }
            OffDay::Opening { day, told: None, .. } => {
                openings.remove(&day);
                DayMend::Forget(day)
            }
            OffDay::Latch { day, code, told: Some(told), .. } => {
                latches.insert((day, code.clone()), told.clone());
                DayMend::Latch(day, code, told)
            }
            OffDay::Latch { day, code, told: None, .. } => {
                latches.remove(&(day, code.clone()));
                DayMend::Lift(day, code)
            }
        });
    }
}
