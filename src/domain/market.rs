//! What a market says of itself: ticks with the volume traded so far, and candles of what was.

use chrono::{DateTime, Utc};

use super::money::{Price, Quantity};

/// One observation of a listing: a live tick or a quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// When it arrived, by the wall clock.
    pub at: DateTime<Utc>,
    /// The last traded price.
    pub price: Price,
    /// Units traded since the exchange's day began: a total, not what this tick traded.
    pub volume: Quantity,
}

/// What was traded in a span of time, as a history tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candle {
    /// When the span begins.
    pub opens: DateTime<Utc>,
    /// First price.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Last price.
    pub close: Price,
    /// Units traded in it.
    pub volume: Quantity,
}
