//! From a body's bytes to a [`Signal`], or to the list of everything that is wrong with it.
//!
//! Only the fields that a type acts on are checked, so that an EXIT is never refused for a field it does not need.
//! A body of unknown type is checked as an entry would be, to show as many faults as can be known.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::number::shortened;
use super::raw::Fields;
use super::reader::{Reader, decimal_of, printable};
use super::{Action, Entry, EodMonitor, Exit, Indicators, MarketData, Signal, SignalType, derive_key};
use crate::domain::fault::{Fault, join};
use crate::domain::instrument::{Catalog, plain_name};
use crate::domain::label::{Label, Target};
use crate::domain::money::{Lots, Price};
use crate::domain::policy::SignalPolicy;
use crate::domain::position::MOST_PRICE;

/// What a refused body was, for the answer's status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectionKind {
    /// Longer than allowed (413).
    TooLarge,
    /// Not UTF-8, or not a JSON object (400).
    Malformed,
    /// A JSON object with faults (400, or 422).
    Invalid,
}

/// A body that is no acceptable signal, with every fault found.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("signal refused: {}", join(.faults))]
pub struct Rejection {
    /// What it was.
    pub kind: RejectionKind,
    /// All faults; never empty.
    pub faults: Vec<Fault>,
}

impl Rejection {
    fn body(kind: RejectionKind, message: impl Into<String>) -> Self {
        Self { kind, faults: vec![Fault::new("body", message)] }
    }
}

/// Reads a webhook body received at `now`.
///
/// # Errors
/// All faults at once; a body that is too long, no UTF-8 or no JSON object has just that one.
pub fn parse(
    body: &[u8],
    catalog: &Catalog,
    policy: &SignalPolicy,
    now: DateTime<Utc>,
) -> Result<Signal, Rejection> {
    if body.len() > policy.max_body_bytes {
        let message = format!("is {} bytes long; send at most {}", body.len(), policy.max_body_bytes);
        return Err(Rejection::body(RejectionKind::TooLarge, message));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("is not UTF-8 at byte {}; send UTF-8", error.valid_up_to());
        Rejection::body(RejectionKind::Malformed, message)
    })?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
        Rejection::body(
            RejectionKind::Malformed,
            format!("is not a JSON object: {error}; check the alert's text"),
        )
    })?;
    let mut reader = Reader::new(fields, now, TimeDelta::seconds(policy.max_future_s.into()));
    let signal = reader.signal(catalog);
    reader.finish(signal)
}

impl<'a> Reader<'a> {
    fn finish(mut self, signal: Option<Signal>) -> Result<Signal, Rejection> {
        match signal {
            Some(signal) if self.faults.is_empty() => Ok(signal),
            _ => {
                self.faults.sort_by(|a, b| a.field.cmp(&b.field));
                Err(Rejection { kind: RejectionKind::Invalid, faults: self.faults })
            }
        }
    }

    fn signal(&mut self, catalog: &Catalog) -> Option<Signal> {
        let kind = self.kind();
        let instrument = self.instrument(catalog);
        let strategy = self.strategy();
        let sender_id = self.sender_id();
        let sent_at = self.time("timestamp", true);
        let bar_time = self.time("bar_time", false);
        self.known.insert("secret");
        let (action, target) = match kind {
            Some(SignalType::BaseEntry | SignalType::Pyramid) | None => {
                let entry = self.entry(kind);
                let target = entry.as_ref().map(|entry| Target::One(entry.label));
                let action = entry.map(|entry| match kind {
                    Some(SignalType::Pyramid) => Action::Pyramid(entry),
                    _ => Action::BaseEntry(entry),
                });
                (action, target)
            }
            Some(SignalType::Exit) => {
                let exit = self.exit();
                let target = exit.as_ref().map(|exit| exit.target);
                (exit.map(Action::Exit), target)
            }
            Some(SignalType::MarketData) => (self.market_data().map(Action::MarketData), None),
            Some(SignalType::EodMonitor) => (self.eod_monitor().map(Action::EodMonitor), None),
        };
        let extra = self.extra();
        let (kind, instrument, strategy, sent_at, action) =
            (kind?, instrument?, strategy?, sent_at?, action?);
        let bar_time = bar_time.unwrap_or_else(|| minute_of(sent_at));
        let key = derive_key(sender_id.as_deref(), &strategy, &instrument, kind, target, bar_time);
        Some(Signal { key, strategy, instrument, sent_at, bar_time, action, extra })
    }

    fn kind(&mut self) -> Option<SignalType> {
        let text = self.text("type", true, 64)?;
        let kind = text.to_ascii_uppercase().parse().ok();
        if kind.is_none() {
            let known: Vec<_> = SignalType::ALL.iter().map(|kind| kind.as_str()).collect();
            self.fault("type", format!("is {:?}; use one of {}", shortened(&text), known.join(", ")));
        }
        kind
    }

    fn instrument(&mut self, catalog: &Catalog) -> Option<String> {
        let name = self.text("instrument", true, 64)?;
        if catalog.get(&name).is_none() {
            let known: Vec<_> = catalog.iter().map(|instrument| instrument.name.as_str()).collect();
            self.fault(
                "instrument",
                format!("{:?} is not configured; known are {}", shortened(&name), known.join(", ")),
            );
            return None;
        }
        Some(name)
    }

    fn strategy(&mut self) -> Option<String> {
        if !self.values.contains_key("strategy") {
            self.known.insert("strategy");
            return Some("default".to_owned());
        }
        let name = self.text("strategy", true, 64)?;
        if !plain_name(&name) {
            self.fault("strategy", "use letters, digits, '_', '-' or '.'");
            return None;
        }
        Some(name)
    }

    /// The sender's idempotency key: text or a number, as written.
    fn sender_id(&mut self) -> Option<String> {
        let raw = self.raw("id", false)?;
        let id = if raw.starts_with('"') {
            serde_json::from_str::<String>(raw).ok()
        } else {
            Some(raw.to_owned())
        };
        match id {
            Some(id)
                if !raw.starts_with(['{', '[', 't', 'f'])
                    && (1..=200).contains(&id.len())
                    && id.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Some(id)
            }
            _ => {
                self.fault("id", "must be 1 to 200 visible ASCII characters without spaces");
                None
            }
        }
    }

    fn target(&mut self) -> Option<Target> {
        let text = self.text("position", true, 64)?;
        let target = text.parse().ok();
        if target.is_none() {
            self.fault(
                "position",
                format!("is {:?}; use Long_1 to Long_6, or ALL with EXIT", shortened(&text)),
            );
        }
        target
    }

    fn entry_label(&mut self, kind: Option<SignalType>) -> Option<Label> {
        let fault = match (kind, self.target()?) {
            (None, Target::One(label)) => return Some(label),
            (Some(SignalType::BaseEntry), Target::One(label)) if label.is_base() => return Some(label),
            (Some(SignalType::Pyramid), Target::One(label)) if !label.is_base() => return Some(label),
            (Some(SignalType::BaseEntry), _) => "must be Long_1 on a BASE_ENTRY",
            (Some(SignalType::Pyramid), _) => "must be Long_2 to Long_6 on a PYRAMID",
            _ => return None,
        };
        self.fault("position", fault);
        None
    }

    fn entry(&mut self, kind: Option<SignalType>) -> Option<Entry> {
        let label = self.entry_label(kind);
        let price = self.positive("price", true);
        let stop = self.positive("stop", true);
        if let (Some(price), Some(stop)) = (price, stop)
            && stop >= price
        {
            self.fault("stop", format!("is {stop}; on a long entry it must be below the price {price}"));
        }
        let take_profit = self.take_profit(price);
        let atr = self.not_negative("atr", true);
        let er = self.decimal("er", kind == Some(SignalType::BaseEntry));
        if er.is_some_and(|er| er < Decimal::ZERO || er > Decimal::ONE) {
            self.fault("er", "must be between 0 and 1: it scales the risk");
        }
        let supertrend = self.decimal("supertrend", false).map(Price);
        let roc = self.decimal("roc", false);
        let suggested_lots = self.lots();
        let reason = self.text("reason", false, 1000);
        Some(Entry {
            label: label?,
            price: price?,
            stop: stop?,
            take_profit,
            atr: atr?,
            er,
            supertrend,
            roc,
            suggested_lots,
            reason,
        })
    }

    /// `take_profit` as a price, or `take_profit_percent` above the entry's.
    fn take_profit(&mut self, price: Option<Price>) -> Option<Price> {
        let level = self.positive("take_profit", false);
        let percent = self.positive("take_profit_percent", false);
        if let (Some(_), Some(_)) = (level, percent) {
            self.fault("take_profit_percent", "is sent beside take_profit; send one of the two");
        }
        let price = price?;
        if let Some(level) = level.filter(|level| *level <= price) {
            self.fault(
                "take_profit",
                format!("is {level}; on a long entry it must be above the price {price}"),
            );
        }
        let by_percent = percent.map(|percent| Price(price.0 + price.0 * percent.0 / Decimal::ONE_HUNDRED));
        let (field, level) =
            if level.is_some() { ("take_profit", level) } else { ("take_profit_percent", by_percent) };
        if let Some(level) = level.filter(|level| *level > MOST_PRICE) {
            // The ledger could not keep the position that it belongs to.
            self.fault(field, format!("takes the profit at {level}; the highest price is {MOST_PRICE}"));
        }
        level.map(Price::rounded)
    }

    fn lots(&mut self) -> Option<Lots> {
        let number = self.decimal("lots", false)?;
        let lots =
            number.is_integer().then(|| i64::try_from(number).ok()).flatten().filter(|lots| *lots >= 0);
        if lots.is_none() {
            self.fault("lots", format!("is {number}; send a whole number of lots"));
        }
        lots.map(Lots)
    }

    fn exit(&mut self) -> Option<Exit> {
        let target = self.target();
        let reason = self.text("reason", true, 1000);
        let price = self.positive("price", false);
        Some(Exit { target: target?, reason: reason?, price })
    }

    fn market_data(&mut self) -> Option<MarketData> {
        let price = self.positive("price", true);
        let atr = self.not_negative("atr", true);
        let supertrend = self.decimal("supertrend", true).map(Price);
        Some(MarketData { price: price?, atr: atr?, supertrend: supertrend? })
    }

    fn eod_monitor(&mut self) -> Option<EodMonitor> {
        let price = self.positive("price", true);
        let conditions = self.conditions();
        let indicators = self.indicators();
        let position_status = self.raw("position_status", false).map(str::to_owned);
        Some(EodMonitor { price: price?, conditions: conditions?, indicators: indicators?, position_status })
    }

    fn conditions(&mut self) -> Option<BTreeMap<String, bool>> {
        let mut conditions = BTreeMap::new();
        for (name, value) in self.object("conditions")? {
            match value.get() {
                "true" | "false" => drop(conditions.insert(printable(&name), value.get() == "true")),
                other => self.fault(
                    &format!("conditions.{}", printable(&name)),
                    format!("must be true or false, got {}", shortened(other)),
                ),
            }
        }
        Some(conditions)
    }

    fn indicators(&mut self) -> Option<Indicators> {
        let values = self.object("indicators")?;
        let mut read =
            |name: &str, required: bool| match values.get(name).map(|value| decimal_of(value.get())) {
                Some(Ok(number)) => Some(number),
                Some(Err(message)) => {
                    self.fault(&format!("indicators.{name}"), message);
                    None
                }
                None => {
                    if required {
                        self.fault(&format!("indicators.{name}"), "is missing");
                    }
                    None
                }
            };
        let (rsi, ema, dc_upper, adx) =
            (read("rsi", true), read("ema", true), read("dc_upper", true), read("adx", true));
        let (er, supertrend, atr, roc) =
            (read("er", true), read("supertrend", true), read("atr", true), read("roc", false));
        if atr.is_some_and(|atr| atr < Decimal::ZERO) {
            self.fault("indicators.atr", "must not be negative");
        }
        Some(Indicators {
            rsi: rsi?,
            ema: Price(ema?),
            dc_upper: Price(dc_upper?),
            adx: adx?,
            er: er?,
            supertrend: Price(supertrend?),
            atr: Price(atr?),
            roc,
        })
    }
}

fn minute_of(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::minutes(1)).unwrap_or(time)
}
