//! The checks that stored state must pass. All of them run: an operator sees everything at once.
//!
//! - V1 Every position's figures are possible, its instrument is known, its stop can be where it stands ([`rows`]).
//! - V2 Every open order's figures are possible, and its fills add up to what its row says ([`rows`]).
//! - V3 A position is what its entry's plan said, holds what its orders' fills bought less what they sold ([`whole`]), and
//!   has realised what those earned ([`earned`]).
//! - V4 The stored aggregates are what positions and cash give, to ₹0.01 ([`whole`]).
//! - V5 The stored pyramids are what the positions give; a label is held once ([`whole`]).
//! - V6 No filled order is without its position ([`whole`]).
//! - V7 The audit log is as it was written since it was last sealed ([`whole`]). Trading does not stop for it.
//! - V8 Stops, highest closes, operators' wishes, the capital and the high-water mark stand where the audit log, which is
//!   their only other trace, put them ([`recorded`]).
//!
//! Sums are only made over rows that passed V1: figures out of bounds would say nothing, or overflow.

pub(super) mod earned;
mod recorded;
mod rows;
mod whole;

#[cfg(test)]
mod tests;

use super::Recovered;
use super::report::Finding;
use crate::domain::instrument::Catalog;
use crate::domain::money::Rupees;
use crate::domain::portfolio::Portfolio;
use crate::ledger::snapshot::Snapshot;

/// Lists what does not add up between the rows, the orders, the aggregates, the pyramids and the fills.
pub(super) fn findings(snapshot: &Snapshot, portfolio: &Portfolio, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = rows::positions(&snapshot.positions, catalog);
    let sums_make_sense = findings.is_empty();
    findings.extend(rows::intents(snapshot));
    findings.extend(whole::plans(snapshot));
    findings.extend(whole::fills(snapshot));
    if sums_make_sense {
        findings.extend(whole::aggregates(snapshot, portfolio));
    }
    findings.extend(whole::pyramids(snapshot, catalog));
    findings.extend(whole::orphans(snapshot));
    findings.extend(recorded::positions(snapshot));
    findings.extend(recorded::wishes(snapshot));
    findings.extend(recorded::figures(snapshot));
    findings.extend(whole::audit(snapshot));
    findings
}

/// The stored aggregates that are not what the rows give; none where the rows make no sum, or none is stored.
pub(super) fn figures_off(snapshot: &Snapshot, capital: Rupees, catalog: &Catalog) -> Option<Vec<Finding>> {
    let sums_make_sense = rows::positions(&snapshot.positions, catalog).is_empty();
    let portfolio = || Recovered::portfolio(snapshot, capital);
    (sums_make_sense && snapshot.portfolio.is_some()).then(|| whole::aggregates(snapshot, &portfolio()))
}
