//! Faults of input: every check goes on after the first, so that a sender or an operator mends all at once.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// One thing wrong with an input: where, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// The field's path, e.g. `price` or `GOLD_MINI.tick`; `body` for the whole.
    pub field: String,
    /// What is wrong and what is expected, one sentence without the field's name.
    pub message: String,
}

impl Fault {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Writes faults on one line, separated by semicolons.
pub fn join(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// Collects the faults of a group of settings under a common path.
pub(super) struct Checker {
    prefix: String,
    faults: Vec<Fault>,
}

impl Checker {
    pub(super) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), faults: Vec::new() }
    }

    /// Records a fault of `field` unless `holds`.
    pub(super) fn check(&mut self, holds: bool, field: &str, message: impl Into<String>) {
        if !holds {
            self.faults.push(Fault::new(format!("{}.{field}", self.prefix), message));
        }
    }

    /// `value` must be in `low..=high`, or in `low<..=high` when zero is the excluded low end.
    pub(super) fn range(&mut self, field: &str, value: Decimal, low: Bound, high: Decimal) {
        let (above, words) = match low {
            Bound::Above(low) => (value > low, format!("above {low}")),
            Bound::From(low) => (value >= low, format!("at least {low}")),
        };
        self.check(above && value <= high, field, format!("is {value}; set it {words} and at most {high}"));
    }

    pub(super) fn done(self) -> Vec<Fault> {
        self.faults
    }
}

/// The low end of an allowed range.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// Excluded.
    Above(Decimal),
    /// Included.
    From(Decimal),
}
