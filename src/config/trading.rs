//! `[trading]`: the capital and when it may trade.

use crate::domain::money::Rupees;

use super::reader::Reader;

/// Capital and trading policy.
#[derive(Clone, Debug)]
pub struct Trading {
    /// The capital that the account starts with, in rupees; above zero.
    pub capital: Rupees,
    /// Accept entries outside market hours; for tests and paper trading.
    pub allow_after_market: bool,
}

impl Trading {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let capital = Rupees(reader.money("trading.capital"));
        let allow_after_market = reader.flag("trading.allow_after_market", false);
        Self { capital, allow_after_market }
    }
}
