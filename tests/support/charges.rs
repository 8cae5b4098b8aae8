//! Terms of charges for clusters, as a discount broker's are on MCX; and what they come to, computed apart from the product.

use rust_decimal::{Decimal, dec};

/// The terms, by environment variable.
pub fn metals() -> Vec<(&'static str, String)> {
    let terms = [
        ("BATON_CHARGES__METALS__EXCHANGE", "MCX"),
        ("BATON_CHARGES__METALS__BROKERAGE_PERCENT", "0.03"),
        ("BATON_CHARGES__METALS__BROKERAGE_MOST", "20"),
        ("BATON_CHARGES__METALS__TAX_SELL_PERCENT", "0.01"),
        ("BATON_CHARGES__METALS__EXCHANGE_PERCENT", "0.0021"),
        ("BATON_CHARGES__METALS__SEBI_PERCENT", "0.0001"),
        ("BATON_CHARGES__METALS__STAMP_BUY_PERCENT", "0.002"),
        ("BATON_CHARGES__METALS__GST_PERCENT", "18"),
    ];
    terms.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// What an order of this turnover is charged by them, in rupees.
pub fn of(side: &str, turnover: Decimal) -> Decimal {
    let brokerage = (turnover * dec!(0.0003)).min(dec!(20));
    let services = brokerage + turnover * dec!(0.000022);
    let tax = if side == "BUY" { dec!(0.00002) } else { dec!(0.0001) };
    (services * dec!(1.18) + turnover * tax).round_dp(2)
}
