//! The room that an instrument's own limits leave, in lots: `max_lots` and `max_notional` bound what is held of it, whatever the
//! figures of a signal allow. A wrong stop or ATR makes a size that is wrong by any factor; these are the operator's.

use rust_decimal::Decimal;

use super::instrument::Instrument;
use super::money::Price;

/// One of an instrument's own limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// `max_lots`.
    Lots,
    /// `max_notional`.
    Notional,
}

impl Limit {
    /// Its name, as configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lots => "max_lots",
            Self::Notional => "max_notional",
        }
    }
}

/// What the tighter limit leaves at `price` beside `held` lots, in lots before rounding down, negative when more is held already;
/// none for an instrument without limits, and for figures out of range.
pub fn room(instrument: &Instrument, price: Price, held: Decimal) -> Option<(Limit, Decimal)> {
    let lots = instrument.max_lots.map(|most| (Limit::Lots, Decimal::from(most) - held));
    let notional = instrument.max_notional.and_then(|most| {
        let lot = price.0.checked_mul(instrument.point_value.0)?;
        Some((Limit::Notional, most.0.checked_div(lot)? - held))
    });
    lots.into_iter().chain(notional).min_by_key(|(_, left)| *left)
}
