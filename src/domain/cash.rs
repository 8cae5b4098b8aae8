//! Money that is paid into the account or taken out of it. It changes what the account is worth, and is no performance: the
//! high-water mark and the day's opening move with it.

use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::ids::MovementId;
use super::money::Rupees;
use super::order::{UnknownName, named};
use super::portfolio::Portfolio;
use super::refusal::Refusal;

/// The code of a movement that is not booked.
pub const REFUSED: &str = "CASH_REFUSED";

/// The most that one movement moves.
const MOST: Decimal = dec!(1_000_000_000_000);
/// Banks move whole paise.
const DECIMALS: u32 = 2;

/// Which way money moves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CashKind {
    /// What the account was opened with.
    Opening,
    /// Paid in.
    Deposit,
    /// Taken out.
    Withdrawal,
}
named!(CashKind { Opening = "opening", Deposit = "deposit", Withdrawal = "withdrawal" });

/// Money that moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Movement {
    /// Given by whoever asks: the same one is booked once.
    pub id: MovementId,
    /// Which way.
    pub kind: CashKind,
    /// Rupees; below zero for a withdrawal.
    pub amount: Rupees,
}

impl Movement {
    /// What an operator asks for; `amount` is in rupees, above zero either way.
    ///
    /// # Errors
    /// What is wrong with the kind or the amount.
    pub fn asked(id: MovementId, kind: &str, amount: &str) -> Result<Self, Fault> {
        let kind = kind.parse().ok().filter(|kind| *kind != CashKind::Opening);
        let kind = kind.ok_or_else(|| Fault::new("kind", "is neither deposit nor withdrawal"))?;
        let fault = |message: &str| Fault::new("amount", format!("is {amount:?}; {message}"));
        let rupees = Decimal::from_str_exact(amount.trim())
            .map_err(|_| fault("give rupees as a number, such as 50000 or 1234.50"))?;
        if rupees <= Decimal::ZERO || rupees > MOST {
            return Err(fault(&format!("give rupees above zero and at most {MOST}")));
        }
        if rupees.normalize().scale() > DECIMALS {
            return Err(fault("give whole paise"));
        }
        let amount = Rupees(if kind == CashKind::Withdrawal { -rupees } else { rupees });
        Ok(Self { id, kind, amount })
    }

    /// Why it is not booked: no more can be taken out than is there without what is held.
    pub fn refusal(&self, portfolio: &Portfolio) -> Option<Refusal> {
        let (closed, out) = (portfolio.closed_equity(), -self.amount);
        (out > Rupees::ZERO && out > closed).then(|| {
            let (out, closed) = (out.0.normalize(), closed.0.round_dp(DECIMALS));
            Refusal::new(REFUSED, format!("₹{out} is more than the closed equity of ₹{closed}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn asked(kind: &str, amount: &str) -> Result<Rupees, String> {
        let id = MovementId(Uuid::from_u128(1));
        Movement::asked(id, kind, amount).map(|movement| movement.amount).map_err(|fault| fault.field)
    }

    #[test]
    fn an_amount_is_a_number_of_whole_paise_above_zero() {
        assert_eq!(asked("deposit", "50000"), Ok(Rupees(dec!(50000))));
        assert_eq!(asked("withdrawal", " 1234.50 "), Ok(Rupees(dec!(-1234.50))));
        assert_eq!(asked("deposit", "0.010"), Ok(Rupees(dec!(0.01))));
        for amount in
            ["0", "0.00", "-5", "", "much", "NaN", "1e5", "1,000", "0.001", "1000000000000.01", "5 000"]
        {
            assert_eq!(asked("deposit", amount), Err("amount".to_owned()), "{amount:?}");
            assert_eq!(asked("withdrawal", amount), Err("amount".to_owned()), "{amount:?}");
        }
        for kind in ["opening", "", "Deposit", "gift"] {
            assert_eq!(asked(kind, "5"), Err("kind".to_owned()), "{kind:?}");
        }
    }

    #[test]
    fn no_more_is_taken_out_than_the_closed_equity() {
        let portfolio = Portfolio {
            cash: Rupees(dec!(100)),
            realised_closed: Rupees(dec!(20.5)),
            ..Portfolio::default()
        };
        let refused = |kind, amount| {
            Movement::asked(MovementId(Uuid::from_u128(1)), kind, amount).unwrap().refusal(&portfolio)
        };
        assert_eq!(refused("withdrawal", "120.50"), None, "all of it");
        assert_eq!(refused("deposit", "1000"), None);
        let refusal = refused("withdrawal", "120.51").unwrap();
        assert_eq!(
            (refusal.code, refusal.sentence.as_str()),
            ("CASH_REFUSED", "₹120.51 is more than the closed equity of ₹120.5")
        );
        let in_debt = Portfolio { cash: Rupees(dec!(-5)), ..Portfolio::default() };
        let deposit = Movement::asked(MovementId(Uuid::from_u128(1)), "deposit", "3").unwrap();
        assert_eq!(deposit.refusal(&in_debt), None, "what is paid in is welcome");
    }
}
