//! What the fills say: quantities, entry prices, profits, and the filled quantity of orders.

use super::{Plan, Proposal};
use crate::domain::money::Quantity;
use crate::domain::order::IntentState;
use crate::domain::position::{Position, PositionStatus};
use crate::ledger::snapshot::{PositionFills, Snapshot};
use crate::recovery::validate::earned::{Verdict, verdict};

/// M1. Positions follow their fills.
pub(super) fn follow(plan: &mut Plan, after: &mut Snapshot) {
    let Snapshot { positions, position_fills, recorded, .. } = after;
    for position in positions {
        let fills = position_fills.get(&position.id).copied().unwrap_or_default();
        let at = recorded.positions.get(&position.id).map(|at| at.quantity);
        let told = at.or(recorded.complete.then_some(Quantity::ZERO));
        follow_quantity(plan, position, &fills, told);
        let before = position.realised;
        if fits(position, &fills) {
            follow_price(plan, position, &fills);
        }
        after.realised += position.realised - before;
    }
}

fn fits(position: &Position, fills: &PositionFills) -> bool {
    let bought = if fills.entered { fills.bought } else { position.entry_quantity };
    bought == position.entry_quantity && bought - fills.sold == position.quantity && position.lot_size.0 > 0
}

/// `told` is what the audit log says that it holds.
fn follow_quantity(plan: &mut Plan, position: &mut Position, fills: &PositionFills, told: Option<Quantity>) {
    let held = fills.bought - fills.sold;
    let may = fills.entered && held >= Quantity::ZERO && fills.bought == position.entry_quantity;
    if held == position.quantity || !may {
        return;
    }
    if let Some(told) = told.filter(|told| *told != held) {
        plan.unsolved.push(format!(
            "position {}: its orders' fills leave {held} units, the audit log has it at {told}: nothing tells which is right",
            position.id
        ));
        return;
    }
    let because = format!("its orders bought {} and sold {}", fills.bought, fills.sold);
    plan.propose(position.id, "quantity", position.quantity, held, because);
    position.quantity = held;
    if held == Quantity::ZERO {
        position.status = PositionStatus::Closed;
    }
}

fn follow_price(plan: &mut Plan, position: &mut Position, fills: &PositionFills) {
    match verdict(position, fills) {
        Verdict::Fit => {}
        Verdict::EntryPrice(price) => {
            let because = "it is the average of what its entry's fills paid";
            plan.propose(position.id, "entry_price", position.entry_price, price, because);
            position.entry_price = price;
        }
        Verdict::Realised(earned) => {
            let because = "its fills' proceeds, less what they cost, give it";
            plan.propose(position.id, "realised", position.realised, earned, because);
            position.realised = earned;
        }
        Verdict::Either(earned) => plan.unsolved.push(format!(
            "position {}: at its entry price {} the fills earned {earned}, not {}: nothing tells which of price and profit is \
             right",
            position.id, position.entry_price, position.realised
        )),
    }
}

/// M1. An order's filled quantity follows its fill rows, where its position agrees with those.
pub(super) fn follow_orders(plan: &mut Plan, after: &mut Snapshot) {
    let Snapshot { intents, filled, positions, position_fills, orphans, .. } = after;
    for intent in intents {
        let sum = filled.get(&intent.id).map_or(Quantity::ZERO, |sum| sum.quantity);
        if sum == intent.filled {
            continue;
        }
        let fills = position_fills.get(&intent.position).copied().unwrap_or_default();
        let agrees = match positions.iter().find(|position| position.id == intent.position) {
            Some(position) => fits(position, &fills),
            None => sum == Quantity::ZERO,
        };
        let possible = sum <= intent.order.quantity
            && (intent.state != IntentState::Filled || sum == intent.order.quantity);
        if !agrees || !possible {
            continue;
        }
        plan.proposals.push(Proposal {
            table: "order_intent",
            row: intent.id.to_string(),
            field: "filled_quantity",
            before: intent.filled.to_string(),
            after: sum.to_string(),
            because: "its fills add up to it, and its position holds what they made".to_owned(),
        });
        plan.mending.filled.push((intent.id, sum));
        intent.filled = sum;
        // What filled nothing misses no position.
        orphans.retain(|orphan| orphan.intent != intent.id || sum > Quantity::ZERO);
    }
}
