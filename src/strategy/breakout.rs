//! Session VWAP breakout: long when a bar closes above the session's VWAP by a band, out when one closes below it or the
//! session nears its end.
//!
//! It fails closed: no entry on a bar that was not watched whole, whose price was not heard of late, while the VWAP is in
//! doubt, before there are bars enough for an ATR, or without a session. An exit asks for none of that but a VWAP, and the
//! one before the close asks for nothing.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::bars::{Bar, SessionBars, Unexplained};
use super::{Observed, Outlook, Seen, Strategy, key_of};
use crate::domain::instrument::Instrument;
use crate::domain::label::{Label, Target};
use crate::domain::listing::Listing;
use crate::domain::market::Tick;
use crate::domain::money::Price;
use crate::domain::signal::{Action, Entry, Exit, Signal, SignalType};

/// Its thresholds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Thresholds {
    /// How long a bar is.
    pub bar: TimeDelta,
    /// How far above the VWAP a bar must close, in percent of it.
    pub band_percent: Decimal,
    /// How far below the VWAP the stop is, in percent of it; above zero.
    pub stop_percent: Decimal,
    /// Bars in the average true range; at least one.
    pub atr_bars: usize,
    /// How long before the session's end it is out and stays out.
    pub flat_before_close: TimeDelta,
    /// A bar whose price was heard longer than this before its end makes no entry.
    pub stale: TimeDelta,
}

/// The strategy on one instrument.
#[derive(Clone, Debug)]
pub struct Breakout {
    name: String,
    instrument: Instrument,
    listing: Listing,
    thresholds: Thresholds,
    bars: Option<SessionBars>,
    /// The last tick: what a session begins with.
    heard: Option<Tick>,
    ranges: VecDeque<Price>,
    last: Option<Bar>,
    /// The last bar is not decided yet; a former one that was not is over.
    due: bool,
    /// Why the last history that was read was of no use.
    unexplained: Option<Unexplained>,
}

// === impl Breakout ===

impl Breakout {
    /// The strategy `name` on `instrument`.
    pub fn new(name: impl Into<String>, instrument: Instrument, thresholds: Thresholds) -> Self {
        let listing = Listing::new(&instrument.exchange, &instrument.symbol);
        Self {
            name: name.into(),
            instrument,
            listing,
            thresholds,
            bars: None,
            heard: None,
            ranges: VecDeque::new(),
            last: None,
            due: false,
            unexplained: None,
        }
    }

    fn session(&mut self, session: Option<(DateTime<Utc>, DateTime<Utc>)>, now: DateTime<Utc>) {
        if self.bars.as_ref().is_some_and(|bars| bars.session().1 <= now) {
            self.bars = None;
            self.last = None;
            self.due = false;
        }
        let Some((opens, closes)) = session.filter(|(_, closes)| now < *closes) else { return };
        match &mut self.bars {
            Some(bars) if bars.session().0 == opens => bars.ends(closes),
            _ => {
                let bar = self.thresholds.bar;
                self.bars = Some(SessionBars::watch((opens, closes), bar, now, self.heard));
                self.ranges.clear();
                (self.last, self.unexplained) = (None, None);
                self.due = false;
            }
        }
    }

    fn closed(&mut self, bars: Vec<Bar>) {
        for bar in bars {
            let before = self.last.map_or(bar.open, |last| last.close);
            let range = bar.high.max(before) - bar.low.min(before);
            self.ranges.push_back(range);
            if self.ranges.len() > self.thresholds.atr_bars {
                self.ranges.pop_front();
            }
            self.last = Some(bar);
            self.due = true;
        }
    }

    /// The average true range of the last bars, once there are enough.
    fn atr(&self) -> Option<Price> {
        let bars = self.thresholds.atr_bars;
        let sum: Price = self.ranges.iter().copied().sum();
        (self.ranges.len() >= bars).then(|| Price(sum.0 / Decimal::from(bars)).rounded())
    }

    fn entry(&self, bar: &Bar, now: DateTime<Utc>) -> Option<Entry> {
        let Thresholds { bar: length, band_percent, stop_percent, stale, .. } = self.thresholds;
        let vwap = bar.vwap?;
        let atr = self.atr().filter(|atr| *atr > Price::ZERO)?;
        let watched = bar.whole && bar.closes - bar.heard <= stale && now - bar.closes < length;
        let above = Price(part(vwap, Decimal::ONE_HUNDRED + band_percent));
        if !watched || bar.close <= above {
            return None;
        }
        let stop = self.instrument.tick_down(Price(part(vwap, Decimal::ONE_HUNDRED - stop_percent)));
        (stop > Price::ZERO).then(|| Entry {
            label: Label::BASE,
            price: bar.close,
            stop,
            take_profit: None,
            atr,
            // It scales the risk by a trend's efficiency, of which this strategy knows nothing.
            er: Some(Decimal::ONE),
            supertrend: None,
            roc: None,
            suggested_lots: None,
            reason: Some(format!("closed at {}, above the session's VWAP {vwap} by the band", bar.close)),
        })
    }

    fn signal(&self, kind: SignalType, bar: &Bar, action: Action) -> Signal {
        let instrument = self.instrument.name.clone();
        Signal {
            key: key_of(&self.name, &instrument, kind, bar.closes),
            strategy: self.name.clone(),
            instrument,
            // Its age counts from the bar, whenever it is decided.
            sent_at: bar.closes,
            bar_time: bar.closes,
            action,
            extra: std::collections::BTreeMap::new(),
        }
    }
}

impl Strategy for Breakout {
    fn watches(&self) -> Option<&Listing> {
        Some(&self.listing)
    }

    fn observe(&mut self, observed: Observed<'_>, now: DateTime<Utc>) {
        match (observed, &mut self.bars) {
            (Observed::Session(session), bars) => {
                // What is over by now belongs to the session before.
                let over = bars.as_mut().map(|bars| bars.advance(now));
                self.closed(over.unwrap_or_default());
                self.session(session, now);
            }
            (Observed::Tick(tick), bars) => {
                self.heard = Some(tick);
                let over = bars.as_mut().map(|bars| bars.tick(tick));
                self.closed(over.unwrap_or_default());
            }
            (Observed::History(candles, quote), Some(bars)) => match bars.rebuild(candles, quote) {
                Ok(over) => {
                    self.ranges.clear();
                    (self.last, self.unexplained) = (None, None);
                    self.closed(over);
                }
                Err(unexplained) => self.unexplained = Some(unexplained),
            },
            (Observed::History(..), None) => {}
        }
    }

    fn is_due(&self) -> bool {
        self.due
    }

    fn decide(&mut self, seen: Seen, now: DateTime<Utc>) -> Vec<Signal> {
        if !std::mem::take(&mut self.due) {
            return Vec::new();
        }
        let (Some(bar), Some(bars)) = (self.last, &self.bars) else { return Vec::new() };
        let ends = bars.session().1 - self.thresholds.flat_before_close <= bar.closes;
        if let Some(since) = seen.exposed {
            let reason = match bar.vwap {
                _ if ends => "the session nears its end".to_owned(),
                _ if since <= bars.session().0 => "it was entered in a session that is over".to_owned(),
                Some(vwap) if bar.close < vwap => {
                    format!("closed at {}, below the session's VWAP {vwap}", bar.close)
                }
                _ => return Vec::new(),
            };
            let exit = Exit { target: Target::All, reason, price: Some(bar.close) };
            return vec![self.signal(SignalType::Exit, &bar, Action::Exit(exit))];
        }
        let entry = self.entry(&bar, now).filter(|_| seen.may_enter && !ends);
        entry
            .map(|entry| self.signal(SignalType::BaseEntry, &bar, Action::BaseEntry(entry)))
            .into_iter()
            .collect()
    }

    fn wants_history(&self) -> bool {
        self.bars.as_ref().is_some_and(|bars| bars.doubt().is_some())
    }

    fn outlook(&self) -> Outlook {
        let sentence = match &self.bars {
            None => "no session is known".to_owned(),
            Some(bars) => match (bars.doubt(), bars.vwap()) {
                (Some(doubt), _) => {
                    let history = match &self.unexplained {
                        Some(unexplained) => unexplained.to_string(),
                        None => "its history has not been read yet".to_owned(),
                    };
                    format!("the session's VWAP is not known, for {doubt}; {history}")
                }
                (None, Some(vwap)) => format!("watches {} against the session's VWAP {vwap}", self.listing),
                (None, None) => format!("waits for the first trade of {} in its session", self.listing),
            },
        };
        let vwap = self.bars.as_ref().and_then(SessionBars::vwap);
        let (close, bar_time) = (self.last.map(|bar| bar.close), self.last.map(|bar| bar.closes));
        Outlook { sentence, vwap, close, bar_time }
    }
}

fn part(price: Price, percent: Decimal) -> Decimal {
    price.0 * percent / Decimal::ONE_HUNDRED
}
