//! The figures of the portfolio, and the pyramids.

use super::{Plan, Proposal};
use crate::domain::instrument::Catalog;
use crate::domain::money::Rupees;
use crate::domain::portfolio::TOLERANCE;
use crate::domain::position::Position;
use crate::domain::pyramiding::PyramidingState;
use crate::ledger::change::{PortfolioRow, PyramidWrite};
use crate::ledger::recorded::Figures;
use crate::ledger::snapshot::Snapshot;
use crate::recovery::{Recovered, cash, validate};

/// M4. Capital and high-water mark follow the audit log. Where it does not tell them, the capital is what deposits and withdrawals
/// add up to, if one of capital and closed equity agrees with that. False when the aggregates follow from nothing that is proven.
pub(super) fn follow_records(
    plan: &mut Plan,
    after: &mut Snapshot,
    capital: Rupees,
    catalog: &Catalog,
) -> bool {
    if let Some(recorded) = after.recorded.figures {
        let mut row = after.portfolio.unwrap_or_default();
        (row.capital, row.equity_high) = (recorded.capital, recorded.equity_high);
        after.portfolio = Some(row);
    } else if let Some(row) = &mut after.portfolio {
        let moved = after.moved.unwrap_or(capital);
        let by_equity = row.closed_equity - after.realised;
        let same = |a: Rupees, b: Rupees| (a - b).0.abs() <= TOLERANCE.0;
        if !same(row.capital, by_equity) && !same(row.capital, moved) {
            if !same(by_equity, moved) {
                plan.unsolved.push(format!(
                    "capital is {}, and the closed equity {} less what was realised leaves {by_equity}: nothing tells which \
                     is right",
                    row.capital, row.closed_equity
                ));
                return false;
            }
            row.capital = moved;
        }
    }
    // Of rows that make no sum it is told already.
    let Some(off) = validate::figures_off(after, capital, catalog) else { return after.portfolio.is_none() };
    let unproven = |position: &&Position| !after.recorded.positions.contains_key(&position.id);
    match after.positions.iter().find(unproven) {
        Some(position) if off.iter().any(|finding| finding.field == "risk_amount") => {
            plan.unsolved.push(format!(
                "risk_amount or a stop is wrong, and the audit log does not tell where the stop of position {} was put",
                position.id
            ));
            false
        }
        _ => true,
    }
}

/// M4. The aggregates.
pub(in crate::recovery) fn follow_positions(
    plan: &mut Plan,
    before: &Snapshot,
    after: &mut Snapshot,
    capital: Rupees,
) {
    let sums = Recovered::aggregates(after, capital);
    let cash = cash(after, capital);
    let row = PortfolioRow {
        capital: cash,
        closed_equity: sums.closed_equity,
        equity_high: after.portfolio.map_or(cash, |row| row.equity_high).max(sums.closed_equity),
        risk: sums.risk,
        volatility: sums.volatility,
        margin_used: sums.margin_used,
        charges: sums.charges,
    };
    let stored = before.portfolio;
    if stored != Some(row) {
        let old = stored.unwrap_or_default();
        let derived = "the positions, their realised profit and the capital give it";
        for (field, before, after, because) in [
            ("capital", old.capital, row.capital, "the audit log has it so, or what was paid in and out"),
            ("closed_equity", old.closed_equity, row.closed_equity, derived),
            (
                "equity_high",
                old.equity_high,
                row.equity_high,
                "the audit log has it so, or the closed equity",
            ),
            ("risk_amount", old.risk, row.risk, derived),
            ("volatility_amount", old.volatility, row.volatility, derived),
            ("margin_used", old.margin_used, row.margin_used, derived),
            ("charges", old.charges, row.charges, derived),
        ] {
            if before != after {
                plan.proposals.push(Proposal {
                    table: "portfolio_state",
                    row: "1".to_owned(),
                    field,
                    before: before.to_string(),
                    after: after.to_string(),
                    because: because.to_owned(),
                });
            }
        }
        plan.mending.portfolio = Some(row);
        after.portfolio = Some(row);
        // The repair is recorded, too.
        let (capital, equity_high) = (row.capital, row.equity_high);
        after.recorded.figures = after.recorded.figures.map(|_| Figures { capital, equity_high });
    }
}

/// M4. The pyramids.
pub(in crate::recovery) fn follow_pyramids(plan: &mut Plan, before: &Snapshot, after: &mut Snapshot) {
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
