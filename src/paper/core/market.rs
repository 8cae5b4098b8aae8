//! Prices: listed contracts, their quotes, and a seeded walk in whole ticks.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::bars::Bars;
use crate::domain::money::{Lots, Price, Quantity};
use crate::paper::rng::Rng;
use crate::paper::{SymbolKey, SymbolSpec};

/// A walk step moves a price by at most this many ticks.
const STEP_TICKS: u64 = 3;
/// The walk stays within this fraction of the price it started from.
const BAND: Decimal = rust_decimal::dec!(0.1);

/// The three prices that matching looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// What a seller gets.
    pub bid: Price,
    /// What a buyer pays.
    pub ask: Price,
    /// Last traded price.
    pub ltp: Price,
}

/// A listed contract with its day so far.
#[derive(Clone, PartialEq, Debug)]
pub struct Listing {
    /// The contract.
    pub spec: SymbolSpec,
    /// Last traded price.
    pub ltp: Price,
    /// Bid and ask lie this many ticks from the last price.
    pub spread_ticks: u32,
    /// First price of the day.
    pub open: Price,
    /// Highest of the day.
    pub high: Price,
    /// Lowest of the day.
    pub low: Price,
    /// Yesterday's close.
    pub prev_close: Price,
    /// Units traded today.
    pub volume: Quantity,
}

impl Listing {
    fn new(spec: SymbolSpec, spread_ticks: u32) -> Self {
        let ltp = spec.ltp;
        Self {
            spec,
            ltp,
            spread_ticks,
            open: ltp,
            high: ltp,
            low: ltp,
            prev_close: ltp,
            volume: Quantity::ZERO,
        }
    }

    /// Bid, ask and last price.
    pub fn quote(&self) -> Quote {
        let half = Price(self.spec.tick_size.0 * Decimal::from(self.spread_ticks));
        Quote { bid: (self.ltp - half).max(self.spec.tick_size), ask: self.ltp + half, ltp: self.ltp }
    }

    fn trade_at(&mut self, price: Price) {
        self.ltp = price;
        self.high = self.high.max(price);
        self.low = self.low.min(price);
    }

    /// One step of the walk; the units that it traded: a lot, and more the further it went.
    fn step(&mut self, rng: &mut Rng) -> Quantity {
        let ticks = i64::try_from(rng.below(2 * STEP_TICKS + 1)).unwrap_or(0)
            - i64::try_from(STEP_TICKS).unwrap_or(0);
        let moved = Price(self.ltp.0 + self.spec.tick_size.0 * Decimal::from(ticks));
        let band = self.spec.ltp.0 * BAND;
        // Only a step back into the band is taken when a set price lies outside of it.
        let inside = (moved.0 - self.spec.ltp.0).abs() <= band;
        let returning = (moved.0 - self.spec.ltp.0).abs() < (self.ltp.0 - self.spec.ltp.0).abs();
        if moved.0 >= self.spec.tick_size.0 && (inside || returning) {
            self.trade_at(moved);
        }
        Lots(1 + ticks.abs()).quantity(self.spec.lot_size)
    }
}

/// All listed contracts.
#[derive(Clone, Debug)]
pub(super) struct Market {
    listings: BTreeMap<SymbolKey, Listing>,
    /// What they have traded at.
    pub(super) bars: Bars,
    /// Whether steps move the prices.
    pub(super) moving: bool,
}

impl Market {
    pub(super) fn new(symbols: Vec<SymbolSpec>, spread_ticks: u32, moving: bool) -> Self {
        let listings =
            symbols.into_iter().map(|spec| (spec.key.clone(), Listing::new(spec, spread_ticks))).collect();
        Self { listings, bars: Bars::default(), moving }
    }

    pub(super) fn get(&self, key: &SymbolKey) -> Option<&Listing> {
        self.listings.get(key)
    }

    pub(super) fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.listings.values()
    }

    /// One step of the walk; no price moves when the market stands still.
    pub(super) fn step(&mut self, rng: &mut Rng) {
        for (key, listing) in &mut self.listings {
            let units = if self.moving { listing.step(rng) } else { Quantity::ZERO };
            listing.volume = listing.volume + units;
            self.bars.note(key, listing.ltp, units);
        }
    }

    /// Sets a price, rounded to the tick, or a spread; false for an unlisted symbol.
    pub(super) fn set(&mut self, key: &SymbolKey, ltp: Option<Price>, spread_ticks: Option<u32>) -> bool {
        let Some(listing) = self.listings.get_mut(key) else { return false };
        if let Some(spread) = spread_ticks {
            listing.spread_ticks = spread;
        }
        if let Some(ltp) = ltp {
            let tick = listing.spec.tick_size.0;
            listing.trade_at(Price((ltp.0 / tick).round() * tick));
            self.bars.note(key, listing.ltp, Quantity::ZERO);
        }
        true
    }

    pub(super) fn add_volume(&mut self, key: &SymbolKey, quantity: Quantity) {
        if let Some(listing) = self.listings.get_mut(key) {
            listing.volume = listing.volume + quantity;
            self.bars.note(key, listing.ltp, quantity);
        }
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    #[test]
    fn the_walk_keeps_to_ticks_and_to_its_band() {
        let mut market = Market::new(SymbolSpec::defaults(), 1, true);
        let mut rng = Rng::new(42);
        for _ in 0..20_000 {
            market.step(&mut rng);
        }
        for listing in market.listings() {
            assert_eq!(listing.ltp.0 % listing.spec.tick_size.0, Decimal::ZERO, "{}", listing.spec.key);
            assert!((listing.ltp.0 - listing.spec.ltp.0).abs() <= listing.spec.ltp.0 * BAND);
            assert!(listing.low <= listing.ltp && listing.ltp <= listing.high);
            assert_ne!(listing.high, listing.low, "it never moved");
            let bars = market.bars.of(&listing.spec.key, 1, 0);
            let traded: Quantity = bars.iter().map(|bar| bar.volume).sum();
            assert!(traded == listing.volume && traded > Quantity::ZERO, "{traded}");
        }
    }

    #[test]
    fn a_set_price_is_rounded_to_the_tick() {
        let mut market = Market::new(SymbolSpec::defaults(), 2, false);
        let key = SymbolKey::new("BANKNIFTY30DEC25FUT", "NFO");
        assert!(market.set(&key, Some(Price(dec!(52010.07))), None));
        let quote = market.get(&key).unwrap().quote();
        assert_eq!(quote.ltp, Price(dec!(52010.05)));
        assert_eq!((quote.bid, quote.ask), (Price(dec!(52009.95)), Price(dec!(52010.15))));
        assert!(!market.set(&SymbolKey::new("NONE", "NFO"), Some(Price(dec!(1))), None));
    }
}
