//! TradingView strategy exports: a CSV of trades, read into a time line and into the signals that replay it.
//!
//! The file has two rows a trade, the exit's first. Columns are found by name, since the currency is part of a
//! name (`Price INR`) and TradingView renamed some over the years. Times are naive: Indian Standard Time.
//!
//! **Overlaps.** Most trades follow one another, but pyramids overlap their base, and an entry that was closed in
//! two parts is exported as two trades. Every row still becomes one signal: an entry while other trades are open
//! is a PYRAMID with the lowest free label, otherwise it is a BASE_ENTRY of `Long_1` (also when only pyramids are
//! left: `Long_1` is free then), and each exit names its own label. The gates then decide as in live trading; an
//! exit whose entry was refused finds nothing held.

mod rows;
#[cfg(test)]
mod tests;

use chrono::{DateTime, SecondsFormat, Utc};
use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::{Fault, join};
use super::label::Label;
use super::money::{Price, STORED_DECIMALS};

pub use rows::read;

/// One row: an entry or an exit.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExportLeg {
    /// When, in UTC (the file is in Indian time).
    pub time: DateTime<Utc>,
    /// Price traded at.
    pub price: Price,
    /// Size as the strategy counted it, in contracts.
    pub quantity: Decimal,
    /// The strategy's name for it, e.g. `ENTRY-43L`.
    pub signal: String,
    /// Line in the file.
    pub line: u64,
}

/// One long trade.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExportTrade {
    /// Its number in the file.
    pub number: u64,
    /// How it began.
    pub entry: ExportLeg,
    /// How it ended; none while it was open at the time of the export.
    pub exit: Option<ExportLeg>,
}

/// One step of the time line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExportEvent<'a> {
    /// The trade.
    pub trade: &'a ExportTrade,
    /// The row.
    pub leg: &'a ExportLeg,
    /// True for the trade's exit.
    pub is_exit: bool,
    /// The position it opens or closes.
    pub label: Label,
}

/// An export that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bytes are no CSV.
    #[error("the export is no readable CSV: {0}; export the strategy's list of trades again")]
    Csv(#[from] csv::Error),
    /// The rows have faults, each under `line N`.
    #[error("the export has faults: {}", join(.0))]
    Faults(Vec<Fault>),
}

/// What a replay fills in: exports name neither stop nor indicators.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayDefaults {
    /// Stop below the entry price, in percent of it.
    pub stop_percent: Decimal,
    /// ATR in percent of the price.
    pub atr_percent: Decimal,
    /// Efficiency ratio, 0 to 1.
    pub er: Decimal,
}

impl Default for ReplayDefaults {
    fn default() -> Self {
        Self { stop_percent: dec!(1), atr_percent: dec!(0.5), er: dec!(0.8) }
    }
}

/// The trades as a time line: by time, at the same time exits before entries (but no exit before its own entry),
/// then by trade number. Each event has the label of the position that it opens or closes.
///
/// # Errors
/// An entry while six trades are open already: there is no label for it.
pub fn timeline(trades: &[ExportTrade]) -> Result<Vec<ExportEvent<'_>>, ExportError> {
    let mut events: Vec<ExportEvent<'_>> = Vec::with_capacity(trades.len() * 2);
    for trade in trades {
        let event = |leg, is_exit| ExportEvent { trade, leg, is_exit, label: Label::BASE };
        events.push(event(&trade.entry, false));
        events.extend(trade.exit.as_ref().map(|exit| event(exit, true)));
    }
    events.sort_by_key(|event| {
        let instant = event.trade.entry.time == event.leg.time;
        let rank = match (event.is_exit, instant) {
            (true, false) => 0,
            (false, _) => 1,
            (true, true) => 2,
        };
        (event.leg.time, rank, event.trade.number)
    });
    let mut open: Vec<(u64, Label)> = Vec::new();
    let mut faults = Vec::new();
    for event in &mut events {
        let number = event.trade.number;
        if event.is_exit {
            if let Some(place) = open.iter().position(|(open, _)| *open == number) {
                event.label = open.swap_remove(place).1;
            }
        } else if let Some(free) = Label::all().find(|label| open.iter().all(|(_, taken)| taken != label)) {
            event.label = free;
            open.push((number, free));
        } else {
            let message = format!("trade {number} begins while six are open; there is no label for it");
            faults.push(Fault::new(format!("line {}", event.leg.line), message));
        }
    }
    if faults.is_empty() { Ok(events) } else { Err(ExportError::Faults(faults)) }
}

impl ExportEvent<'_> {
    /// The id of its signal, the same in every replay: `tv-<trade>-entry` or `tv-<trade>-exit`.
    pub fn id(&self) -> String {
        format!("tv-{}-{}", self.trade.number, if self.is_exit { "exit" } else { "entry" })
    }

    /// Its webhook payload, sent at `now`; numbers are text, so that they stay exact.
    pub fn payload(&self, instrument: &str, defaults: &ReplayDefaults, now: DateTime<Utc>) -> Value {
        let price = self.leg.price.0;
        let iso = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut payload = json!({
            "id": self.id(),
            "type": "EXIT",
            "instrument": instrument,
            "position": self.label.to_string(),
            "price": price,
            "reason": self.leg.signal,
            "bar_time": iso(self.leg.time),
            "timestamp": iso(now),
        });
        if !self.is_exit {
            let percent = |percent: Decimal| price * percent / dec!(100);
            payload["type"] = json!(if self.label.is_base() { "BASE_ENTRY" } else { "PYRAMID" });
            payload["stop"] =
                json!((price - percent(defaults.stop_percent)).round_dp(STORED_DECIMALS).normalize());
            payload["atr"] = json!(percent(defaults.atr_percent).round_dp(STORED_DECIMALS).normalize());
            payload["er"] = json!(defaults.er);
            if self.leg.quantity.is_integer() {
                payload["lots"] = json!(self.leg.quantity.normalize());
            }
        }
        payload
    }
}
