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
pub(super) struct Checker<P> {
    prefix: P,
    faults: Vec<Fault>,
}

impl<P: fmt::Display> Checker<P> {
    pub(super) fn new(prefix: P) -> Self {
        Self { prefix, faults: Vec::new() }
    }

    /// Records a fault of `field` unless `holds`.
    pub(super) fn check(&mut self, holds: bool, field: &str, message: impl Into<String>) {
        if !holds {
            self.faults.push(Fault::new(format!("{}.{field}", self.prefix), message));
        }
    }

    /// The same with a message that is only written when it is needed: recovery checks every position's row.
    pub(super) fn check_with(&mut self, holds: bool, field: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.check(false, field, message());
        }
    }

    /// `value` must be in `low..=high`, the low end excluded or not as [`Bound`] says.
    pub(super) fn range(&mut self, field: &str, value: Decimal, low: Bound, high: Decimal) {
        let above = match low {
            Bound::Above(low) => value > low,
            Bound::From(low) => value >= low,
        };
        self.check_with(above && value <= high, field, || {
            let low = match low {
                Bound::Above(low) => format!("above {low}"),
                Bound::From(low) => format!("at least {low}"),
            };
            format!("is {value}; set it {low} and at most {high}")
        });
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
