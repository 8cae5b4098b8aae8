//! Strategies: what makes signals. Pure and deterministic: what the market and the ledger say goes in, signals come out; the
//! same input twice gives the same signals.
//!
//! A strategy never orders. What it decides is an ordinary signal in the durable inbox, with a key from (strategy,
//! instrument, type, bar time), so that nothing is decided twice, whoever leads when; sizing, gates, limits, stops and the
//! journal are the engine's, as for a sender's signal. Two kinds exist: [`trend`], of which senders make the signals, and
//! [`breakout`], which watches an instrument itself. Who runs them is not known here.

pub mod bars;
pub mod breakout;
pub mod states;
pub mod trend;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::ids::SignalKey;
use crate::domain::listing::Listing;
use crate::domain::market::{Candle, Tick};
use crate::domain::money::Price;
use crate::domain::order::{UnknownName, named};
use crate::domain::signal::{Signal, SignalType, derive_key};

/// What kind of strategy it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Senders make its signals; it trades unless it is switched off.
    Webhook,
    /// Session VWAP breakout; it trades only once it is switched on.
    SessionVwap,
}
named!(Kind { Webhook = "webhook", SessionVwap = "session_vwap" });

impl Kind {
    /// Whether it trades while nobody has said.
    pub fn is_on_by_default(self) -> bool {
        self == Self::Webhook
    }
}

/// What goes in from the market.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// The time is now so late that nothing earlier is still to come, and the session that is on, or comes next, is this, as
    /// (open, close); none while nobody knows. Bars end by it.
    Session(Option<(DateTime<Utc>, DateTime<Utc>)>),
    /// A tick of the watched listing, in the order of arrival.
    Tick(Tick),
    /// The session's history so far, and the quote that was read after it.
    History(&'a [Candle], Tick),
}

/// What goes in from the ledger, as seen when bars have closed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Seen {
    /// It is switched on, and the instance trades.
    pub may_enter: bool,
    /// The bar of the oldest position that is not closed, or of an entry that may become one; none if there is neither.
    pub exposed: Option<DateTime<Utc>>,
}

/// How it sees the market, for people.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outlook {
    /// One sentence.
    pub sentence: String,
    /// The session's VWAP, in rupees per quoted unit.
    pub vwap: Option<Price>,
    /// The last bar's close.
    pub close: Option<Price>,
    /// The last bar's end.
    pub bar_time: Option<DateTime<Utc>>,
}

/// A strategy. The time is the wall clock's, and never goes back by itself: whoever runs it passes what it reads.
pub trait Strategy: Send + Sync {
    /// What it watches; none for one whose signals come from senders.
    fn watches(&self) -> Option<&Listing>;

    /// Takes in what was observed at `now`.
    fn observe(&mut self, observed: Observed<'_>, now: DateTime<Utc>);

    /// A bar has closed that is not decided yet: now it wants to be told what the ledger holds.
    fn is_due(&self) -> bool;

    /// Decides what is due.
    fn decide(&mut self, seen: Seen, now: DateTime<Utc>) -> Vec<Signal>;

    /// It cannot tell its figures without the session's history.
    fn wants_history(&self) -> bool;

    /// How it sees the market.
    fn outlook(&self) -> Outlook;
}

/// The key of what a strategy decides: once for each strategy, instrument, type and bar, whoever decides it.
pub fn key_of(strategy: &str, instrument: &str, kind: SignalType, bar_time: DateTime<Utc>) -> SignalKey {
    let id = format!("bar:{instrument}:{kind}:{}", bar_time.format("%Y-%m-%dT%H:%M:%SZ"));
    derive_key(Some(&id), strategy, instrument, kind, None, bar_time)
}
