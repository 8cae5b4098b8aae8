//! Which positions an EXIT acts on, and how much of each it may sell.
//!
//! An EXIT acts at any age, so a late one must not close what was opened after it was meant: it reaches only
//! positions entered by an earlier signal (by bar time, then by inbox order) of its own strategy. And it never
//! asks for more than is held less what other exits may already sell: a position must not flip.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::ids::PositionId;
use super::label::Target;
use super::money::Quantity;
use super::position::Position;

/// An EXIT as it came.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExitRequest<'a> {
    /// The instrument's name.
    pub instrument: &'a str,
    /// The strategy that wants out; none for every strategy's (an operator's close).
    pub strategy: Option<&'a str>,
    /// One position or all.
    pub target: Target,
    /// The bar that made it.
    pub bar_time: DateTime<Utc>,
    /// Its inbox order.
    pub seq: i64,
}

/// A sale that the EXIT asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct ExitOrder {
    /// The position.
    pub position: PositionId,
    /// Units to sell, at least 1.
    pub quantity: Quantity,
}

/// Why a named position is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Untouched {
    /// Its entry signal is not earlier than the EXIT.
    EnteredLater,
    /// Exits that are out, or in doubt, may already sell all of it.
    AlreadyExiting,
    /// Another strategy's.
    OtherStrategy,
}

/// A named position that is left alone, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Skipped {
    /// The position.
    pub position: PositionId,
    /// Why.
    pub why: Untouched,
}

/// What an EXIT does. Both empty: nothing that it names is held.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct ExitPlan {
    /// What to sell, the youngest position first: pyramids go before their base.
    pub orders: Vec<ExitOrder>,
    /// What is left alone.
    pub skipped: Vec<Skipped>,
}

/// Plans an EXIT. `outstanding` holds, by position, the units that live and in-doubt exits may still sell (a stop
/// resting at the broker included, unless it is to be modified or was confirmed cancelled).
pub fn plan(
    request: &ExitRequest<'_>,
    positions: &[Position],
    outstanding: &BTreeMap<PositionId, Quantity>,
) -> ExitPlan {
    let mut named: Vec<&Position> = positions
        .iter()
        .filter(|position| {
            position.is_held() && position.instrument == request.instrument && request.target.names(position)
        })
        .collect();
    named.sort_by_key(|position| std::cmp::Reverse((position.entry_bar_time, position.entry_signal_seq)));
    let mut plan = ExitPlan::default();
    for position in named {
        let out = outstanding.get(&position.id).copied().unwrap_or(Quantity::ZERO).max(Quantity::ZERO);
        let quantity = position.quantity - out;
        let why = if request.strategy.is_some_and(|strategy| strategy != position.strategy) {
            Untouched::OtherStrategy
        } else if (position.entry_bar_time, position.entry_signal_seq) >= (request.bar_time, request.seq) {
            Untouched::EnteredLater
        } else if quantity <= Quantity::ZERO {
            Untouched::AlreadyExiting
        } else {
            plan.orders.push(ExitOrder { position: position.id, quantity });
            continue;
        };
        plan.skipped.push(Skipped { position: position.id, why });
    }
    plan
}
