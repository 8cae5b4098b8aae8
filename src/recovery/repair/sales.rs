//! What the broker does not hold any more was sold by hand.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Plan;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::{Price, Quantity};
use crate::domain::position::{HoldingKey, Position};
use crate::ledger::repair::Booking;
use crate::ledger::snapshot::Snapshot;
use crate::recovery::reconcile::DiffRow;

/// M3.
pub(super) fn book(
    plan: &mut Plan,
    after: &mut Snapshot,
    row: &DiffRow,
    prices: &BTreeMap<HoldingKey, Price>,
) {
    let Some(key) = row.key() else { return };
    let of_key = |p: &&mut Position| {
        p.is_held() && (&p.symbol, &p.exchange, p.product) == (&key.symbol, &key.exchange, key.product)
    };
    let mut held: Vec<&mut Position> = after.positions.iter_mut().filter(of_key).collect();
    let total: Quantity = held.iter().map(|position| position.quantity).sum();
    // The comparison saw the quantities before M1.
    if total == row.broker {
        return;
    }
    let mut missing = total - row.broker.max(Quantity::ZERO);
    if row.broker > total || row.broker < Quantity::ZERO {
        let what = if row.broker < Quantity::ZERO { "is short" } else { "holds more than the ledger" };
        plan.unsolved.push(format!("{key}: the broker {what} ({}): close or adopt it by hand", row.broker));
    }
    if missing <= Quantity::ZERO {
        return;
    }
    let Some(price) = prices.get(&key).copied() else {
        plan.unsolved.push(format!(
            "{key}: {missing} units were sold by hand and the trade book does not say at what price: give it with --price {}=PRICE",
            key.symbol
        ));
        return;
    };
    held.sort_by_key(|position| std::cmp::Reverse((position.entry_bar_time, position.entry_signal_seq)));
    for position in held {
        let quantity = position.quantity.min(missing);
        if quantity == Quantity::ZERO {
            break;
        }
        let before = position.clone();
        if let Err(error) = position.apply_exit_fill(quantity, price) {
            plan.unsolved.push(format!("position {}: {error}", before.id));
            return;
        }
        missing = missing - quantity;
        let because =
            format!("the broker's verified book holds {} of {key}: sold by hand at {price}", row.broker);
        plan.propose(before.id, "quantity", before.quantity, position.quantity, because);
        if let Some(fills) = after.position_fills.get_mut(&before.id) {
            fills.sold = fills.sold + quantity;
            fills.sold_value += price.0 * quantity.decimal();
        }
        after.realised += position.realised - before.realised;
        let intent = synthetic(before.id, before.version, quantity);
        plan.mending.bookings.push(Booking { intent, position: before, quantity, price });
    }
}

/// R7: the same sale has the same id, whoever computes it.
fn synthetic(position: PositionId, version: i64, quantity: Quantity) -> IntentId {
    let text = format!("sold by hand/{position}/{version}/{quantity}");
    let digest = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    IntentId(uuid::Builder::from_custom_bytes(bytes).into_uuid() as Uuid)
}
