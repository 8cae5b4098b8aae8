//! Why a decision went against a signal: a stable code for machines, a sentence for people.

use std::fmt;

use serde::Serialize;

/// One reason not to act.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refusal {
    /// Stable name in SCREAMING_SNAKE case, e.g. `RISK_LIMIT`.
    pub code: &'static str,
    /// One sentence with the figures that decided.
    pub sentence: String,
}

impl Refusal {
    /// A refusal with its code and sentence.
    pub fn new(code: &'static str, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.sentence)
    }
}
