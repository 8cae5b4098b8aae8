//! The signal's price against the market's: an entry whose setting has changed is refused, and a bar of another market
//! moves no stop. An EXIT is never refused.
//!
//! A stop that went up never comes down again, so a bar's close is believed only beside the market: the live price while there
//! is a fresh one, else the highest close that the position has had, which the ledger keeps over every restart and takeover. A
//! bar behind a real gap is refused only while nothing confirms it: the first bar that comes once there is a live price again
//! is judged by that price alone, however far away the highest close is.

use rust_decimal::{Decimal, dec};
use serde::Serialize;

use super::money::Price;
use super::policy::DivergencePolicy;
use super::refusal::Refusal;
use super::stops::is_jump;

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

/// What a bar's close is judged by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Market {
    /// The live price, if it is fresh.
    pub live: Option<Price>,
    /// The highest close of the position whose stop would move, its entry price before the first bar.
    pub highest_close: Price,
}

impl Market {
    /// The highest price that a stop may not reach by a bar that closed at `close`: the lower of that and the live price.
    pub fn ceiling(self, close: Price) -> Price {
        self.live.map_or(close, |live| live.min(close))
    }
}

/// Compares a bar's close with the market, in both directions: a close far below is another market's, too.
///
/// # Errors
/// `BAR_DIVERGENCE`.
pub fn judge_bar(policy: &DivergencePolicy, close: Price, market: Market) -> Result<(), Refusal> {
    let limit = policy.bar_percent;
    let reference = market.live.unwrap_or(market.highest_close);
    if !is_jump(reference, close, limit) {
        return Ok(());
    }
    let of = match market.live {
        Some(live) => format!("the live price {live}"),
        None => format!(
            "the highest close {reference}, and no live price confirms it: the first bar once there is one will count"
        ),
    };
    Err(Refusal::new(
        "BAR_DIVERGENCE",
        format!("the bar's close {close} is more than {limit} % from {of}; no stop moves by it"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(close: Decimal, live: Option<Decimal>) -> Result<(), Refusal> {
        let market = Market { live: live.map(Price), highest_close: Price(dec!(1000)) };
        judge_bar(&DivergencePolicy::default(), Price(close), market)
    }

    #[test]
    fn a_bar_is_judged_by_the_live_price_alone_while_there_is_one() {
        assert_eq!(bar(dec!(1020), Some(dec!(1000))), Ok(()));
        let beyond = bar(dec!(1020.01), Some(dec!(1000))).unwrap_err();
        assert_eq!(beyond.code, "BAR_DIVERGENCE");
        assert!(beyond.sentence.contains("1020.01 is more than 2 % from the live price 1000"), "{beyond}");
        assert!(bar(dec!(979.99), Some(dec!(1000))).is_err());
        // A gap overnight: the market is there, wherever the last close was.
        assert_eq!(bar(dec!(1201), Some(dec!(1200))), Ok(()));
        assert_eq!(bar(dec!(801), Some(dec!(800))), Ok(()));
        assert!(bar(dec!(1001), Some(dec!(1200))).is_err(), "yesterday's bar");
    }

    #[test]
    fn without_a_live_price_a_bar_is_judged_by_the_highest_close() {
        assert_eq!(bar(dec!(1020), None), Ok(()));
        assert_eq!(bar(dec!(980), None), Ok(()));
        let beyond = bar(dec!(1_000_000), None).unwrap_err();
        assert!(beyond.sentence.contains("no live price confirms it"), "{beyond}");
        assert!(bar(dec!(979.99), None).is_err());
    }

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
