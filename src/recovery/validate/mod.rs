//! The checks that stored state must pass. All of them run: an operator sees everything at once.
//!
//! - V1 Every position's figures are possible, its instrument is known, its stop can be where it stands ([`rows`]).
//! - V2 Every open order's figures are possible, and its fills add up to what its row says ([`rows`]); an entry that bids stands
//!   at its first bid, and its bids are for what was decided ([`bids`]). Of an open one, too: its signal, its position, its key
//!   and its day say the same as it does ([`rows`]).
//! - V3 A position is what its entry's plan said, holds what its orders' fills bought less what they sold ([`whole`]), and
//!   has realised what those earned ([`earned`]), and was charged what those were ([`charges`]).
//! - V4 The stored aggregates are what positions and cash give, to ₹0.01 ([`whole`]); so is what all were charged.
//! - V5 The stored pyramids are what the positions give; a label is held once ([`whole`]).
//! - V6 No filled order is without its position ([`whole`]).
//! - V7 The audit log is as it was written since it was last sealed ([`whole`]). Trading does not stop for it.
//! - V8 Stops, highest closes, operators' wishes, the capital, the high-water mark and what became of orders stand where the audit log, which is
//!   their only other trace, put them ([`recorded`]).
//! - V9 The capital is what the account was opened with, and what was paid in and out since ([`whole`]); of all of history each
//!   movement is what the audit log tells of it ([`recorded`]), and so are each fill's and each position's charges ([`charges`]).
//! - V10 No switch is looser than its history says ([`whole`]): neither witness may allow what the other forbids.
//! - V11 What the account's newest day began with, and which limits were hit in it, is what the audit log tells of it ([`day`]).
//!
//! Sums are only made over rows that passed V1: figures out of bounds would say nothing, or overflow.

mod bids;
pub(super) mod charges;
pub(super) mod day;
pub(super) mod earned;
pub(super) mod recorded;
mod rows;
mod whole;

#[cfg(test)]
mod tests;

use std::thread;

use super::report::Finding;
use crate::domain::instrument::Catalog;
use crate::domain::money::Rupees;
use crate::ledger::snapshot::Snapshot;

/// From so many positions on, two threads are done sooner than one.
const WORTH_A_THREAD: usize = 1000;

/// Lists what does not add up between the rows, the orders, the aggregates, the pyramids and the fills; `capital` is
/// what an account without any history starts with.
pub(super) fn findings(snapshot: &Snapshot, capital: Rupees, catalog: &Catalog) -> Vec<Finding> {
    let rows_and_sums = || {
        let mut rows = rows::positions(&snapshot.positions, catalog);
        let sums_make_sense = !rows.iter().any(Finding::is_critical);
        rows.extend(rows::intents(snapshot));
        rows.extend(rows::off_orders(snapshot));
        let sums = if sums_make_sense { whole::aggregates(snapshot, capital) } else { Vec::new() };
        (rows, sums)
    };
    let orders_and_pyramids = || {
        let mut orders = whole::plans(snapshot);
        orders.extend(whole::fills(snapshot));
        orders.extend(charges::held(snapshot));
        (orders, whole::pyramids(snapshot, catalog))
    };
    let apart = snapshot.positions.len() >= WORTH_A_THREAD;
    let ((mut findings, sums), (orders, pyramids)) = both(apart, rows_and_sums, orders_and_pyramids);
    findings.extend(orders);
    findings.extend(sums);
    findings.extend(pyramids);
    findings.extend(whole::orphans(snapshot));
    findings.extend(recorded::positions(snapshot));
    findings.extend(recorded::wishes(snapshot));
    findings.extend(recorded::figures(snapshot));
    findings.extend(recorded::orders(snapshot));
    findings.extend(whole::cash(snapshot));
    findings.extend(whole::switches(snapshot));
    findings.extend(recorded::movements(snapshot));
    findings.extend(day::findings(snapshot));
    findings.extend(charges::told(snapshot));
    findings.extend(whole::audit(snapshot));
    findings
}

/// The stored aggregates that are not what the rows give; none where the rows make no sum, or none is stored.
pub(super) fn figures_off(snapshot: &Snapshot, capital: Rupees, catalog: &Catalog) -> Option<Vec<Finding>> {
    let sums_make_sense = !rows::positions(&snapshot.positions, catalog).iter().any(Finding::is_critical);
    (sums_make_sense && snapshot.portfolio.is_some()).then(|| whole::aggregates(snapshot, capital))
}

/// Does both, if `apart` each on a thread of its own.
fn both<A, B: Send>(apart: bool, first: impl FnOnce() -> A, second: impl Fn() -> B + Sync) -> (A, B) {
    if !apart {
        return (first(), second());
    }
    thread::scope(|scope| {
        let begun = thread::Builder::new().spawn_scoped(scope, &second);
        let first = first();
        let second = match begun {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // The system has no thread to spare.
            Err(_) => second(),
        };
        (first, second)
    })
}
