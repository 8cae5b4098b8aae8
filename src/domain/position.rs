//! One position: what is held, where it was bought, where its stop stands.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::cause::ExitCause;
use super::fault::{Bound, Checker, Fault};
use super::ids::{PositionId, SignalId};
use super::label::Label;
use super::listing::Listing;
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

/// What a broker nets: positions of one key are one holding to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct HoldingKey {
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Margin product.
    pub product: Product,
}

impl fmt::Display for HoldingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.symbol, self.exchange, self.product)
    }
}

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
    /// The price at which the profit is taken, if any.
    #[serde(default)]
    pub take_profit: Option<Price>,
    /// Highest close seen since entry.
    pub highest_close: Price,
    /// Why it is on its way out, once it is.
    #[serde(default)]
    pub exit_cause: Option<ExitCause>,
    /// Realised profit or loss so far, before charges.
    pub realised: Rupees,
    /// What its fills were charged so far.
    #[serde(default)]
    pub charges: Rupees,
    /// The signal that opened it.
    pub entry_signal: SignalId,
    /// The inbox order of that signal: an EXIT acts only on positions entered by an earlier one.
    pub entry_signal_seq: i64,
    /// The close of the bar that made that signal: compared before the inbox order.
    pub entry_bar_time: DateTime<Utc>,
    /// When its first fill was recorded.
    pub opened_at: DateTime<Utc>,
    /// Optimistic version; compared on every update.
    pub version: i64,
}

/// Highest price that is booked: with [`MOST_UNITS`] it keeps every product inside Decimal's 28 digits.
pub(crate) const MOST_PRICE: Price = Price(dec!(10_000_000_000));
/// Most units that one position holds.
pub(super) const MOST_UNITS: Quantity = Quantity(1_000_000_000);

/// What `points` are worth on `quantity` units, rounded as stored. Divides last, so that part lots stay exact.
pub(super) fn value_of_points(
    points: Decimal,
    quantity: Quantity,
    lot_size: Quantity,
    point_value: Rupees,
) -> Rupees {
    Rupees(points * quantity.decimal() * point_value.0 / lot_size.decimal()).rounded()
}

impl PositionStatus {
    /// Says whether a position may go from `self` to `next`.
    ///
    /// ```text
    /// open ⇄ closing ─▶ closed      closing ─▶ open: the exit ended with something still held
    ///   ├──────────────▶ closed     a resting stop filled at once
    ///   ◀──────────────── closed    an entry's fill came after the exit: it is a fact, and must be watched
    /// ```
    pub fn may_become(self, next: Self) -> bool {
        use PositionStatus::*;
        matches!((self, next), (Open, Closing | Closed) | (Closing, Open | Closed) | (Closed, Open))
    }
}

impl Position {
    /// Lots held now; a fraction if the broker left part of a lot.
    pub fn lots(&self) -> Decimal {
        self.quantity.in_lots(self.lot_size)
    }

    /// Risk to the stop: max(0, entry − current stop) · lots · point value.
    pub fn risk(&self) -> Rupees {
        self.value_of((self.entry_price.0 - self.current_stop.0).max(Decimal::ZERO))
    }

    /// Volatility: ATR · lots · point value.
    pub fn volatility(&self) -> Rupees {
        self.value_of(self.atr.0)
    }

    /// Margin held: lots · margin per lot.
    pub fn margin(&self) -> Rupees {
        Rupees(self.quantity.decimal() * self.margin_per_lot.0 / self.lot_size.decimal()).rounded()
    }

    /// Profit or loss of what is held, at `price`.
    pub fn unrealised(&self, price: Price) -> Rupees {
        self.value_of(price.0 - self.entry_price.0)
    }

    /// What an order of its turned over, in rupees, of which the fills' prices times their units add up to `value`.
    pub fn turnover(&self, value: Decimal) -> Rupees {
        value_of_points(value, Quantity(1), self.lot_size, self.point_value)
    }

    /// What `points` are worth on the quantity held.
    fn value_of(&self, points: Decimal) -> Rupees {
        value_of_points(points, self.quantity, self.lot_size, self.point_value)
    }

    /// What a broker nets it under.
    pub fn holding_key(&self) -> HoldingKey {
        HoldingKey { symbol: self.symbol.clone(), exchange: self.exchange.clone(), product: self.product }
    }

    /// What its price is a price of.
    pub fn listing(&self) -> Listing {
        Listing::new(&self.exchange, &self.symbol)
    }

    /// True while anything is held.
    pub fn is_held(&self) -> bool {
        self.status != PositionStatus::Closed
    }

    /// What is impossible in its figures: a stored row is checked before anything is computed from it.
    pub fn faults(&self) -> Vec<Fault> {
        let prefix = format_args!("position {}", self.id);
        let mut checker = Checker::new(prefix);
        let (zero, above_zero) = (Bound::From(Decimal::ZERO), Bound::Above(Decimal::ZERO));
        checker.check_with(self.label.parse::<Label>().is_ok(), "label", || {
            format!("is {:?}; labels are Long_1 to Long_6", self.label)
        });
        checker.range("quantity", self.quantity.decimal(), zero, MOST_UNITS.decimal());
        checker.range("entry_quantity", self.entry_quantity.decimal(), above_zero, MOST_UNITS.decimal());
        checker.check(self.quantity <= self.entry_quantity, "quantity", "is more than was bought");
        checker.check_with(
            (self.status == PositionStatus::Closed) == (self.quantity == Quantity::ZERO),
            "status",
            || {
                format!(
                    "is {} with {} units held; closed is exactly when none is",
                    self.status, self.quantity
                )
            },
        );
        checker.range("entry_price", self.entry_price.0, above_zero, MOST_PRICE.0);
        checker.range("lot_size", self.lot_size.decimal(), above_zero, MOST_UNITS.decimal());
        checker.range("point_value", self.point_value.0, above_zero, dec!(10_000_000));
        checker.range("margin_per_lot", self.margin_per_lot.0, zero, MOST_PRICE.0);
        checker.range("atr", self.atr.0, zero, MOST_PRICE.0);
        checker.range("initial_stop", self.initial_stop.0, zero, MOST_PRICE.0);
        checker.range("current_stop", self.current_stop.0, zero, MOST_PRICE.0);
        checker.check_with(self.current_stop >= self.initial_stop, "current_stop", || {
            format!(
                "is {}, below the initial stop {}; a stop never moves down",
                self.current_stop, self.initial_stop
            )
        });
        checker.range("highest_close", self.highest_close.0, zero, MOST_PRICE.0);
        checker.check_with(self.charges >= Rupees::ZERO, "charges", || {
            format!("is {}; nobody is paid for trading", self.charges)
        });
        if let Some(take_profit) = self.take_profit {
            checker.range("take_profit", take_profit.0, above_zero, MOST_PRICE.0);
        }
        checker.done()
    }
}
