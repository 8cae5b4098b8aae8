//! What would mend stored state: proposals from the orders, the fills, the audit log and the broker's verified book, pure and
//! in order.
//!
//! - M0 A cell that cannot be read is what its witness says ([`crate::ledger::reread`]); then it is looked at like any other
//!   (`unreadable`).
//! - M1 A column goes back to what proves it: the entry's plan (`rows`), the fills (`fills`), the audit log (`rows`, of what was paid in and
//!   out `cash`, of the account's day `day`; of what was charged both, `charges`), of an open order the log or two others that agree
//!   (`orders`).
//!   A quantity follows its orders' fills: a closed position that was opened again is closed again.
//! - M2 A position whose row is gone is made again from its entry's plan, its fills and its recorded stop (`lost`).
//! - M3 Where the broker's verified book shows less than the ledger, what is missing was sold by hand: booked on the
//!   youngest positions first, at the price of the sales that the trade book shows, or the operator's (`sales`).
//! - M4 The aggregates and the pyramids follow from the positions, once those are proven (`figures`).
//! - M5 Nothing is proposed where two witnesses contradict each other and a third is missing, nor where there is none: it is
//!   told, and belongs to a backup. A figure is never made to fit a row that was tampered with.
//!
//! A repair is proven before it is committed: state that would still not be whole is rolled back.

mod cash;
mod charges;
mod day;
mod figures;
mod fills;
mod lost;
mod orders;
mod rows;
mod sales;
mod unreadable;

use std::collections::BTreeMap;

use serde::Serialize;

use super::reconcile::DiffRow;
use super::report::Finding;
use super::validate;
use crate::domain::ids::PositionId;
use crate::domain::instrument::Catalog;
use crate::domain::money::{Price, Rupees};
use crate::domain::position::{HoldingKey, Position};
use crate::ledger::repair::Mending;
use crate::ledger::snapshot::Snapshot;

/// Why what the log tells is proposed: one that does not fit together tells nothing.
const AUDIT: &str = "the audit log, which is whole, has it so";
pub(super) use figures::{follow_positions, follow_pyramids};

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

impl Plan {
    /// Adds the proposal of one value of a position.
    fn propose(
        &mut self,
        position: PositionId,
        field: &'static str,
        before: impl ToString,
        after: impl ToString,
        because: impl Into<String>,
    ) {
        let (row, before, after) = (position.to_string(), before.to_string(), after.to_string());
        self.proposals.push(Proposal {
            table: "position",
            row,
            field,
            before,
            after,
            because: because.into(),
        });
    }
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
    rows::follow_plans(&mut plan, &mut after, diff, capital, catalog);
    fills::follow(&mut plan, &mut after);
    fills::follow_orders(&mut plan, &mut after);
    orders::follow_records(&mut plan, &mut after);
    charges::follow(&mut plan, &mut after);
    rows::follow_records(&mut plan, &mut after);
    lost::make_again(&mut plan, &mut after, catalog);
    cash::follow_records(&mut plan, &mut after);
    day::follow_records(&mut plan, &mut after);
    // Before sales by hand change what the stored figures can be held against.
    let proven = figures::follow_records(&mut plan, &mut after, capital, catalog);
    for row in diff.iter().filter(|row| row.verdict.is_drift()) {
        sales::book(&mut plan, &mut after, row, prices);
    }
    plan.mending.positions = changed(&snapshot.positions, &after.positions);
    plan.mending.made_again = after.positions.split_off(snapshot.positions.len());
    after.positions.extend(plan.mending.made_again.iter().cloned());
    after.positions.retain(Position::is_held);
    if proven {
        figures::follow_positions(&mut plan, snapshot, &mut after, capital);
    }
    figures::follow_pyramids(&mut plan, snapshot, &mut after);
    let left = validate::findings(&after, capital, catalog);
    plan.unsolved.extend(left.iter().filter(|finding| finding.is_critical()).map(orders::advised));
    plan
}

/// The sentences of what nobody may trade into.
pub fn critical(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|finding| finding.is_critical()).map(ToString::to_string).collect()
}

fn changed(before: &[Position], after: &[Position]) -> Vec<Position> {
    let pairs = before.iter().zip(after).filter(|(before, after)| before != after);
    pairs.map(|(before, after)| Position { version: before.version + 1, ..after.clone() }).collect()
}
