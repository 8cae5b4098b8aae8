//! The signal's price against the market's: an entry whose setting has changed is refused. An EXIT never is.

use rust_decimal::{Decimal, dec};
use serde::Serialize;

use super::money::Price;
use super::policy::DivergencePolicy;
use super::refusal::Refusal;

/// Which of the two limits apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A base entry.
    Base,
    /// A pyramid.
    Pyramid,
}

/// How an allowed entry stands to the live price.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Divergence {
    /// (live − signal) / signal in percent; positive when the market is above.
    pub percent: Decimal,
    /// How much more a lot risks at the live price, in percent; negative when less.
    pub risk_increase_percent: Decimal,
    /// Large enough to mention.
    pub warn: bool,
}

/// Compares an entry's price and stop with the live price; none when there is no live price to trust.
///
/// Distance counts in both directions: a price far below the signal's is another market, not a bargain.
///
/// # Errors
/// Every rule that failed: `NO_LIVE_PRICE`, `LIVE_AT_OR_BELOW_STOP`, `PRICE_DIVERGENCE`, `RISK_INCREASE`,
/// `STOP_NOT_BELOW_PRICE`.
pub fn judge(
    policy: &DivergencePolicy,
    kind: EntryKind,
    price: Price,
    stop: Price,
    live: Option<Price>,
) -> Result<Divergence, Vec<Refusal>> {
    let Some(live) = live else {
        return Err(vec![Refusal::new(
            "NO_LIVE_PRICE",
            "there is no fresh live price to check the entry against; entries wait for the feed",
        )]);
    };
    if price <= Price::ZERO || stop >= price {
        return Err(vec![Refusal::new(
            "STOP_NOT_BELOW_PRICE",
            format!("stop {stop} is not below the signal's price {price}"),
        )]);
    }
    let (limit, risk_limit) = match kind {
        EntryKind::Base => (policy.base_percent, policy.base_risk_increase_percent),
        EntryKind::Pyramid => (policy.pyramid_percent, policy.pyramid_risk_increase_percent),
    };
    let percent = (live - price).0 / price.0 * dec!(100);
    let risk_increase_percent = (live - price).0 / (price - stop).0 * dec!(100);
    let mut refusals = Vec::new();
    if live <= stop {
        refusals.push(Refusal::new(
            "LIVE_AT_OR_BELOW_STOP",
            format!("live price {live} is at or below the stop {stop}"),
        ));
    }
    if percent.abs() > limit {
        refusals.push(Refusal::new(
            "PRICE_DIVERGENCE",
            format!(
                "live price {live} is {:.2} % from the signal's {price}, more than {limit} %",
                percent.round_dp(2)
            ),
        ));
    }
    if risk_increase_percent > risk_limit {
        refusals.push(Refusal::new(
            "RISK_INCREASE",
            format!(
                "at the live price {live} a lot risks {:.2} % more than at {price}, over {risk_limit} %",
                risk_increase_percent.round_dp(2)
            ),
        ));
    }
    if refusals.is_empty() {
        Ok(Divergence { percent, risk_increase_percent, warn: percent.abs() > policy.warn_percent })
    } else {
        Err(refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(kind: EntryKind, stop: Decimal, live: Decimal) -> Vec<&'static str> {
        judge(&DivergencePolicy::default(), kind, Price(dec!(1000)), Price(stop), Some(Price(live)))
            .map_or_else(|refusals| refusals.iter().map(|refusal| refusal.code).collect(), |_| vec![])
    }

    #[test]
    fn base_and_pyramid_have_their_own_limits() {
        use EntryKind::{Base, Pyramid};
        assert_eq!(codes(Base, dec!(900), dec!(1020)), Vec::<&str>::new());
        assert_eq!(codes(Base, dec!(900), dec!(1020.01)), ["PRICE_DIVERGENCE"]);
        assert_eq!(codes(Base, dec!(900), dec!(979)), ["PRICE_DIVERGENCE"]);
        assert_eq!(codes(Pyramid, dec!(900), dec!(1010)), Vec::<&str>::new());
        assert_eq!(codes(Pyramid, dec!(900), dec!(1010.01)), ["PRICE_DIVERGENCE"]);
    }

    #[test]
    fn risk_at_the_live_price_is_bounded() {
        assert_eq!(codes(EntryKind::Base, dec!(980), dec!(1010)), Vec::<&str>::new());
        assert_eq!(codes(EntryKind::Base, dec!(980), dec!(1010.01)), ["RISK_INCREASE"]);
        assert_eq!(codes(EntryKind::Pyramid, dec!(980), dec!(1004.01)), ["RISK_INCREASE"]);
    }

    #[test]
    fn all_failed_rules_are_reported() {
        assert_eq!(
            codes(EntryKind::Base, dec!(960), dec!(960)),
            ["LIVE_AT_OR_BELOW_STOP", "PRICE_DIVERGENCE"]
        );
        assert_eq!(codes(EntryKind::Base, dec!(990), dec!(1030)), ["PRICE_DIVERGENCE", "RISK_INCREASE"]);
        let policy = DivergencePolicy::default();
        let no_price = judge(&policy, EntryKind::Base, Price(dec!(10)), Price(dec!(9)), None).unwrap_err();
        assert_eq!(no_price[0].code, "NO_LIVE_PRICE");
    }

    #[test]
    fn warns_from_half_a_percent() {
        let at = |live| {
            let (price, stop) = (Price(dec!(1000)), Price(dec!(900)));
            judge(&DivergencePolicy::default(), EntryKind::Base, price, stop, Some(Price(live))).unwrap().warn
        };
        assert!(!at(dec!(1005)));
        assert!(at(dec!(1005.01)));
        assert!(at(dec!(994)));
    }
}
