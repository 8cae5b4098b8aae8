//! Stops: where the first one stands, and how it trails. A stop never moves down.

use rust_decimal::Decimal;

use super::instrument::Instrument;
use super::money::Price;
use super::policy::InitialStop;
use super::position::Position;

/// The first stop of an entry at `entry`, never below zero. The tighter of two is the higher.
pub fn initial_stop(
    policy: InitialStop,
    instrument: &Instrument,
    entry: Price,
    signal_stop: Price,
    atr: Price,
) -> Price {
    let by_atr = Price(entry.0 - instrument.atr_initial * atr.0);
    let stop = match policy {
        InitialStop::Tighter => by_atr.max(signal_stop),
        InitialStop::Signal => signal_stop,
        InitialStop::Atr => by_atr,
    };
    stop.max(Price::ZERO).rounded()
}

impl Position {
    /// Moves the stop up to `stop`; true when it moved. A lower one changes nothing.
    pub fn raise_stop(&mut self, stop: Price) -> bool {
        let stop = stop.rounded();
        let raised = stop > self.current_stop;
        if raised {
            self.current_stop = stop;
        }
        raised
    }

    /// Takes a bar's close: the highest close follows it, the stop trails `multiple` ATRs below the highest close.
    /// True when the stop moved.
    pub fn trail(&mut self, close: Price, atr: Price, multiple: Decimal) -> bool {
        self.highest_close = self.highest_close.max(close.rounded());
        self.raise_stop(Price(self.highest_close.0 - multiple * atr.0))
    }

    /// True when `price` is at or through the stop.
    pub fn stop_hit(&self, price: Price) -> bool {
        self.is_held() && price <= self.current_stop
    }
}
