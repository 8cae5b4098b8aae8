//! Fills: the only thing that opens, grows, shrinks or closes a position.
//!
//! **Rounding.** Every step rounds what it stores to [`STORED_DECIMALS`](super::money::STORED_DECIMALS), half to
//! even: the average price at each entry fill, the realised profit at each exit fill. The ledger's columns hold
//! the same scale, so a position replayed from its fills in order equals the stored one digit for digit. The
//! average is the cost of what is *held*: an entry fill after a partial exit does not change what was realised.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::ids::{PositionId, SignalId};
use super::instrument::Instrument;
use super::label::Label;
use super::money::{Price, Quantity, Rupees};
use super::position::{MOST_PRICE, MOST_UNITS, Position, PositionStatus, value_of_points};

/// A fill that cannot be booked on its position.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum FillError {
    /// Zero or negative quantity.
    #[error("fill of {0} units; a fill has at least one: check the broker's tradebook row")]
    Quantity(Quantity),
    /// Zero or negative price.
    #[error("fill at price {0}; it must be positive: check the broker's tradebook row")]
    Price(Price),
    /// More sold than held: the broker's book and ours differ.
    #[error(
        "exit fill of {filled} units on a position that holds {held}: reconcile with the broker before trading on"
    )]
    ExceedsHeld {
        /// Units filled.
        filled: Quantity,
        /// Units held.
        held: Quantity,
    },
    /// The sums leave the range of the numbers.
    #[error(
        "fill of {quantity} units at {price} overflows the position's figures: check the broker's tradebook row"
    )]
    Overflow {
        /// Units filled.
        quantity: Quantity,
        /// Price filled at.
        price: Price,
    },
}

/// What is known of a position before its first fill.
#[derive(Clone, PartialEq, Debug)]
pub struct Opening {
    /// Its identity.
    pub id: PositionId,
    /// Its label.
    pub label: Label,
    /// The strategy that opens it.
    pub strategy: String,
    /// Average true range at entry, in points.
    pub atr: Price,
    /// Its first stop.
    pub stop: Price,
    /// Where its profit is taken, if anywhere.
    pub take_profit: Option<Price>,
    /// The signal that opens it.
    pub entry_signal: SignalId,
    /// That signal's inbox order.
    pub entry_signal_seq: i64,
    /// That signal's bar.
    pub entry_bar_time: DateTime<Utc>,
}

impl Opening {
    /// The position after its first fill, `quantity` units at `price`.
    ///
    /// # Errors
    /// Quantity or price not positive, or out of range.
    pub fn filled(
        self,
        instrument: &Instrument,
        quantity: Quantity,
        price: Price,
        at: DateTime<Utc>,
    ) -> Result<Position, FillError> {
        let stop = self.stop.rounded();
        let mut position = Position {
            id: self.id,
            instrument: instrument.name.clone(),
            label: self.label.to_string(),
            strategy: self.strategy,
            symbol: instrument.symbol.clone(),
            exchange: instrument.exchange.clone(),
            product: instrument.product,
            status: PositionStatus::Open,
            quantity: Quantity::ZERO,
            entry_quantity: Quantity::ZERO,
            entry_price: Price::ZERO,
            lot_size: instrument.lot_size,
            point_value: instrument.point_value,
            margin_per_lot: instrument.margin_per_lot,
            atr: self.atr.rounded(),
            initial_stop: stop,
            current_stop: stop,
            take_profit: self.take_profit.map(Price::rounded),
            highest_close: price.rounded(),
            exit_cause: None,
            realised: Rupees::ZERO,
            charges: Rupees::ZERO,
            entry_signal: self.entry_signal,
            entry_signal_seq: self.entry_signal_seq,
            entry_bar_time: self.entry_bar_time,
            opened_at: at,
            version: 0,
        };
        position.apply_entry_fill(quantity, price)?;
        Ok(position)
    }
}

impl Position {
    /// Books a buy of `quantity` units at `price`: the position grows, its entry price is the new average cost.
    ///
    /// A closed position opens again: a fill that came after the exit is a fact and must be watched.
    ///
    /// # Errors
    /// Quantity or price not positive, or out of range; the position is unchanged then.
    pub fn apply_entry_fill(&mut self, quantity: Quantity, price: Price) -> Result<(), FillError> {
        check(quantity, price)?;
        let overflow = FillError::Overflow { quantity, price };
        let held = self.quantity + quantity;
        let bought = self.entry_quantity + quantity;
        if bought > MOST_UNITS {
            return Err(overflow);
        }
        let cost = self.entry_price.0 * self.quantity.decimal() + price.0 * quantity.decimal();
        self.entry_price = Price(cost / held.decimal()).rounded();
        self.quantity = held;
        self.entry_quantity = bought;
        if self.status == PositionStatus::Closed {
            self.status = PositionStatus::Open;
        }
        Ok(())
    }

    /// Books a sell of `quantity` units at `price` and returns the profit it realised. At zero held it is closed;
    /// a partial fill shrinks it and leaves its status.
    ///
    /// # Errors
    /// More than is held, quantity or price not positive, or out of range; the position is unchanged then.
    pub fn apply_exit_fill(&mut self, quantity: Quantity, price: Price) -> Result<Rupees, FillError> {
        check(quantity, price)?;
        if quantity > self.quantity {
            return Err(FillError::ExceedsHeld { filled: quantity, held: self.quantity });
        }
        let points = price.0 - self.entry_price.0;
        let realised = value_of_points(points, quantity, self.lot_size, self.point_value);
        let overflow = FillError::Overflow { quantity, price };
        let sum = self.realised.0.checked_add(realised.0).ok_or(overflow)?;
        self.realised = Rupees(sum);
        self.quantity = self.quantity - quantity;
        if self.quantity == Quantity::ZERO {
            self.status = PositionStatus::Closed;
        }
        Ok(realised)
    }

    /// An exit order is out: open becomes closing. False when it was not open.
    pub fn begin_exit(&mut self) -> bool {
        self.change(PositionStatus::Open, PositionStatus::Closing)
    }

    /// The exit ended without closing it (refused, cancelled, expired): closing becomes open. False when it was not.
    pub fn exit_ended(&mut self) -> bool {
        self.change(PositionStatus::Closing, PositionStatus::Open)
    }

    fn change(&mut self, from: PositionStatus, to: PositionStatus) -> bool {
        let changes = self.status == from;
        if changes {
            self.status = to;
        }
        changes
    }
}

fn check(quantity: Quantity, price: Price) -> Result<(), FillError> {
    if quantity <= Quantity::ZERO {
        return Err(FillError::Quantity(quantity));
    }
    if price.0 <= Decimal::ZERO {
        return Err(FillError::Price(price));
    }
    if quantity > MOST_UNITS || price > MOST_PRICE {
        return Err(FillError::Overflow { quantity, price });
    }
    Ok(())
}
