//! What each contract has traded at, minute by minute, since the exchange was started: what `history` tells. There is no
//! past before it; none is made up.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::money::{Price, Quantity};
use crate::paper::SymbolKey;

/// Minutes kept of each contract: two days.
const KEPT: usize = 2 * 24 * 60;

/// The prices of a span of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bar {
    /// Its first minute, counted from the Unix epoch.
    pub minute: i64,
    /// First price.
    pub open: Price,
    /// Highest.
    pub high: Price,
    /// Lowest.
    pub low: Price,
    /// Last price.
    pub close: Price,
    /// Units traded.
    pub volume: Quantity,
}

/// The bars of all contracts.
#[derive(Clone, Default, Debug)]
pub(super) struct Bars {
    kept: BTreeMap<SymbolKey, VecDeque<Bar>>,
    /// The present minute.
    pub(super) minute: i64,
}

// === impl Bars ===

impl Bars {
    /// Notes the price at which a contract stands now, and what was traded to get there.
    pub(super) fn note(&mut self, key: &SymbolKey, price: Price, volume: Quantity) {
        let minute = self.minute;
        // A key is copied once for each contract.
        if !self.kept.contains_key(key) {
            self.kept.insert(key.clone(), VecDeque::new());
        }
        let Some(bars) = self.kept.get_mut(key) else { return };
        match bars.back_mut().filter(|last| last.minute == minute) {
            Some(last) => {
                last.high = last.high.max(price);
                last.low = last.low.min(price);
                last.close = price;
                last.volume = last.volume + volume;
            }
            None => {
                if bars.len() == KEPT {
                    bars.pop_front();
                }
                bars.push_back(Bar { minute, open: price, high: price, low: price, close: price, volume });
            }
        }
    }

    /// A contract's bars of so many minutes each, which begin at multiples of that after `midnight` of some day.
    pub(super) fn of(&self, key: &SymbolKey, minutes: i64, midnight: i64) -> Vec<Bar> {
        let mut wide: Vec<Bar> = Vec::new();
        for bar in self.kept.get(key).into_iter().flatten() {
            let begins = bar.minute - (bar.minute - midnight).rem_euclid(minutes.max(1));
            match wide.last_mut().filter(|last| last.minute == begins) {
                Some(last) => {
                    last.high = last.high.max(bar.high);
                    last.low = last.low.min(bar.low);
                    last.close = bar.close;
                    last.volume = last.volume + bar.volume;
                }
                None => wide.push(Bar { minute: begins, ..*bar }),
            }
        }
        wide
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;

    #[test]
    fn minutes_become_wider_bars_that_begin_at_midnights_multiples() {
        let key = SymbolKey::new("X", "NFO");
        let mut bars = Bars::default();
        // Midnight is at minute 30 of an hour, as in India.
        for (minute, price, units) in
            [(88, 10, 0), (88, 12, 5), (89, 9, 1), (90, 11, 2), (95, 7, 0), (105, 8, 1)]
        {
            bars.minute = minute;
            bars.note(&key, Price(Decimal::from(price)), Quantity(units));
        }
        let seen = |minutes| -> Vec<(i64, [Decimal; 4], i64)> {
            let wide = bars.of(&key, minutes, 30);
            wide.iter().map(|b| (b.minute, [b.open.0, b.high.0, b.low.0, b.close.0], b.volume.0)).collect()
        };
        let prices = |prices: [i64; 4]| prices.map(Decimal::from);
        assert_eq!(seen(1).len(), 5);
        assert_eq!(seen(1)[0], (88, prices([10, 12, 10, 12]), 5));
        assert_eq!(
            seen(15),
            [
                (75, prices([10, 12, 9, 9]), 6),
                (90, prices([11, 11, 7, 7]), 2),
                (105, prices([8, 8, 8, 8]), 1)
            ]
        );
        assert_eq!(seen(1440), [(30, prices([10, 12, 7, 8]), 9)]);
        assert!(bars.of(&SymbolKey::new("Y", "NFO"), 1, 0).is_empty());
    }

    #[test]
    fn no_more_is_kept_than_two_days() {
        let key = SymbolKey::new("X", "NFO");
        let mut bars = Bars::default();
        for minute in 0..4000 {
            bars.minute = minute;
            bars.note(&key, Price(Decimal::ONE), Quantity::ZERO);
        }
        let all = bars.of(&key, 1, 0);
        assert_eq!((all.len(), all[0].minute), (KEPT, 4000 - i64::try_from(KEPT).unwrap()));
    }
}
