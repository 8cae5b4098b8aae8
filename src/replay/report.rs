//! What a replay brought: per row, and in sum.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::Side;
use crate::domain::position::PositionStatus;

/// One row of the export and what became of its signal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Leg {
    /// The row: `tv-<trade>-entry` or `tv-<trade>-exit`; also the signal's key at the webhook.
    pub row: String,
    /// The trade's number in the export.
    pub trade: u64,
    /// The signal's id; none when the webhook refused the row.
    pub signal: Option<String>,
    /// Its final status, or `invalid` when the webhook refused the row.
    pub status: String,
    /// BUY for an entry, SELL for an exit.
    pub side: Side,
    /// Units filled.
    pub quantity: Quantity,
    /// Average price of what was filled.
    pub price: Option<Price>,
    /// The price in the export.
    pub wanted: Price,
    /// States of its orders, first try first.
    pub orders: Vec<String>,
    /// Why, for whatever was not executed: `CODE: sentence`.
    pub reasons: Vec<String>,
}

/// A position that the replay opened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trade {
    /// The row that opened it.
    pub row: String,
    /// `Long_1` to `Long_6`.
    pub label: String,
    /// Open, closing or closed.
    pub status: PositionStatus,
    /// Units bought.
    pub quantity: Quantity,
    /// Units still held.
    pub held: Quantity,
    /// Average price of the entry.
    pub entry_price: Price,
    /// Average price of what was sold, worked out from the realised profit; none while nothing was.
    pub exit_price: Option<Price>,
    /// Realised profit or loss, before fees.
    pub realised: Rupees,
}

/// A replay's outcome.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The instrument replayed.
    pub instrument: String,
    /// Rows played.
    pub rows: usize,
    /// Signals by status.
    pub signals: BTreeMap<String, u64>,
    /// Orders by state.
    pub orders: BTreeMap<String, u64>,
    /// Positions opened by these rows, in the order of the rows.
    pub positions: Vec<Trade>,
    /// Realised profit and loss of those positions in rupees, before fees.
    pub realised: Decimal,
    /// Every row.
    pub legs: Vec<Leg>,
    /// Wall time from the first row to the report, in milliseconds.
    pub elapsed_ms: u64,
}

impl Report {
    /// Fills in the counts from the legs and the profit from the positions.
    pub(super) fn summed(mut self) -> Self {
        self.rows = self.legs.len();
        for leg in &self.legs {
            *self.signals.entry(leg.status.clone()).or_default() += 1;
            for state in &leg.orders {
                *self.orders.entry(state.clone()).or_default() += 1;
            }
        }
        self.realised = self.positions.iter().map(|trade| trade.realised.0).sum();
        self
    }

    /// How many positions are still held.
    pub fn held(&self) -> usize {
        self.positions.iter().filter(|trade| trade.status != PositionStatus::Closed).count()
    }
}
