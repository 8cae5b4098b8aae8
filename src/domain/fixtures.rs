//! Values that the domain's tests share.

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, dec};
use uuid::Uuid;

use super::charges::Terms;
use super::fill::Opening;
use super::ids::{PositionId, SignalId};
use super::instrument::{Catalog, Instrument};
use super::label::Label;
use super::money::{Lots, Price, Rupees};
use super::portfolio::Quotes;
use super::position::Position;

/// A moment, `minutes` after a fixed one.
pub fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_764_000_000 + minutes * 60, 0).unwrap()
}

/// A built-in instrument.
pub fn instrument(name: &str) -> Instrument {
    Catalog::default().get(name).unwrap().clone()
}

/// An open position of `lots` lots; `seq` makes its id, its inbox order and its bar time.
pub fn position(name: &str, label: u8, lots: i64, price: Decimal, stop: Decimal, seq: i64) -> Position {
    let instrument = instrument(name);
    let opening = Opening {
        id: PositionId(Uuid::from_u128(u128::try_from(seq).unwrap())),
        label: Label::new(label).unwrap(),
        strategy: "default".to_owned(),
        atr: Price(Decimal::from(100)),
        stop: Price(stop),
        take_profit: None,
        entry_signal: SignalId(Uuid::from_u128(1_000_000 + u128::try_from(seq).unwrap())),
        entry_signal_seq: seq,
        entry_bar_time: at(seq),
    };
    opening.filled(&instrument, Lots(lots).quantity(instrument.lot_size), Price(price), at(seq)).unwrap()
}

/// One quote for a built-in instrument's contract.
pub fn quote(name: &str, price: Decimal) -> Quotes {
    let instrument = instrument(name);
    let mut quotes = Quotes::new();
    quotes.set(&instrument.exchange, &instrument.symbol, Price(price));
    quotes
}

/// As a discount broker charges futures on MCX.
pub fn metals() -> Terms {
    Terms {
        exchange: "MCX".to_owned(),
        brokerage_percent: dec!(0.03),
        brokerage_most: Some(Rupees(dec!(20))),
        tax_sell_percent: dec!(0.01),
        exchange_percent: dec!(0.0021),
        sebi_percent: dec!(0.0001),
        stamp_buy_percent: dec!(0.002),
        gst_percent: dec!(18),
        ..Terms::default()
    }
}
