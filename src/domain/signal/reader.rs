//! Takes a body's fields one by one and notes what is wrong with each: the generic half of parsing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::number::{self, shortened};
use super::raw::Fields;
use super::time as times;
use crate::domain::fault::Fault;
use crate::domain::money::Price;

/// Takes fields one by one and notes what is wrong with each.
pub(super) struct Reader<'a> {
    pub(super) values: BTreeMap<String, &'a RawValue>,
    pub(super) known: BTreeSet<&'static str>,
    pub(super) faults: Vec<Fault>,
    now: DateTime<Utc>,
    latest: DateTime<Utc>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(fields: Fields<'a>, now: DateTime<Utc>, max_future: TimeDelta) -> Self {
        let faults = fields
            .repeated
            .iter()
            .map(|name| Fault::new(name, "is given more than once; send it once"))
            .collect();
        let mut values = fields.values;
        values.retain(|_, value| value.get() != "null");
        Self { values, known: BTreeSet::new(), faults, now, latest: now + max_future }
    }

    pub(super) fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(field, message));
    }

    /// The field's JSON text; notes its absence if it is required.
    pub(super) fn raw(&mut self, field: &'static str, required: bool) -> Option<&'a str> {
        self.known.insert(field);
        let value = self.values.get(field).map(|value| value.get());
        if value.is_none() && required {
            self.fault(field, "is missing");
        }
        value
    }

    /// A text field, trimmed, control characters as spaces (PostgreSQL stores no NUL); empty counts as absent.
    pub(super) fn text(&mut self, field: &'static str, required: bool, most: usize) -> Option<String> {
        let raw = self.raw(field, required)?;
        let Ok(text) = serde_json::from_str::<String>(raw) else {
            self.fault(field, format!("must be text, got {}", shortened(raw)));
            return None;
        };
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = text.trim();
        if text.is_empty() {
            if required {
                self.fault(field, "is empty");
            }
            return None;
        }
        if text.len() > most {
            self.fault(field, format!("is {} bytes long; at most {most}", text.len()));
            return None;
        }
        Some(text.to_owned())
    }

    /// A number, or text that holds one.
    pub(super) fn decimal(&mut self, field: &'static str, required: bool) -> Option<Decimal> {
        let raw = self.raw(field, required)?;
        match decimal_of(raw) {
            Ok(number) => Some(number),
            Err(message) => {
                self.fault(field, message);
                None
            }
        }
    }

    pub(super) fn positive(&mut self, field: &'static str, required: bool) -> Option<Price> {
        let number = self.decimal(field, required)?;
        if number <= Decimal::ZERO {
            self.fault(field, format!("is {number}; it must be positive"));
            return None;
        }
        Some(Price(number))
    }

    pub(super) fn not_negative(&mut self, field: &'static str, required: bool) -> Option<Price> {
        let number = self.decimal(field, required)?;
        if number < Decimal::ZERO {
            self.fault(field, format!("is {number}; it must not be negative"));
            return None;
        }
        Some(Price(number))
    }

    pub(super) fn time(&mut self, field: &'static str, required: bool) -> Option<DateTime<Utc>> {
        let text = self.text(field, required, 64)?;
        let Some(time) = times::time(&text) else {
            self.fault(
                field,
                format!("{:?} is no time; use RFC 3339, e.g. 2025-11-28T10:30:00+05:30", shortened(&text)),
            );
            return None;
        };
        if time > self.latest {
            let ahead = (time - self.now).num_seconds();
            self.fault(field, format!("is {ahead} s in the future; check the sender's clock and time zone"));
            return None;
        }
        Some(time)
    }

    /// The fields of an object field, without nulls.
    pub(super) fn object(&mut self, field: &'static str) -> Option<BTreeMap<String, &'a RawValue>> {
        let raw = self.raw(field, true)?;
        let Ok(fields) = serde_json::from_str::<Fields<'a>>(raw) else {
            self.fault(field, format!("must be a JSON object, got {}", shortened(raw)));
            return None;
        };
        for name in &fields.repeated {
            self.fault(&format!("{field}.{name}"), "is given more than once; send it once");
        }
        Some(fields.values.into_iter().filter(|(_, value)| value.get() != "null").collect())
    }

    /// What no other reader took.
    pub(super) fn extra(&mut self) -> BTreeMap<String, String> {
        self.values
            .iter()
            .filter(|(name, _)| !self.known.contains(name.as_str()))
            .map(|(name, value)| (printable(name), value.get().to_owned()))
            .collect()
    }
}

pub(super) fn decimal_of(raw: &str) -> Result<Decimal, String> {
    if raw.starts_with('"') {
        let text: String = serde_json::from_str(raw).map_err(|_| "must be a number".to_owned())?;
        number::decimal(&text)
    } else {
        number::decimal(raw)
    }
}

/// A sender's field name without control characters: PostgreSQL stores no NUL.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
