//! Signals: what a strategy's alert asks for, read from a webhook's raw body.
//!
//! [`parse`](parse()) goes on after the first fault and reports all of them, so that a sender mends an alert in one go.
//! Numbers are read from their text and never pass through `f64`: serde_json's own number keeps an `f64` unless
//! `arbitrary_precision` is on, and that feature would change every serde_json number in the whole build (and
//! make numbers look like maps to any other deserializer); so the fields are taken as raw JSON text instead.
//!
//! Kept [`Signal`]s are serde round-trippable (decimals as text), for the inbox's `jsonb`.

mod key;
mod number;
mod parse;
mod raw;
mod reader;
mod time;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ids::SignalKey;
use super::label::{Label, Target};
use super::money::{Lots, Price};
use super::order::{UnknownName, named};

pub use key::derive_key;
pub use parse::{Rejection, RejectionKind, parse};
pub use raw::{redacted, secret_in_body};
pub(super) use time::from_ist;

use std::fmt;
use std::str::FromStr;

/// The kind of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SignalType {
    /// Opens `Long_1`.
    BaseEntry,
    /// Adds `Long_2` to `Long_6`.
    Pyramid,
    /// Closes one position or all of an instrument.
    Exit,
    /// A bar's close: moves trailing stops.
    MarketData,
    /// Indicators shortly before the close.
    EodMonitor,
}
named!(SignalType {
    BaseEntry = "BASE_ENTRY",
    Pyramid = "PYRAMID",
    Exit = "EXIT",
    MarketData = "MARKET_DATA",
    EodMonitor = "EOD_MONITOR",
});

impl SignalType {
    /// True for what buys: base entries and pyramids.
    pub fn opens(self) -> bool {
        matches!(self, Self::BaseEntry | Self::Pyramid)
    }
}

/// One accepted signal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Signal {
    /// Its idempotency key.
    pub key: SignalKey,
    /// The strategy that sent it; `default` when it named none.
    pub strategy: String,
    /// The configured instrument's name.
    pub instrument: String,
    /// When it was sent: decides its age, never its key.
    pub sent_at: DateTime<Utc>,
    /// Close of the bar that made it; the minute of `sent_at` when it named none.
    pub bar_time: DateTime<Utc>,
    /// What it asks for.
    pub action: Action,
    /// Fields that this version does not know, by name, as their JSON text: kept, ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

/// What a signal asks for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// Open the base position; its label is `Long_1`.
    BaseEntry(Entry),
    /// Add a pyramid; its label is `Long_2` to `Long_6`.
    Pyramid(Entry),
    /// Close positions.
    Exit(Exit),
    /// A bar closed.
    MarketData(MarketData),
    /// Indicators shortly before the close.
    EodMonitor(EodMonitor),
}

/// A long entry, base or pyramid. Prices are rupees per quoted unit; the stop is below the price.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The position it opens.
    pub label: Label,
    /// The price it was made at.
    pub price: Price,
    /// Its protective stop.
    pub stop: Price,
    /// Where to take the profit, if anywhere; above the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_profit: Option<Price>,
    /// Average true range in points; not negative.
    pub atr: Price,
    /// Efficiency ratio, 0 to 1; always there on a base entry.
    pub er: Option<Decimal>,
    /// The supertrend line.
    pub supertrend: Option<Price>,
    /// Rate of change, in percent.
    pub roc: Option<Decimal>,
    /// The sender's suggestion; never the size used.
    pub suggested_lots: Option<Lots>,
    /// Why, in the sender's words.
    pub reason: Option<String>,
}

/// A request to close.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Exit {
    /// What to close.
    pub target: Target,
    /// Why, in the sender's words.
    pub reason: String,
    /// The price it was made at, if given; it never blocks the exit.
    pub price: Option<Price>,
}

/// A bar's close.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MarketData {
    /// The bar's close.
    pub price: Price,
    /// Average true range in points.
    pub atr: Price,
    /// The supertrend line.
    pub supertrend: Price,
}

/// Indicators shortly before the session's close.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EodMonitor {
    /// The last price.
    pub price: Price,
    /// Named conditions of the strategy and whether each holds.
    pub conditions: BTreeMap<String, bool>,
    /// The indicators' values.
    pub indicators: Indicators,
    /// The sender's view of its position, as JSON text; informational.
    pub position_status: Option<String>,
}

/// Indicator values of an [`EodMonitor`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Indicators {
    /// Relative strength index.
    pub rsi: Decimal,
    /// Exponential moving average.
    pub ema: Price,
    /// Upper Donchian channel.
    pub dc_upper: Price,
    /// Average directional index.
    pub adx: Decimal,
    /// Efficiency ratio.
    pub er: Decimal,
    /// The supertrend line.
    pub supertrend: Price,
    /// Average true range in points.
    pub atr: Price,
    /// Rate of change, in percent.
    pub roc: Option<Decimal>,
}

impl Signal {
    /// The kind of this signal.
    pub fn kind(&self) -> SignalType {
        match self.action {
            Action::BaseEntry(_) => SignalType::BaseEntry,
            Action::Pyramid(_) => SignalType::Pyramid,
            Action::Exit(_) => SignalType::Exit,
            Action::MarketData(_) => SignalType::MarketData,
            Action::EodMonitor(_) => SignalType::EodMonitor,
        }
    }

    /// The entry, if it is one.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.action {
            Action::BaseEntry(entry) | Action::Pyramid(entry) => Some(entry),
            _ => None,
        }
    }
}
