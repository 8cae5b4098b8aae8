//! Minute candles of what is listed: what the `history` route serves.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use crate::domain::market::Candle;
use crate::domain::money::{Price, Quantity};
use crate::paper::SymbolKey;

/// Minutes kept of each symbol: a day.
const KEPT: usize = 1440;

/// The candles of every symbol that was traded, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Candles(BTreeMap<SymbolKey, VecDeque<Candle>>);

impl Candles {
    /// Notes that `units` were traded at `price`.
    pub(super) fn note(&mut self, key: &SymbolKey, price: Price, units: Quantity, at: DateTime<Utc>) {
        let Ok(opens) = at.duration_trunc(TimeDelta::minutes(1)) else { return };
        if !self.0.contains_key(key) {
            self.0.insert(key.clone(), VecDeque::new());
        }
        let Some(candles) = self.0.get_mut(key) else { return };
        match candles.back_mut().filter(|last| last.opens >= opens) {
            Some(last) => {
                last.high = last.high.max(price);
                last.low = last.low.min(price);
                last.close = price;
                last.volume = last.volume + units;
            }
            None => {
                if candles.len() >= KEPT {
                    candles.pop_front();
                }
                let (open, high, low, close) = (price, price, price, price);
                candles.push_back(Candle { opens, open, high, low, close, volume: units });
            }
        }
    }

    /// The candles of a symbol.
    pub(super) fn of(&self, key: &SymbolKey) -> impl Iterator<Item = &Candle> {
        self.0.get(key).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    #[test]
    fn a_minute_is_one_candle_and_a_day_is_kept() {
        let (mut candles, key) = (Candles::default(), SymbolKey::new("GOLD", "MCX"));
        let at = |second: i64| DateTime::from_timestamp(1_764_000_000 + second, 0).unwrap();
        for (second, price) in [(0, dec!(100)), (10, dec!(103)), (59, dec!(99)), (60, dec!(101))] {
            candles.note(&key, Price(price), Quantity(5), at(second));
        }
        let first = candles.of(&key).next().unwrap();
        assert_eq!((first.open, first.high), (Price(dec!(100)), Price(dec!(103))));
        assert_eq!((first.low, first.close, first.volume), (Price(dec!(99)), Price(dec!(99)), Quantity(15)));
        assert_eq!(candles.of(&key).count(), 2);
        for minute in 0..2000 {
            candles.note(&key, Price(dec!(1)), Quantity(1), at(minute * 60));
        }
        assert_eq!(candles.of(&key).count(), KEPT);
        assert_eq!(candles.of(&SymbolKey::new("NONE", "MCX")).count(), 0);
    }
}
