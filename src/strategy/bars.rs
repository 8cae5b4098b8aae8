//! Bars of one session and its VWAP, built from ticks. Pure: the time comes with the ticks, or from who asks for bars that
//! are due.
//!
//! A tick carries the day's total volume, so what it traded is the difference to the total known before: adding totals up
//! is off by orders of magnitude. Totals also tell late ticks and repeats from news: within a session a total never falls.
//! Bars close by time, ticks or not; one without ticks stands at the last close.
//!
//! The VWAP is exact for what was seen, and it is *in doubt* where trades were missed at prices that nobody told: watched
//! only after the open, a gap longer than a bar in which the total grew, a total that fell and stays low. A doubt stays
//! until the session ends or its history is read ([`SessionBars::rebuild`]); meanwhile there is no VWAP.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use crate::domain::market::{Candle, Tick};
use crate::domain::money::{Price, Quantity};
use crate::domain::position::MOST_PRICE;

/// A total above this is no volume of a day, and would leave the range of the sums.
const MOST_VOLUME: Quantity = Quantity(1_000_000_000_000);
/// A history explains the day's volume if they differ by no more than this part of it.
const UNEXPLAINED: i64 = 50;

/// What was traded between two moments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// When it begins.
    pub opens: DateTime<Utc>,
    /// When it ends; not part of it any more.
    pub closes: DateTime<Utc>,
    /// First price; without ticks the last close.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Last price.
    pub close: Price,
    /// Units traded.
    pub volume: Quantity,
    /// The session's VWAP at its end; none while it is in doubt or nothing was traded.
    pub vwap: Option<Price>,
    /// It was watched from its begin to its end.
    pub whole: bool,
    /// When the price was last heard before its end.
    pub heard: DateTime<Utc>,
}

/// Why there is no VWAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Doubt {
    /// The first trades of the session were not seen.
    #[error("the session was not watched from its open")]
    LateStart,
    /// Nothing was heard for longer than a bar, and there were trades meanwhile.
    #[error("trades were missed in a gap longer than a bar")]
    Gap,
    /// The day's total fell, and stays below what was counted.
    #[error("the day's volume fell below what was counted")]
    Fell,
}

/// A history that does not explain the day's volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the history has {history} units of the day's {total}: it is no basis for a VWAP")]
pub struct Unexplained {
    /// Units in the history.
    pub history: Quantity,
    /// Units that the day has traded.
    pub total: Quantity,
}

/// Volume-weighted average price: what was paid for all units, by their number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Vwap {
    paid: Decimal,
    units: Quantity,
}

impl Vwap {
    fn add(&mut self, price: Price, units: Quantity) {
        self.paid += price.0 * units.decimal();
        self.units = self.units + units;
    }

    /// None where nothing was traded, as of an index.
    fn price(&self) -> Option<Price> {
        (self.units > Quantity::ZERO).then(|| Price(self.paid / self.units.decimal()).rounded())
    }
}

/// The bar that is being made.
#[derive(Clone, Copy, Debug)]
struct Forming {
    opens: DateTime<Utc>,
    prices: Option<Prices>,
    volume: Quantity,
    whole: bool,
}

#[derive(Clone, Copy, Debug)]
struct Prices {
    open: Price,
    high: Price,
    low: Price,
    close: Price,
}

impl Prices {
    fn at(price: Price) -> Self {
        Self { open: price, high: price, low: price, close: price }
    }

    fn take(&mut self, price: Price) {
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.close = price;
    }
}

/// One session of one listing, watched.
#[derive(Clone, Debug)]
pub struct SessionBars {
    opens: DateTime<Utc>,
    closes: DateTime<Utc>,
    length: TimeDelta,
    vwap: Vwap,
    doubt: Option<Doubt>,
    /// The day's total that is accounted for; none before anything was heard.
    total: Option<Quantity>,
    /// Something of this session was counted: from here on the total only rises.
    begun: bool,
    /// When something was heard last; the open, if it was watched and nothing was heard yet.
    heard: Option<DateTime<Utc>>,
    /// The last price of this session.
    price: Option<Price>,
    forming: Forming,
}

// === impl SessionBars ===

impl SessionBars {
    /// Watches the session from `opens` to `closes` from `now` on, in bars of `length`, which begin at the open. `before` is
    /// what was heard last before the session, if anything.
    pub fn watch(
        (opens, closes): (DateTime<Utc>, DateTime<Utc>),
        length: TimeDelta,
        now: DateTime<Utc>,
        before: Option<Tick>,
    ) -> Self {
        let watched = now <= opens;
        let forming = Forming {
            opens: begin_of(opens, length, now.max(opens)),
            prices: None,
            volume: Quantity::ZERO,
            whole: watched,
        };
        Self {
            opens,
            closes,
            length,
            vwap: Vwap::default(),
            doubt: None,
            total: before.filter(|_| watched).map(|tick| tick.volume),
            begun: false,
            heard: watched.then_some(opens),
            price: None,
            forming,
        }
    }

    /// When the session begins and ends.
    pub fn session(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        (self.opens, self.closes)
    }

    /// The session ends at another time than was known.
    pub fn ends(&mut self, closes: DateTime<Utc>) {
        self.closes = closes;
    }

    /// Why there is no VWAP, if it is in doubt.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// The session's VWAP so far, rounded as prices are stored; none while it is in doubt or nothing was traded.
    pub fn vwap(&self) -> Option<Price> {
        self.vwap.price().filter(|_| self.doubt.is_none())
    }

    /// Takes an observation; returns the bars that were over before it. One that is late, impossible or outside of the
    /// session changes nothing else.
    pub fn tick(&mut self, tick: Tick) -> Vec<Bar> {
        let over = self.advance(tick.at);
        let possible = tick.price > Price::ZERO
            && tick.price <= MOST_PRICE
            && (Quantity::ZERO..=MOST_VOLUME).contains(&tick.volume);
        match possible && tick.at < self.closes {
            true if tick.at >= self.opens => self.count(tick),
            // What was traded before belongs to another session.
            true if !self.begun => self.total = Some(tick.volume),
            _ => {}
        }
        over
    }

    /// The bars that are over at `now`.
    pub fn advance(&mut self, now: DateTime<Utc>) -> Vec<Bar> {
        let mut over = Vec::new();
        while self.forming.opens < self.closes && self.end_of_forming() <= now {
            over.extend(self.close());
        }
        over
    }

    fn count(&mut self, tick: Tick) {
        let silent = self.heard.is_none_or(|heard| tick.at - heard > self.length);
        if self.heard.is_some_and(|heard| tick.at < heard) {
            return;
        }
        let traded = match self.total {
            // Nothing of it was missed, or everything.
            None if self.heard.is_none() && tick.volume > Quantity::ZERO => {
                self.doubt = Some(Doubt::LateStart);
                Quantity::ZERO
            }
            None => tick.volume,
            Some(total) if tick.volume >= total => tick.volume - total,
            // The total of the day before, until now.
            Some(_) if !self.begun => tick.volume,
            Some(_) => {
                if silent {
                    self.doubt = Some(Doubt::Fell);
                }
                return;
            }
        };
        if traded > Quantity::ZERO && silent {
            self.doubt = Some(Doubt::Gap);
        }
        self.begun |= self.total.is_none() || traded > Quantity::ZERO;
        self.total = Some(tick.volume);
        self.heard = Some(tick.at);
        self.price = Some(tick.price);
        self.vwap.add(tick.price, traded);
        let forming = &mut self.forming;
        forming.prices.get_or_insert(Prices::at(tick.price)).take(tick.price);
        forming.volume = forming.volume + traded;
    }

    /// Counts the session anew from its history up to `tick`, which is the quote that was read after it; returns the bars
    /// that were over by then. None of them, nor the one in progress, counts as watched whole.
    ///
    /// Units of a candle count at its typical price, (high + low + close) / 3; what was traded since the last candle counts
    /// at the quote's.
    ///
    /// # Errors
    /// The candles and the day's total differ by more than 2 %: then nothing has changed.
    pub fn rebuild(&mut self, candles: &[Candle], tick: Tick) -> Result<Vec<Bar>, Unexplained> {
        let history: Vec<&Candle> = candles
            .iter()
            .filter(|candle| self.opens <= candle.opens && candle.opens <= tick.at && is_sound(candle))
            .collect();
        let units: Quantity = history.iter().map(|candle| candle.volume).sum();
        let rest = tick.volume - units;
        if rest.0.abs().saturating_mul(UNEXPLAINED) > tick.volume.0.max(units.0) {
            return Err(Unexplained { history: units, total: tick.volume });
        }
        let whole = SessionBars::watch((self.opens, self.closes), self.length, self.opens, None);
        let mut anew = SessionBars { begun: true, total: Some(tick.volume), ..whole };
        let mut over = Vec::new();
        for candle in history {
            over.extend(anew.advance(candle.opens));
            anew.fold(candle);
        }
        over.extend(anew.advance(tick.at));
        over.iter_mut().for_each(|bar| bar.whole = false);
        anew.vwap.add(tick.price, rest.max(Quantity::ZERO));
        anew.forming.whole = false;
        anew.heard = Some(tick.at);
        anew.price = Some(tick.price);
        *self = anew;
        Ok(over)
    }

    fn fold(&mut self, candle: &Candle) {
        let typical = Price((candle.high.0 + candle.low.0 + candle.close.0) / Decimal::from(3));
        self.vwap.add(typical, candle.volume);
        self.heard = Some(candle.opens);
        self.price = Some(candle.close);
        let prices = self.forming.prices.get_or_insert(Prices::at(candle.open));
        for price in [candle.high, candle.low, candle.close] {
            prices.take(price);
        }
        self.forming.volume = self.forming.volume + candle.volume;
    }

    fn end_of_forming(&self) -> DateTime<Utc> {
        (self.forming.opens + self.length).min(self.closes)
    }

    /// Ends the bar in progress; none if no price of this session is known yet.
    fn close(&mut self) -> Option<Bar> {
        let closes = self.end_of_forming();
        let next = Forming { opens: closes, prices: None, volume: Quantity::ZERO, whole: true };
        let done = std::mem::replace(&mut self.forming, next);
        let (price, heard) = (self.price?, self.heard?);
        let Prices { open, high, low, close } = done.prices.unwrap_or(Prices::at(price));
        let (volume, vwap) = (done.volume, self.vwap());
        Some(Bar {
            opens: done.opens,
            closes,
            open,
            high,
            low,
            close,
            volume,
            vwap,
            whole: done.whole,
            heard,
        })
    }
}

/// The begin of the bar that holds `now`.
fn begin_of(opens: DateTime<Utc>, length: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    let since = (now - opens).num_milliseconds();
    let length = length.num_milliseconds().max(1);
    opens + TimeDelta::milliseconds(since - since % length)
}

fn is_sound(candle: &Candle) -> bool {
    let prices = Price::ZERO < candle.low
        && candle.low <= candle.open.min(candle.close)
        && candle.open.max(candle.close) <= candle.high
        && candle.high <= MOST_PRICE;
    prices && (Quantity::ZERO..=MOST_VOLUME).contains(&candle.volume)
}
