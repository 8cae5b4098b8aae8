mod bars;
mod breakout;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use crate::domain::market::{Candle, Tick};
use crate::domain::money::{Price, Quantity};

/// A trade as it happened: `ms` after the session's open, at `paise`, of `units`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Trade {
    pub ms: i64,
    pub paise: i64,
    pub units: i64,
}

pub fn opens() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-01-30T09:00:00+05:30").unwrap().to_utc()
}

pub fn at(ms: i64) -> DateTime<Utc> {
    opens() + TimeDelta::milliseconds(ms)
}

pub fn price(paise: i64) -> Price {
    Price(Decimal::new(paise, 2))
}

pub fn tick(ms: i64, paise: i64, volume: i64) -> Tick {
    Tick { at: at(ms), price: price(paise), volume: Quantity(volume) }
}

/// The ticks that a feed makes of trades: each with the day's total after it.
pub fn ticks(trades: &[Trade]) -> Vec<Tick> {
    let mut total = 0;
    let with_total = trades.iter().map(|trade| {
        total += trade.units;
        tick(trade.ms, trade.paise, total)
    });
    with_total.collect()
}

/// The minute candles that a history has of trades up to `ms`.
pub fn candles(trades: &[Trade], ms: i64) -> Vec<Candle> {
    let mut candles: Vec<Candle> = Vec::new();
    for trade in trades.iter().filter(|trade| trade.ms <= ms) {
        let (opens, price) = (at(trade.ms - trade.ms % 60_000), price(trade.paise));
        match candles.last_mut().filter(|candle| candle.opens == opens) {
            Some(candle) => {
                candle.high = candle.high.max(price);
                candle.low = candle.low.min(price);
                candle.close = price;
                candle.volume = candle.volume + Quantity(trade.units);
            }
            None => candles.push(Candle {
                opens,
                open: price,
                high: price,
                low: price,
                close: price,
                volume: Quantity(trade.units),
            }),
        }
    }
    candles
}
