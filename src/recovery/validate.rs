//! The checks that stored state must pass: every fault is listed, not only the first.

use crate::domain::instrument::Catalog;
use crate::domain::money::Quantity;
use crate::domain::portfolio::{Aggregates, Portfolio};
use crate::domain::pyramiding;
use crate::ledger::snapshot::Snapshot;

/// Lists what does not add up between the rows, the aggregates, the pyramids and the fills.
pub(super) fn faults(snapshot: &Snapshot, portfolio: &Portfolio, catalog: &Catalog) -> Vec<String> {
    // Rows first: sums over figures out of bounds would say nothing, or overflow.
    let mut faults: Vec<String> = snapshot
        .positions
        .iter()
        .flat_map(|position| position.faults().into_iter().map(|fault| fault.to_string()))
        .collect();
    if !faults.is_empty() {
        return faults;
    }
    match snapshot.portfolio {
        Some(stored) => {
            let stored = Aggregates {
                closed_equity: stored.closed_equity,
                risk: stored.risk,
                volatility: stored.volatility,
                margin_used: stored.margin_used,
            };
            let calculated = portfolio.aggregates();
            faults.extend(calculated.mismatches(&stored).iter().map(ToString::to_string));
        }
        None if !snapshot.positions.is_empty() => {
            faults.push(format!("{} open positions, but no portfolio_state row", snapshot.positions.len()));
        }
        None => {}
    }
    for intent in &snapshot.intents {
        let filled = snapshot.filled.get(&intent.id).map_or(Quantity::ZERO, |sum| sum.quantity);
        if !intent.state.is_terminal() && filled != intent.filled {
            faults.push(format!(
                "order intent {}: its row says {} units filled, its fills add up to {filled}",
                intent.id, intent.filled
            ));
        }
    }
    let pyramids = pyramiding::faults(&snapshot.pyramids, &snapshot.positions, catalog);
    faults.extend(pyramids.iter().map(|fault| format!("{} {}", fault.field, fault.message)));
    faults
}
