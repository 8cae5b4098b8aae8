//! Stops: where the first one stands, how it trails, and when a price reaches it. A stop never moves down.

use rust_decimal::Decimal;

use super::cause::ExitCause;
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

    /// What `price` sets off, if anything; the stop comes first.
    pub fn trigger(&self, price: Price) -> Option<Trigger> {
        if self.stop_hit(price) {
            return Some(Trigger::StopLoss(self.current_stop));
        }
        let target = self.take_profit.filter(|target| self.is_held() && price >= *target);
        target.map(Trigger::TakeProfit)
    }

    /// The prices that set nothing off: those of which [`Self::trigger`] says nothing.
    pub fn calm(&self) -> Calm {
        match self.is_held() {
            true => Calm { above: Some(self.current_stop), below: self.take_profit },
            false => Calm::ANY,
        }
    }
}

/// Prices that set nothing off: all that lie between two levels, neither of them included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calm {
    /// The level from which on downwards something happens, if there is one.
    pub above: Option<Price>,
    /// The level from which on upwards something happens, if there is one.
    pub below: Option<Price>,
}

impl Calm {
    /// No price sets anything off.
    pub const ANY: Self = Self { above: None, below: None };

    /// True of a price that sets nothing off.
    pub fn holds(&self, price: Price) -> bool {
        self.above.is_none_or(|level| price > level) && self.below.is_none_or(|level| price < level)
    }

    /// The prices that set off neither what this is of nor what `other` is of.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let below = match (self.below, other.below) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
        // Nothing is less than any level.
        Self { above: self.above.max(other.above), below }
    }
}

/// What a price set off, with the level that it reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// At or through the stop.
    StopLoss(Price),
    /// At or above the take-profit.
    TakeProfit(Price),
}

impl Trigger {
    /// Why the position is closed then.
    pub fn cause(self) -> ExitCause {
        match self {
            Self::StopLoss(_) => ExitCause::StopLoss,
            Self::TakeProfit(_) => ExitCause::TakeProfit,
        }
    }

    /// The level that was reached.
    pub fn level(self) -> Price {
        match self {
            Self::StopLoss(level) | Self::TakeProfit(level) => level,
        }
    }

    /// What operators grep for.
    pub fn tag(self) -> &'static str {
        match self {
            Self::StopLoss(_) => "SL",
            Self::TakeProfit(_) => "TP",
        }
    }

    /// How `price` stands to the level, in words: `Price 99 <= SL 100`.
    pub fn sentence(self, price: Price) -> String {
        let (price, level) = (price.0.normalize(), self.level().0.normalize());
        match self {
            Self::StopLoss(_) => format!("Price {price} <= SL {level}"),
            Self::TakeProfit(_) => format!("Price {price} >= TP {level}"),
        }
    }
}

/// True when `price` is more than `percent` away from `reference`: a gap, or a bad tick.
pub fn is_jump(reference: Price, price: Price, percent: Decimal) -> bool {
    (price.0 - reference.0).abs() * Decimal::ONE_HUNDRED > percent * reference.0
}
