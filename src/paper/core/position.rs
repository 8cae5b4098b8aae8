//! Net positions per symbol, exchange and product, made of fills only; and what they do to the account.

use rust_decimal::Decimal;

use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{Product, Side};
use crate::paper::SymbolKey;

/// A net position.
#[derive(Clone, PartialEq, Debug)]
pub struct Holding {
    /// Symbol and exchange.
    pub key: SymbolKey,
    /// Margin product; the same symbol under two products is two positions.
    pub product: Product,
    /// Units; negative when short.
    pub quantity: Quantity,
    /// Average price of what is held; zero when flat.
    pub average_price: Price,
    /// Points × units already won or lost.
    pub realised_points: Decimal,
}

impl Holding {
    pub(super) fn flat(key: SymbolKey, product: Product) -> Self {
        Self {
            key,
            product,
            quantity: Quantity::ZERO,
            average_price: Price::ZERO,
            realised_points: Decimal::ZERO,
        }
    }

    /// Books a fill: adding averages, reducing realises, crossing zero does both.
    pub(super) fn book(&mut self, side: Side, quantity: Quantity, price: Price) {
        let signed = match side {
            Side::Buy => quantity.0,
            Side::Sell => -quantity.0,
        };
        let held = self.quantity.0;
        if held == 0 || held.signum() == signed.signum() {
            let value = self.average_price.0 * Decimal::from(held.abs()) + price.0 * quantity.decimal();
            self.quantity = Quantity(held + signed);
            self.average_price = Price(value / Decimal::from(self.quantity.0.abs()));
            return;
        }
        let closed = held.abs().min(quantity.0);
        self.realised_points +=
            (price.0 - self.average_price.0) * Decimal::from(closed) * Decimal::from(held.signum());
        self.quantity = Quantity(held + signed);
        if self.quantity.0 == 0 {
            self.average_price = Price::ZERO;
        } else if quantity.0 > held.abs() {
            self.average_price = price;
        }
    }

    /// Points × units that would be won or lost at `ltp`.
    pub fn unrealised_points(&self, ltp: Price) -> Decimal {
        (ltp.0 - self.average_price.0) * self.quantity.decimal()
    }
}

/// The account, in rupees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Funds {
    /// Capital plus realised profit less blocked margin.
    pub available: Rupees,
    /// Blocked margin.
    pub utilised: Rupees,
    /// Realised profit or loss.
    pub realised: Rupees,
    /// Profit or loss of what is held, at the last prices.
    pub unrealised: Rupees,
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    fn holding(fills: &[(Side, i64, Decimal)]) -> Holding {
        let mut holding = Holding::flat(SymbolKey::new("X", "MCX"), Product::Nrml);
        for &(side, quantity, price) in fills {
            holding.book(side, Quantity(quantity), Price(price));
        }
        holding
    }

    #[test]
    fn adding_averages_and_reducing_realises() {
        let held =
            holding(&[(Side::Buy, 100, dec!(10)), (Side::Buy, 100, dec!(20)), (Side::Sell, 50, dec!(18))]);
        assert_eq!(held.quantity, Quantity(150));
        assert_eq!(held.average_price, Price(dec!(15)));
        assert_eq!(held.realised_points, dec!(150));
        assert_eq!(held.unrealised_points(Price(dec!(16))), dec!(150));
    }

    #[test]
    fn crossing_zero_closes_and_opens() {
        let held = holding(&[(Side::Buy, 100, dec!(10)), (Side::Sell, 150, dec!(12))]);
        assert_eq!(held.quantity, Quantity(-50));
        assert_eq!(held.average_price, Price(dec!(12)));
        assert_eq!(held.realised_points, dec!(200));
        // A short gains when the price falls.
        assert_eq!(held.unrealised_points(Price(dec!(11))), dec!(50));
    }
}
