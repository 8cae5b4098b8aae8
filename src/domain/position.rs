//! One position: what is held, where it was bought, where its stop stands.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ids::{PositionId, SignalId};
use super::money::{Price, Quantity, Rupees};
use super::order::{Product, UnknownName, named};

/// A position's status; it moves by fills only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionStatus {
    /// Held, no exit out.
    Open,
    /// An exit is out.
    Closing,
    /// Nothing is held any more.
    Closed,
}
named!(PositionStatus { Open = "open", Closing = "closing", Closed = "closed" });

/// A long position. Quantities are units; prices are rupees per quoted unit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Position {
    /// Its identity (UUIDv7).
    pub id: PositionId,
    /// The configured instrument, e.g. `GOLD_MINI`.
    pub instrument: String,
    /// `Long_1` (base) … `Long_6`: unique among the open positions of an instrument.
    pub label: String,
    /// The strategy that opened it.
    pub strategy: String,
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Margin product.
    pub product: Product,
    /// Open, closing or closed.
    pub status: PositionStatus,
    /// Units held now.
    pub quantity: Quantity,
    /// Units bought in all.
    pub entry_quantity: Quantity,
    /// Average price of the entry's fills.
    pub entry_price: Price,
    /// Units a lot when it was opened.
    pub lot_size: Quantity,
    /// Rupees per point per lot.
    pub point_value: Rupees,
    /// Margin a lot when it was opened.
    pub margin_per_lot: Rupees,
    /// Average true range at entry, in points.
    pub atr: Price,
    /// The stop it was opened with.
    pub initial_stop: Price,
    /// The stop now; never moves down.
    pub current_stop: Price,
    /// Highest close seen since entry.
    pub highest_close: Price,
    /// Realised profit or loss so far, before fees.
    pub realised: Rupees,
    /// The signal that opened it.
    pub entry_signal: SignalId,
    /// The inbox order of that signal: an EXIT acts only on positions entered by an earlier one.
    pub entry_signal_seq: i64,
    /// When its first fill was recorded.
    pub opened_at: DateTime<Utc>,
    /// Optimistic version; compared on every update.
    pub version: i64,
}

impl Position {
    /// Lots held now; a fraction if the broker left part of a lot.
    pub fn lots(&self) -> Decimal {
        self.quantity.in_lots(self.lot_size)
    }

    /// Risk to the stop: max(0, entry − current stop) · lots · point value.
    pub fn risk(&self) -> Rupees {
        let points = (self.entry_price.0 - self.current_stop.0).max(Decimal::ZERO);
        Rupees(points * self.lots() * self.point_value.0)
    }

    /// Volatility: ATR · lots · point value.
    pub fn volatility(&self) -> Rupees {
        Rupees(self.atr.0 * self.lots() * self.point_value.0)
    }

    /// Margin held: lots · margin per lot.
    pub fn margin(&self) -> Rupees {
        Rupees(self.lots() * self.margin_per_lot.0)
    }

    /// Profit or loss of what is held, at `price`.
    pub fn unrealised(&self, price: Price) -> Rupees {
        Rupees((price.0 - self.entry_price.0) * self.lots() * self.point_value.0)
    }
}
