//! `[trading]`: the capital, when it may trade, and the policy's thresholds (`[trading.gates]` and so on).

use super::overlay;
use super::reader::Reader;
use crate::domain::money::Rupees;
use crate::domain::policy::TradingPolicy;

/// Capital and trading policy.
#[derive(Clone, Debug)]
pub struct Trading {
    /// The capital that the account starts with, in rupees; above zero.
    pub capital: Rupees,
    /// Accept entries outside market hours; for tests and paper trading.
    pub allow_after_market: bool,
    /// Every threshold of the trading rules.
    pub policy: TradingPolicy,
}

impl Trading {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let capital = Rupees(reader.money("trading.capital"));
        let allow_after_market = reader.flag("trading.allow_after_market", false);
        let policy: TradingPolicy = overlay::read(reader, "trading");
        for fault in policy.faults() {
            reader.refused(&format!("trading.{}", fault.field), fault.message);
        }
        Self { capital, allow_after_market, policy }
    }
}
