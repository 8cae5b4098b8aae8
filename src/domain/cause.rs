//! Why a position is closed. The cause decides the order's class, and so which switches may hold it back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::order::{OrderClass, UnknownName, named};

/// Why a position is on its way out; from the weakest to the strongest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// A fill that nobody wants any more.
    LateFill,
    /// An EXIT.
    Signal,
    /// Its contract nears its end.
    Expiry,
    /// An intraday position has to be gone before the broker closes it.
    SquareOff,
    /// The price reached the take-profit.
    TakeProfit,
    /// The price reached the stop.
    StopLoss,
    /// The last instance stops, and its exit policy is to flatten.
    Shutdown,
    /// An operator's word.
    Operator,
}
named!(ExitCause {
    LateFill = "late_fill",
    Signal = "signal",
    Expiry = "expiry",
    SquareOff = "square_off",
    TakeProfit = "take_profit",
    StopLoss = "stop_loss",
    Shutdown = "shutdown",
    Operator = "operator",
});

impl ExitCause {
    /// The class of the orders that it asks for.
    pub fn class(self) -> OrderClass {
        match self {
            Self::LateFill | Self::Signal => OrderClass::Exit,
            Self::Expiry | Self::SquareOff | Self::TakeProfit | Self::StopLoss => OrderClass::Protective,
            Self::Shutdown | Self::Operator => OrderClass::Operator,
        }
    }
}
