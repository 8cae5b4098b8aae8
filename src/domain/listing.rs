//! A tradable symbol on its exchange: the name under which a broker sells it and gives prices of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One tradable symbol. Exact and case-sensitive, as in the bridge's contract list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listing {
    /// E.g. `MCX`.
    pub exchange: String,
    /// E.g. `GOLDM05DEC25FUT`.
    pub symbol: String,
}

impl Listing {
    /// Names `symbol` on `exchange`.
    pub fn new(exchange: impl Into<String>, symbol: impl Into<String>) -> Self {
        Self { exchange: exchange.into(), symbol: symbol.into() }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.exchange, self.symbol)
    }
}
