//! The portfolio with everything that may still be bought: what gates and sizing count.

use rust_decimal::Decimal;

use super::bids::rest::pauses;
use super::book::Book;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Quantity, Rupees};
use crate::domain::order::OrderClass;
use crate::domain::portfolio::{PendingEntry, Portfolio};

/// The portfolio with the entries that are on their way, and with what those that are between two orders may still buy.
pub fn projected(book: &Book) -> Portfolio {
    let orders = book.intents.values().map(|tracked| &tracked.intent);
    let out = orders.filter(|intent| intent.class == OrderClass::Entry && !intent.state.is_terminal());
    let out = out.filter_map(|intent| pending(intent, intent.remaining()));
    let paused = pauses(book).filter(|pause| !pause.unwanted && pause.left() > Quantity::ZERO);
    let paused = paused.filter_map(|pause| pending(&pause.last, pause.left()));
    Portfolio { pending: out.chain(paused).collect(), ..book.portfolio.clone() }
}

fn pending(entry: &OrderIntent, units: Quantity) -> Option<PendingEntry> {
    let plan = entry.plan.as_ref()?;
    let lots = units.in_lots(plan.lot_size);
    let points = (plan.planned_price.0 - plan.stop.0).max(Decimal::ZERO);
    Some(PendingEntry {
        instrument: entry.instrument.clone(),
        label: plan.label.to_string(),
        risk: Rupees(points * lots * plan.point_value.0),
        volatility: Rupees(plan.atr.0 * lots * plan.point_value.0),
        margin: Rupees(lots * plan.margin_per_lot.0),
    })
}
