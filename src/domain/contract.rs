//! What a contract is, by the day's data: whoever does not know it today buys none of it.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::instrument::Instrument;
use super::listing::Listing;
use super::money::{Price, Quantity};
use super::refusal::Refusal;

/// A contract's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contract {
    /// Units a lot.
    pub lot_size: Quantity,
    /// Price step.
    pub tick: Price,
    /// Largest quantity of one order, where the broker says so.
    pub freeze_qty: Option<Quantity>,
    /// Expiry day; `None` for what does not expire.
    pub expiry: Option<NaiveDate>,
}

/// The contracts that are known on a day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contracts {
    day: NaiveDate,
    known: BTreeMap<Listing, Contract>,
}

impl Contracts {
    /// None is known yet.
    pub fn new(day: NaiveDate) -> Self {
        Self { day, known: BTreeMap::new() }
    }

    /// The day they are of.
    pub fn day(&self) -> NaiveDate {
        self.day
    }

    /// The contract under this name.
    pub fn get(&self, listing: &Listing) -> Option<&Contract> {
        self.known.get(listing)
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = (&Listing, &Contract)> {
        self.known.iter()
    }

    /// Adds contracts; a later word replaces an earlier one.
    pub fn extend(&mut self, contracts: impl IntoIterator<Item = (Listing, Contract)>) {
        self.known.extend(contracts);
    }
}

/// What the day's data says of an instrument's contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It is known and as configured.
    AsConfigured,
    /// Nothing is known of it today.
    Unknown,
}

/// Judges an instrument by what is known of its contract on `today`; with `goes_on` it is traded past its expiry.
///
/// # Errors
/// `CONTRACT_CHANGED`: it is not what the configuration says, so every size would be wrong. `CONTRACT_EXPIRED`.
pub fn judge(
    contracts: Option<&Contracts>,
    instrument: &Instrument,
    today: NaiveDate,
    goes_on: bool,
) -> Result<Known, Refusal> {
    let listing = Listing::new(&instrument.exchange, &instrument.symbol);
    let known = contracts.filter(|contracts| contracts.day == today);
    let Some(contract) = known.and_then(|known| known.get(&listing)) else { return Ok(Known::Unknown) };
    if contract.lot_size != instrument.lot_size {
        return Err(Refusal::new(
            "CONTRACT_CHANGED",
            format!(
                "a lot of {listing} is {} units by the bridge's data and {} by instruments.{}: correct lot_size, point_value \
                 and margin_per_lot",
                contract.lot_size, instrument.lot_size, instrument.name
            ),
        ));
    }
    match contract.expiry {
        Some(expiry) if expiry < today && !goes_on => {
            Err(Refusal::new("CONTRACT_EXPIRED", format!("{listing} expired on {expiry}")))
        }
        _ => Ok(Known::AsConfigured),
    }
}

/// Nothing is known of a contract: there is no entry into it.
pub fn unknown(instrument: &Instrument, today: NaiveDate) -> Refusal {
    let Instrument { exchange, symbol, .. } = instrument;
    Refusal::new(
        "CONTRACT_UNKNOWN",
        format!("the bridge has not told lot, step and expiry of {exchange}:{symbol} on {today}"),
    )
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;
    use crate::domain::fixtures;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn known(lot: i64, expiry: Option<&str>) -> Contracts {
        let gold = fixtures::instrument("GOLD_MINI");
        let contract = Contract {
            lot_size: Quantity(lot),
            tick: Price(dec!(1)),
            freeze_qty: None,
            expiry: expiry.map(day),
        };
        let mut contracts = Contracts::new(day("2025-12-05"));
        contracts.extend([(Listing::new(gold.exchange, gold.symbol), contract)]);
        contracts
    }

    #[test]
    fn a_contract_counts_on_its_day_until_it_expires_and_only_as_configured() {
        let (gold, today) = (fixtures::instrument("GOLD_MINI"), day("2025-12-05"));
        for expiry in [None, Some("2025-12-05")] {
            let contracts = known(100, expiry);
            assert_eq!(judge(Some(&contracts), &gold, today, false), Ok(Known::AsConfigured));
            assert_eq!(
                judge(Some(&contracts), &gold, day("2025-12-06"), false),
                Ok(Known::Unknown),
                "another day"
            );
        }
        let code = |contracts: Contracts| judge(Some(&contracts), &gold, today, false).unwrap_err().code;
        assert_eq!(code(known(10, None)), "CONTRACT_CHANGED");
        assert_eq!(code(known(100, Some("2025-12-04"))), "CONTRACT_EXPIRED");
        assert!(judge(Some(&known(100, Some("2025-12-04"))), &gold, today, true).is_ok());
        assert_eq!(judge(None, &gold, today, false), Ok(Known::Unknown));
        let silver = fixtures::instrument("SILVER_MINI");
        assert_eq!(judge(Some(&known(100, None)), &silver, today, false), Ok(Known::Unknown));
    }
}
