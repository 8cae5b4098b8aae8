//! Money, prices and quantities as distinct types over [`Decimal`]: no `f64` comes near money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Decimals kept when a price or an amount is stored: the scale of the ledger's numeric columns.
///
/// Whatever becomes state is rounded to it, half to even, at the step that makes it, so that memory and
/// ledger hold the same number and a recovery compares equal. Decisions on the way are not rounded.
pub const STORED_DECIMALS: u32 = 8;

macro_rules! decimal_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Decimal);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(Decimal::ZERO);

            /// Itself as the ledger stores it: [`STORED_DECIMALS`] decimals, half to even.
            pub fn rounded(self) -> Self {
                Self(self.0.round_dp(STORED_DECIMALS))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }

        impl Neg for $name {
            type Output = Self;
            fn neg(self) -> Self {
                Self(-self.0)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                Self(items.map(|item| item.0).sum())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

decimal_newtype!(
    /// A price or a difference of prices, in rupees per quoted unit (points).
    Price
);
decimal_newtype!(
    /// An amount of money in rupees.
    Rupees
);

/// A whole number of lots.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lots(pub i64);

/// An order's quantity in units, as the exchange counts them: lots × lot size.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(pub i64);

impl Lots {
    /// No lots.
    pub const ZERO: Self = Self(0);

    /// This many lots as a decimal factor.
    pub fn decimal(self) -> Decimal {
        Decimal::from(self.0)
    }

    /// The order quantity for these lots at `lot_size` units a lot.
    pub fn quantity(self, lot_size: Quantity) -> Quantity {
        Quantity(self.0 * lot_size.0)
    }
}

impl Quantity {
    /// No units.
    pub const ZERO: Self = Self(0);

    /// This quantity as a decimal factor.
    pub fn decimal(self) -> Decimal {
        Decimal::from(self.0)
    }

    /// The quantity in lots; a fraction when the broker left part of a lot.
    pub fn in_lots(self, lot_size: Quantity) -> Decimal {
        self.decimal() / lot_size.decimal()
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        Self(items.map(|item| item.0).sum())
    }
}

impl fmt::Display for Lots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
