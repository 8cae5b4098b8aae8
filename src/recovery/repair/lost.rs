//! Positions whose rows are gone, made again from their orders.

use std::collections::BTreeMap;

use super::Plan;
use crate::domain::ids::PositionId;
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::order::OrderClass;
use crate::domain::position::{Position, PositionStatus};
use crate::ledger::snapshot::{Orphan, OrphanFill, PositionFills, Snapshot};

/// M2. Each is made again if its entry's plan, all of its fills and the audit log agree on what it holds.
pub(super) fn make_again(plan: &mut Plan, after: &mut Snapshot, catalog: &Catalog) {
    let mut lost: BTreeMap<PositionId, Vec<Orphan>> = BTreeMap::new();
    for orphan in std::mem::take(&mut after.orphans) {
        lost.entry(orphan.position).or_default().push(orphan);
    }
    for (id, orders) in lost {
        match again(id, &orders, after, catalog) {
            Ok(position) => {
                let shown = format!(
                    "{} {}: {} of {} units at {}, stop {}",
                    position.instrument,
                    position.label,
                    position.quantity,
                    position.entry_quantity,
                    position.entry_price,
                    position.current_stop
                );
                let because = "its entry's plan, its fills and the audit log give it";
                plan.propose(id, "row", "none", shown, because);
                after.realised += position.realised;
                after.charges += position.charges;
                after.position_fills.insert(id, sums(&orders));
                after.positions.push(position);
            }
            Err(why) => {
                plan.unsolved.push(format!("position {id} is gone, and {why}"));
                after.orphans.extend(orders);
            }
        }
    }
}

fn again(id: PositionId, orders: &[Orphan], after: &Snapshot, catalog: &Catalog) -> Result<Position, String> {
    let entry = orders.iter().find(|order| order.class == OrderClass::Entry);
    let entry = entry.ok_or("no entry names it: what it was bought by is not known")?;
    let (Some(plan), Some(signal)) = (&entry.plan, entry.signal) else {
        return Err("its entry has no plan".to_owned());
    };
    let configured = catalog.get(&entry.instrument);
    let configured = configured.ok_or_else(|| format!("{} is not configured", entry.instrument))?;
    let instrument = Instrument {
        symbol: entry.symbol.clone(),
        exchange: entry.exchange.clone(),
        product: entry.product,
        lot_size: plan.lot_size,
        point_value: plan.point_value,
        margin_per_lot: plan.margin_per_lot,
        ..configured.clone()
    };
    let mut fills: Vec<(OrderClass, OrphanFill)> =
        orders.iter().flat_map(|order| order.fills.iter().map(|fill| (order.class, *fill))).collect();
    fills.sort_by_key(|(class, fill)| (fill.at, *class != OrderClass::Entry));
    let mut fills = fills.into_iter();
    let Some((OrderClass::Entry, first)) = fills.next() else {
        return Err("its fills do not begin with a buy".to_owned());
    };
    let opening = plan.opening(id, signal);
    let wrong = |error| format!("its fills do not fit: {error}");
    let mut position = opening.filled(&instrument, first.quantity, first.price, first.at).map_err(wrong)?;
    position.charges = first.charges.unwrap_or_default();
    for (class, fill) in fills {
        match class {
            OrderClass::Entry => position.apply_entry_fill(fill.quantity, fill.price).map_err(wrong)?,
            _ => drop(position.apply_exit_fill(fill.quantity, fill.price).map_err(wrong)?),
        }
        position.charges += fill.charges.unwrap_or_default();
    }
    follow_records(&mut position, after)?;
    // The first that was sent gave it; a stop that rested and sold is one of its own.
    let sent = orders.iter().filter(|order| !order.rests).find_map(|order| order.cause);
    let rested = orders.iter().filter(|order| order.rests).filter_map(|order| order.cause).max();
    position.exit_cause = sent.max(rested);
    follow_exits(&mut position, after);
    Ok(position)
}

/// The stop has trailed; and fills that are not all there would make another position.
fn follow_records(position: &mut Position, after: &Snapshot) -> Result<(), String> {
    let Some(at) = after.recorded.positions.get(&position.id) else {
        let closed = after.recorded.complete && !position.is_held();
        return if closed { Ok(()) } else { Err("the audit log does not tell how it stood".to_owned()) };
    };
    if at.quantity != position.quantity {
        return Err(format!(
            "its fills leave {} units, the audit log has it at {}: nothing tells which is right",
            position.quantity, at.quantity
        ));
    }
    position.current_stop = at.stop;
    position.highest_close = at.highest_close.unwrap_or(position.highest_close);
    Ok(())
}

/// An exit that may still fill has it closing.
fn follow_exits(position: &mut Position, after: &Snapshot) {
    let out = after.intents.iter().filter(|intent| {
        intent.position == position.id
            && intent.class != OrderClass::Entry
            && !intent.state.is_terminal()
            && !intent.rests()
    });
    if let Some(exit) = out.max_by_key(|intent| intent.attempt).filter(|_| position.is_held()) {
        position.status = PositionStatus::Closing;
        position.exit_cause = exit.cause;
    }
}

fn sums(orders: &[Orphan]) -> PositionFills {
    let mut sums = PositionFills::default();
    for order in orders {
        if order.fills.is_empty() {
            sums.add(order.class, None, None);
        }
        for fill in &order.fills {
            sums.add(order.class, Some((fill.quantity.0, fill.price)), fill.charges);
        }
    }
    sums
}
