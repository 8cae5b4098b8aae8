//! Entry price and profit of a position, from its fills.

use rust_decimal::{Decimal, dec};

use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::portfolio::TOLERANCE;
use crate::domain::position::Position;
use crate::ledger::snapshot::PositionFills;
use crate::recovery::report::Finding;

/// How far a stored average price may lie from Σ value / Σ quantity: each fill rounds to eight decimals.
const PRICE_TOLERANCE: Decimal = dec!(0.000001);
/// That rounding, on one unit of profit.
const ROUNDING: Decimal = dec!(0.00000001);

/// What the fills say of a position's entry price and profit, which tell of each other once something was sold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::recovery) enum Verdict {
    /// Both are what they gave.
    Fit,
    /// The entry price is another.
    EntryPrice(Price),
    /// The profit is another.
    Realised(Rupees),
    /// One of the two is another, and nothing tells which: this would be the profit at the stored price.
    Either(Rupees),
}

/// Judges a position whose quantities fit its fills.
pub(in crate::recovery) fn verdict(position: &Position, fills: &PositionFills) -> Verdict {
    if fills.sold == Quantity::ZERO {
        return unsold(position, fills);
    }
    let Some(earned) = earned(position, fills).filter(|earned| !is_near(position, *earned)) else {
        return Verdict::Fit;
    };
    // With buys between the sales it is the cost of what is held, and not of all that was bought.
    let Some(average) = average(fills) else { return Verdict::Either(earned) };
    if is_price(position, average) {
        Verdict::Realised(earned)
    } else if gives(position, fills, average) {
        Verdict::EntryPrice(average)
    } else {
        Verdict::Either(earned)
    }
}

/// Of most positions nothing was sold yet, and most entries fill at one price: nothing is divided for those.
fn unsold(position: &Position, fills: &PositionFills) -> Verdict {
    let exact = position.entry_price.0.checked_mul(fills.bought.decimal()) == Some(fills.bought_value);
    match (!exact).then(|| average(fills)).flatten().filter(|average| !is_price(position, *average)) {
        Some(average) => Verdict::EntryPrice(average),
        None if position.realised.0.abs() > TOLERANCE.0 => Verdict::Realised(Rupees::ZERO),
        None => Verdict::Fit,
    }
}

/// What all that was bought cost on average; none of a position that no entry names.
fn average(fills: &PositionFills) -> Option<Price> {
    let average = fills.bought_value.checked_div(fills.bought.decimal()).filter(|_| fills.entered);
    average.map(|average| Price(average).rounded())
}

fn is_price(position: &Position, average: Price) -> bool {
    let apart = average.0.checked_sub(position.entry_price.0);
    apart.is_some_and(|apart| apart.abs() <= PRICE_TOLERANCE)
}

/// V3, last part.
pub(super) fn finding(position: &Position, fills: &PositionFills) -> Option<Finding> {
    let (field, stored, calculated) = match verdict(position, fills) {
        Verdict::Fit => return None,
        Verdict::EntryPrice(price) => ("entry_price", position.entry_price.to_string(), price.to_string()),
        Verdict::Realised(earned) | Verdict::Either(earned) => {
            ("realised", position.realised.to_string(), earned.to_string())
        }
    };
    Some(Finding::mismatch("position", position.id, field, stored, calculated))
}

/// The proceeds, less what of the cost is not held any more: in whatever order the fills came. None where the sums leave
/// the range of the numbers.
fn earned(position: &Position, fills: &PositionFills) -> Option<Rupees> {
    let at_average = |units: Quantity| position.entry_price.0.checked_mul(units.decimal());
    let cost = if fills.entered { fills.bought_value } else { at_average(position.entry_quantity)? };
    let points = fills.sold_value.checked_sub(cost)?.checked_add(at_average(position.quantity)?)?;
    let rupees = points.checked_mul(position.point_value.0)?.checked_div(position.lot_size.decimal())?;
    Some(Rupees(rupees).rounded())
}

/// The stored profit is what was earned at another entry price.
fn gives(position: &Position, fills: &PositionFills, entry_price: Price) -> bool {
    let other = Position { entry_price, ..position.clone() };
    earned(&other, fills).is_some_and(|earned| is_near(position, earned))
}

fn is_near(position: &Position, earned: Rupees) -> bool {
    let lots = position.entry_quantity.decimal().checked_div(position.lot_size.decimal()).unwrap_or_default();
    let rounding = lots.checked_mul(position.point_value.0).unwrap_or_default() * ROUNDING;
    let apart = position.realised.0.checked_sub(earned.0);
    apart.is_some_and(|apart| apart.abs() <= TOLERANCE.0 + rounding)
}
