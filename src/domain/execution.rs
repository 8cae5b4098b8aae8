//! How an entry's order is worked at the broker: sent at the market, or bid for by limit prices, one after the other.
//!
//! A `limit` plan has one price, a `progressive` one has many, each a step above the one before and none above the cap. When
//! the last has stood for its time the order is cancelled; what it left is left, or ordered once more with its limit at the
//! cap. The prices are fixed when the entry is decided and stored with its order, so that whoever leads next goes on with
//! the same ones. An exit is never worked: it has to fill.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::fault::{Bound, Checker, Fault};
use super::instrument::Instrument;
use super::money::{Price, Quantity};

/// How an instrument's entries are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// At the market.
    #[default]
    Market,
    /// At one limit price, for a time.
    Limit,
    /// At a limit price that rises step by step, in place.
    Progressive,
}

/// What becomes of the units that a plan did not buy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remainder {
    /// They are not bought.
    #[default]
    Cancel,
    /// One more order takes them at the market, with its limit at the cap.
    Market,
}

/// The figures of the plans. Percentages are of the live price at the decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionPolicy {
    /// Where a limit plan bids, in percent above the live price; below zero: under it.
    pub limit_offset_percent: Decimal,
    /// How long that bid stands, in milliseconds.
    pub limit_timeout_ms: u32,
    /// How often a progressive plan raises its bid.
    pub steps: u32,
    /// How long each of its bids stands, in milliseconds.
    pub step_ms: u32,
    /// By how much it is raised, in percent.
    pub step_percent: Decimal,
    /// No order of a plan is priced higher than this, in percent above the live price.
    pub cap_percent: Decimal,
    /// What becomes of what was not bought.
    pub remainder: Remainder,
}

impl Default for ExecutionPolicy {
    fn default() -> Self {
        Self {
            limit_offset_percent: Decimal::ZERO,
            limit_timeout_ms: 10_000,
            steps: 10,
            step_ms: 1_500,
            step_percent: dec!(0.1),
            cap_percent: dec!(2),
            remainder: Remainder::Cancel,
        }
    }
}

impl ExecutionPolicy {
    /// Every fault of the figures, each under its path below `trading`.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let (half_a_second, an_hour) = (Bound::From(dec!(500)), dec!(3_600_000));
        let mut checker = Checker::new("execution");
        checker.range("cap_percent", self.cap_percent, Bound::Above(Decimal::ZERO), dec!(20));
        checker.range("limit_offset_percent", self.limit_offset_percent, Bound::From(dec!(-20)), dec!(20));
        checker.check(
            self.limit_offset_percent <= self.cap_percent,
            "limit_offset_percent",
            format!("is {}; set it to cap_percent ({}) or less", self.limit_offset_percent, self.cap_percent),
        );
        checker.range("limit_timeout_ms", self.limit_timeout_ms.into(), half_a_second, an_hour);
        checker.range("steps", self.steps.into(), Bound::From(Decimal::ONE), dec!(100));
        checker.range("step_ms", self.step_ms.into(), half_a_second, an_hour);
        checker.range("step_percent", self.step_percent, Bound::Above(Decimal::ZERO), dec!(5));
        checker.done()
    }
}

/// The bids of an entry, as they were decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bidding {
    /// Units that were decided on: what all orders of the entry may buy together.
    pub units: Quantity,
    /// Limit prices in whole ticks, none below the one before; the first is the order's own.
    pub prices: Vec<Price>,
    /// How long each stands, in milliseconds.
    pub step_ms: u32,
    /// The limit of one more order, for what is left after the last; none leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_at: Option<Price>,
    /// When this order was decided, by the wall clock.
    pub decided_at: DateTime<Utc>,
}

impl Bidding {
    /// The bids for `units` of an instrument whose live price is `live`; none for one that is bought at the market.
    pub fn of(
        policy: &ExecutionPolicy,
        instrument: &Instrument,
        live: Price,
        units: Quantity,
        decided_at: DateTime<Utc>,
    ) -> Option<Self> {
        let above = |percent: Decimal| Price(live.0 + live.0 * percent / Decimal::ONE_HUNDRED);
        // At least a tick: a price of zero is no limit.
        let cap = instrument.tick_down(above(policy.cap_percent)).max(instrument.tick);
        let bid = |percent| instrument.tick_up(above(percent)).min(cap).max(instrument.tick);
        let (prices, step_ms) = match instrument.execution {
            Execution::Market => return None,
            Execution::Limit => (vec![bid(policy.limit_offset_percent)], policy.limit_timeout_ms),
            Execution::Progressive => {
                let steps = 0..=policy.steps;
                (steps.map(|step| bid(policy.step_percent * Decimal::from(step))).collect(), policy.step_ms)
            }
        };
        let rest_at = (policy.remainder == Remainder::Market).then_some(cap);
        Some(Self { units, prices, step_ms, rest_at, decided_at })
    }

    /// The same entry's last order, decided at the wall-clock time `at`: one bid, which stands for `patience_ms` and is
    /// followed by nothing.
    pub fn rest(&self, patience_ms: u32, at: DateTime<Utc>) -> Option<Self> {
        let prices = vec![self.rest_at?];
        Some(Self { units: self.units, prices, step_ms: patience_ms, rest_at: None, decided_at: at })
    }

    /// The price of its order.
    pub fn first(&self) -> Option<Price> {
        self.prices.first().copied()
    }

    /// How long its order is worked.
    pub fn takes(&self) -> Duration {
        Duration::from_millis(u64::from(self.step_ms)) * u32::try_from(self.prices.len()).unwrap_or(u32::MAX)
    }

    /// The bid after `elapsed`; none once the last has stood for its time.
    pub fn at(&self, elapsed: Duration) -> Option<Price> {
        let step = elapsed.as_millis() / u128::from(self.step_ms.max(1));
        self.prices.get(usize::try_from(step).ok()?).copied()
    }

    /// How far a bid that stands at `price` is: a leader that takes over goes on from there.
    pub fn reached(&self, price: Price) -> Duration {
        let steps = self.prices.iter().position(|bid| *bid >= price);
        let steps = steps.unwrap_or(self.prices.len().saturating_sub(1));
        Duration::from_millis(u64::from(self.step_ms)) * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    /// At the wall-clock time `now` it is older than it would have become by itself, and than an entry may be.
    pub fn is_stale(&self, now: DateTime<Utc>, reject_s: u32) -> bool {
        let takes = TimeDelta::from_std(self.takes()).unwrap_or(TimeDelta::MAX);
        let most = takes.checked_add(&TimeDelta::seconds(reject_s.into())).unwrap_or(TimeDelta::MAX);
        now - self.decided_at > most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::fixtures;

    fn instrument(execution: Execution, tick: Decimal) -> Instrument {
        Instrument { execution, tick: Price(tick), ..fixtures::instrument("GOLD_MINI") }
    }

    fn prices(execution: Execution, policy: &ExecutionPolicy, tick: Decimal, live: Decimal) -> Vec<Decimal> {
        let instrument = instrument(execution, tick);
        let bidding = Bidding::of(policy, &instrument, Price(live), Quantity(100), fixtures::at(0)).unwrap();
        bidding.prices.iter().map(|price| price.0).collect()
    }

    fn progressive() -> Bidding {
        let gold = instrument(Execution::Progressive, dec!(1));
        let policy = ExecutionPolicy { remainder: Remainder::Market, ..ExecutionPolicy::default() };
        Bidding::of(&policy, &gold, Price(dec!(140_000)), Quantity(100), fixtures::at(0)).unwrap()
    }

    #[test]
    fn a_limit_is_one_price_in_ticks_around_the_live_one() {
        let offset =
            |percent| ExecutionPolicy { limit_offset_percent: percent, ..ExecutionPolicy::default() };
        for (percent, tick, live, wanted) in [
            (dec!(0), dec!(1), dec!(140_000), dec!(140_000)),
            (dec!(0), dec!(1), dec!(140_000.3), dec!(140_001)),
            (dec!(0.05), dec!(1), dec!(140_001), dec!(140_072)),
            (dec!(-0.05), dec!(0.05), dec!(905.05), dec!(904.60)),
            (dec!(2), dec!(0.05), dec!(905.05), dec!(923.15)),
            // A cap between two ticks is never passed.
            (dec!(2), dec!(1), dec!(12.7), dec!(12)),
            (dec!(0), dec!(0.05), dec!(0.01), dec!(0.05)),
        ] {
            assert_eq!(
                prices(Execution::Limit, &offset(percent), tick, live),
                [wanted],
                "{percent} % of {live}"
            );
        }
    }

    #[test]
    fn a_progressive_bid_rises_by_a_step_of_the_first_price_up_to_the_cap() {
        let policy = ExecutionPolicy { steps: 4, ..ExecutionPolicy::default() };
        let bids = prices(Execution::Progressive, &policy, dec!(1), dec!(140_000));
        assert_eq!(bids, [dec!(140_000), dec!(140_140), dec!(140_280), dec!(140_420), dec!(140_560)]);
        let capped = ExecutionPolicy { cap_percent: dec!(0.25), ..policy };
        let bids = prices(Execution::Progressive, &capped, dec!(1), dec!(140_000));
        assert_eq!(bids, [dec!(140_000), dec!(140_140), dec!(140_280), dec!(140_350), dec!(140_350)]);
        // Steps below a tick add up.
        let bids = prices(Execution::Progressive, &policy, dec!(0.05), dec!(20.05));
        assert_eq!(bids, [dec!(20.05), dec!(20.10), dec!(20.10), dec!(20.15), dec!(20.15)]);
    }

    #[test]
    fn a_market_entry_is_not_bid_for() {
        let market = instrument(Execution::Market, dec!(1));
        let policy = ExecutionPolicy::default();
        assert_eq!(Bidding::of(&policy, &market, Price(dec!(100)), Quantity(1), fixtures::at(0)), None);
    }

    #[test]
    fn each_bid_stands_for_its_time_and_a_successor_goes_on_from_where_it_stands() {
        let bidding = progressive();
        let at = |ms| bidding.at(Duration::from_millis(ms)).map(|price| price.0);
        assert_eq!(at(0), Some(dec!(140_000)));
        assert_eq!(at(1_499), Some(dec!(140_000)));
        assert_eq!(at(1_500), Some(dec!(140_140)));
        assert_eq!(at(16_499), Some(dec!(141_400)));
        assert_eq!(at(16_500), None);
        assert_eq!(bidding.takes(), Duration::from_millis(16_500));
        let reached = |price| bidding.reached(Price(price)).as_millis();
        assert_eq!(reached(dec!(140_000)), 0);
        assert_eq!(reached(dec!(140_141)), 3_000, "between two bids the next one is due");
        assert_eq!(reached(dec!(140_280)), 3_000);
        assert_eq!(reached(dec!(150_000)), 15_000);
        assert_eq!(reached(dec!(1)), 0, "a book that shows nonsense");
    }

    #[test]
    fn what_is_left_is_bid_for_once_at_the_cap() {
        let bidding = progressive();
        let late = fixtures::at(600);
        let rest = bidding.rest(30_000, late).unwrap();
        assert_eq!((rest.first(), rest.takes()), (Some(Price(dec!(142_800))), Duration::from_secs(30)));
        assert_eq!((rest.units, rest.decided_at), (bidding.units, late));
        assert!(!rest.is_stale(late + TimeDelta::seconds(90), 60), "its time is its own");
        assert!(rest.is_stale(late + TimeDelta::seconds(91), 60));
        assert_eq!(rest.rest(30_000, late), None);
    }

    #[test]
    fn a_plan_is_stale_when_it_is_older_than_it_takes_and_an_entry_may_be() {
        let bidding = progressive();
        let after = |ms| fixtures::at(0) + TimeDelta::milliseconds(ms);
        assert!(!bidding.is_stale(after(76_500), 60));
        assert!(bidding.is_stale(after(76_501), 60));
        assert!(!bidding.is_stale(after(-3_600_000), 60), "a clock that was set back");
    }

    #[test]
    fn every_fault_of_the_figures_is_listed() {
        assert_eq!(ExecutionPolicy::default().faults(), []);
        let policy = ExecutionPolicy {
            limit_offset_percent: dec!(3),
            limit_timeout_ms: 0,
            steps: 0,
            step_ms: 1,
            step_percent: dec!(0),
            ..ExecutionPolicy::default()
        };
        let fields: Vec<String> = policy.faults().into_iter().map(|fault| fault.field).collect();
        let wanted = ["limit_offset_percent", "limit_timeout_ms", "steps", "step_ms", "step_percent"];
        assert_eq!(fields, wanted.map(|field| format!("execution.{field}")));
    }

    proptest! {
        #[test]
        fn no_bid_is_beyond_the_cap_below_the_one_before_or_between_two_ticks(
            live in 1i64..100_000_000, tick in prop::sample::select(vec![dec!(0.05), dec!(0.1), dec!(1), dec!(5)]),
            steps in 1u32..40, step in 1i64..500, cap in 1i64..2000
        ) {
            let live = Decimal::new(live, 2);
            let policy = ExecutionPolicy {
                steps,
                step_percent: Decimal::new(step, 2),
                cap_percent: Decimal::new(cap, 2),
                remainder: Remainder::Market,
                ..ExecutionPolicy::default()
            };
            let instrument = instrument(Execution::Progressive, tick);
            let bidding = Bidding::of(&policy, &instrument, Price(live), Quantity(1), fixtures::at(0)).unwrap();
            let most = (live + live * policy.cap_percent / dec!(100)).max(tick);
            prop_assert_eq!(bidding.prices.len(), steps as usize + 1);
            for price in bidding.prices.iter().chain(&bidding.rest_at) {
                prop_assert!(price.0 <= most && price.0 > Decimal::ZERO, "{} of at most {}", price, most);
                prop_assert_eq!(price.0 % tick, Decimal::ZERO);
            }
            prop_assert!(bidding.prices.is_sorted() && bidding.prices.last() <= bidding.rest_at.as_ref());
            for (step, price) in bidding.prices.iter().enumerate() {
                let since = Duration::from_millis(u64::from(bidding.step_ms)) * step as u32;
                prop_assert_eq!(bidding.at(since), Some(*price));
                // Of bids that are alike the first.
                prop_assert!(bidding.reached(*price) <= since);
                prop_assert_eq!(bidding.at(bidding.reached(*price)), Some(*price));
            }
        }
    }
}
