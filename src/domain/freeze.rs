//! Freeze quantities: an exchange takes no order of more units, so what is more goes in several, each of whole lots.

use super::contract::Contracts;
use super::instrument::Instrument;
use super::listing::Listing;
use super::money::Quantity;

/// Most units of one order of a contract: the smaller of what is configured and what the newest contract data says; none where
/// neither sets a limit. Data of another day counts, too: an order that is smaller than it has to be is taken as well.
pub fn freeze(
    instrument: Option<&Instrument>,
    contracts: Option<&Contracts>,
    listing: &Listing,
) -> Option<Quantity> {
    let configured = instrument.and_then(|instrument| instrument.freeze_quantity);
    let told =
        contracts.and_then(|contracts| contracts.get(listing)).and_then(|contract| contract.freeze_qty);
    configured.into_iter().chain(told).min()
}

/// The largest order in whole lots of `lot` units that `freeze` allows. One lot at least: what is held has to be sold somehow,
/// and a limit below a lot is a mistake that the broker's own word ends.
pub fn largest(freeze: Quantity, lot: Quantity) -> Quantity {
    let lot = lot.0.max(1);
    Quantity((freeze.0 / lot).max(1) * lot)
}

/// Units of the next order when so many are to be sold: all of them, or the largest order there can be.
pub fn slice(units: Quantity, freeze: Option<Quantity>, lot: Quantity) -> Quantity {
    match freeze {
        Some(freeze) if units > freeze => units.min(largest(freeze, lot)),
        _ => units,
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use proptest::prelude::*;
    use rust_decimal::dec;

    use super::*;
    use crate::domain::contract::Contract;
    use crate::domain::fixtures;
    use crate::domain::money::Price;

    #[test]
    fn the_smaller_of_configuration_and_contract_data_holds() {
        let bank = fixtures::instrument("BANK_NIFTY");
        let listing = Listing::new(&bank.exchange, &bank.symbol);
        let told = |freeze: Option<i64>| {
            let mut contracts = Contracts::new(NaiveDate::from_ymd_opt(2025, 11, 25).unwrap());
            let contract = Contract {
                lot_size: bank.lot_size,
                tick: Price(dec!(0.05)),
                freeze_qty: freeze.map(Quantity),
                expiry: None,
            };
            contracts.extend([(listing.clone(), contract)]);
            contracts
        };
        let of = |instrument, freeze| super::freeze(instrument, Some(&told(freeze)), &listing);
        assert_eq!(of(Some(&bank), Some(900)), Some(Quantity(600)), "as configured");
        assert_eq!(of(Some(&bank), Some(300)), Some(Quantity(300)), "as told");
        assert_eq!(of(Some(&bank), None), Some(Quantity(600)));
        assert_eq!(of(None, Some(900)), Some(Quantity(900)), "an instrument that is not configured any more");
        assert_eq!(of(None, None), None);
        assert_eq!(super::freeze(Some(&bank), None, &listing), Some(Quantity(600)), "nothing is known yet");
    }

    #[test]
    fn an_order_is_of_whole_lots() {
        // NIFTY: 27 lots of 65.
        let of = |units, freeze: i64, lot| slice(Quantity(units), Some(Quantity(freeze)), Quantity(lot)).0;
        assert_eq!(of(3_000, 1_800, 65), 1_755);
        assert_eq!(of(1_245, 1_800, 65), 1_245, "what is left");
        assert_eq!(of(1_790, 1_800, 65), 1_790, "a broken lot goes with the rest where it may");
        assert_eq!(of(600, 600, 30), 600);
        assert_eq!(of(601, 600, 30), 600);
        assert_eq!(of(100, 10, 65), 65, "a lot at least");
        assert_eq!(of(40, 10, 65), 40, "and no more than there is");
        assert_eq!(slice(Quantity(9_999), None, Quantity(65)), Quantity(9_999));
    }

    proptest! {
        // R: B8
        #[test]
        fn slices_are_within_the_limit_and_add_up_to_what_is_held(
            held in 1i64..100_000, freeze in 1i64..5_000, lot in 1i64..2_500, partly in prop::collection::vec(1i64..5_000, 0..8),
        ) {
            let most = Quantity(freeze.max(lot));
            let (mut left, mut sold, mut orders) = (held, 0, 0);
            let mut partly = partly.into_iter();
            while left > 0 {
                let slice = slice(Quantity(left), Some(Quantity(freeze)), Quantity(lot));
                prop_assert!(slice.0 > 0 && slice.0 <= left && slice <= most);
                prop_assert!(slice.0 == left || slice.0 % lot == 0, "whole lots until the last");
                // Some are filled in part and cancelled: the next is made of what is left then.
                let filled = partly.next().map_or(slice.0, |units| units.min(slice.0));
                (left, sold, orders) = (left - filled, sold + filled, orders + 1);
            }
            prop_assert_eq!(sold, held);
            prop_assert!(orders <= 8 + (held + largest(Quantity(freeze), Quantity(lot)).0 - 1) / largest(Quantity(freeze), Quantity(lot)).0);
        }
    }
}
