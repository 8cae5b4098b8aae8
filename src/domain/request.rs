//! Requests about an order that is at the broker: its cancel, or a stop's move up; one transition table for both.
//!
//! Neither is an order: asked twice, a cancel ends the same order, and a modify changes no quantity. What became of the
//! order the broker's books say, not the answer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::order::{OrderSpec, UnknownName, named};

/// What is asked of the broker about an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// To end it.
    Cancel,
    /// To move it: the order as it is to be, of the same quantity.
    Modify(OrderSpec),
}

/// Where a request is in its life.
///
/// ```text
/// journaled ─▶ acknowledged ─▶ applied (the books show it) | void (the order ended otherwise, or shows nothing of it)
///     ├─▶ rejected | not_sent (proven)
///     └─▶ in_doubt ─▶ applied | void
/// journaled ─▶ applied | void   (the books were faster than the answer)
/// ```
///
/// A modify stays acknowledged when its order ends before the books show it: nobody can tell any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Committed to the ledger; its bytes may or may not have left.
    Journaled,
    /// The bridge took it. Says nothing about its effect.
    Acknowledged,
    /// Refused by the bridge or the broker.
    Rejected,
    /// Proven never to have reached the broker.
    NotSent,
    /// The outcome is not known; the books tell it.
    InDoubt,
    /// The books show its effect.
    Applied,
    /// It has no effect, and cannot have one any more.
    Void,
}
named!(RequestState {
    Journaled = "journaled",
    Acknowledged = "acknowledged",
    Rejected = "rejected",
    NotSent = "not_sent",
    InDoubt = "in_doubt",
    Applied = "applied",
    Void = "void",
});

impl RequestState {
    /// Says whether a request may go from `self` to `next`. The database holds the same table.
    pub fn may_become(self, next: Self) -> bool {
        use RequestState::*;
        matches!(
            (self, next),
            (Journaled, Acknowledged | Rejected | NotSent | InDoubt | Applied | Void)
                | (Acknowledged | InDoubt, Applied | Void)
        )
    }
}
