//! The account's limits. A hit one refuses entries for the rest of the day; the ledger latches it, so that
//! neither a recovery of the price nor a restart lifts it. Only the number of open positions is not latched: it holds
//! while they are open. Exits are never limited.

use chrono::NaiveDate;
use rust_decimal::{Decimal, dec};

use super::money::Rupees;
use super::policy::AccountLimits;
use super::refusal::Refusal;

/// The code of too many orders in a day.
pub const ORDERS_A_DAY: &str = "MAX_ORDERS_PER_DAY";

/// Every code, in the order of the checks.
pub const CODES: [&str; 6] = [
    "MAX_DAILY_LOSS",
    "MAX_DAILY_LOSS_PERCENT",
    "MAX_DRAWDOWN",
    "MAX_OPEN_POSITIONS",
    ORDERS_A_DAY,
    "MAX_CONSECUTIVE_STOP_OUTS",
];

/// True for a limit that holds for the rest of the day once it was hit.
pub fn is_latched(code: &str) -> bool {
    code != "MAX_OPEN_POSITIONS"
}

/// The code of a stored limit; one that this version does not know still refuses, as `LIMIT`.
pub fn known_code(text: &str) -> &'static str {
    CODES.into_iter().find(|code| *code == text).unwrap_or("LIMIT")
}

/// What the ledger and the leader know of a day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Day {
    /// The day in India.
    pub date: NaiveDate,
    /// Equity at its opening, unrealised included; none before it was opened.
    pub opening: Option<Rupees>,
    /// Profit that its sales realised, a loss if negative; before charges.
    pub realised: Rupees,
    /// What its orders' fills were charged.
    pub charges: Rupees,
    /// Orders journaled in it.
    pub orders: u32,
    /// Stop-outs in it since the last position that closed otherwise.
    pub stop_outs: u32,
    /// Limits that were hit in it.
    pub latched: Vec<Refusal>,
}

impl Day {
    /// Why no entry may be made: latched limits, and those that count.
    pub fn refusals(&self, limits: &AccountLimits, open_positions: u32) -> Vec<Refusal> {
        let counts = DayFigures {
            open_positions,
            orders: self.orders,
            consecutive_stop_outs: self.stop_outs,
            ..DayFigures::default()
        };
        let mut refusals = self.latched.clone();
        let fresh = hit(&AccountLimits { max_daily_loss: None, ..limits.clone() }, &counts);
        refusals.extend(fresh.into_iter().filter(|new| !self.latched.iter().any(|old| old.code == new.code)));
        refusals
    }
}

/// The day so far.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct DayFigures {
    /// Equity at the day's opening, unrealised included.
    pub opening_equity: Rupees,
    /// The same now; none while nobody knows what something that is held is worth.
    pub equity: Option<Rupees>,
    /// What the day's sales realised; alone it is the day's loss while the equity is not known.
    pub realised: Rupees,
    /// Closed equity's high-water mark.
    pub equity_high: Rupees,
    /// Positions held, and entries on their way.
    pub open_positions: u32,
    /// Orders sent today.
    pub orders: u32,
    /// Stop-outs since the last position that closed otherwise.
    pub consecutive_stop_outs: u32,
}

/// Lists the limits that are hit; empty = entries may go on. While the equity is not known the day's loss is what its sales
/// have realised, so that a price which is missing does not hide a loss that is certain; the drawdown waits.
///
/// Codes: `MAX_DAILY_LOSS`, `MAX_DAILY_LOSS_PERCENT`, `MAX_DRAWDOWN`, `MAX_OPEN_POSITIONS`, `MAX_ORDERS_PER_DAY`,
/// `MAX_CONSECUTIVE_STOP_OUTS`.
pub fn hit(limits: &AccountLimits, day: &DayFigures) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |code, sentence| refusals.push(Refusal::new(code, sentence));
    let (loss, what) = loss(day);
    if let Some(limit) = limits.max_daily_loss
        && loss >= limit
    {
        refuse("MAX_DAILY_LOSS", format!("the day's {what} of ₹{:.2} reached ₹{limit}", loss.0.round_dp(2)));
    }
    if let Some(limit) = limits.max_daily_loss_percent
        && loss > Rupees::ZERO
        && loss.0 * dec!(100) >= limit * day.opening_equity.0
    {
        refuse(
            "MAX_DAILY_LOSS_PERCENT",
            format!("the day's {what} of ₹{:.2} reached {limit} % of the opening equity", loss.0.round_dp(2)),
        );
    }
    let fall = fall(day);
    if let Some(limit) = limits.max_drawdown_percent
        && fall > Rupees::ZERO
        && fall.0 * dec!(100) >= limit * day.equity_high.0
    {
        refuse(
            "MAX_DRAWDOWN",
            format!(
                "equity is ₹{:.2} below its high of ₹{}, which reached {limit} %",
                fall.0.round_dp(2),
                day.equity_high
            ),
        );
    }
    for (code, what, count, limit) in [
        ("MAX_OPEN_POSITIONS", "open positions", day.open_positions, limits.max_open_positions),
        (ORDERS_A_DAY, "orders today", day.orders, limits.max_orders_per_day),
        (
            "MAX_CONSECUTIVE_STOP_OUTS",
            "stop-outs in a row",
            day.consecutive_stop_outs,
            limits.max_consecutive_stop_outs,
        ),
    ] {
        if let Some(limit) = limit
            && count >= limit
        {
            refuse(code, format!("{count} {what} reached the limit of {limit}"));
        }
    }
    refusals
}

/// How much of each limit that is set is used: 0 none, 1 all of it, and more beyond.
pub fn used(limits: &AccountLimits, day: &DayFigures) -> Vec<(&'static str, Decimal)> {
    let share =
        |part: Decimal, whole: Decimal| part.max(Decimal::ZERO).checked_div(whole).unwrap_or_default();
    let count = |count: u32, limit: u32| share(count.into(), limit.into());
    let (loss, opening, fall, high) = (loss(day).0.0, day.opening_equity.0, fall(day).0, day.equity_high.0);
    let shares = [
        limits.max_daily_loss.map(|limit| share(loss, limit.0)),
        limits.max_daily_loss_percent.map(|limit| share(loss * dec!(100), limit * opening)),
        limits.max_drawdown_percent.map(|limit| share(fall * dec!(100), limit * high)),
        limits.max_open_positions.map(|limit| count(day.open_positions, limit)),
        limits.max_orders_per_day.map(|limit| count(day.orders, limit)),
        limits.max_consecutive_stop_outs.map(|limit| count(day.consecutive_stop_outs, limit)),
    ];
    CODES.into_iter().zip(shares).filter_map(|(code, share)| Some((code, share?))).collect()
}

/// The day's loss, negative for a profit, and what it is called.
fn loss(day: &DayFigures) -> (Rupees, &'static str) {
    match day.equity {
        Some(equity) => (day.opening_equity - equity, "loss"),
        None => (Rupees::ZERO - day.realised, "realised loss, without what is held and has no price,"),
    }
}

/// How far equity is below its high; zero while it is not known.
fn fall(day: &DayFigures) -> Rupees {
    day.equity.map_or(Rupees::ZERO, |equity| day.equity_high - equity)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::dec;

    use super::*;

    fn codes(limits: &AccountLimits, day: &DayFigures) -> Vec<&'static str> {
        hit(limits, day).into_iter().map(|refusal| refusal.code).collect()
    }

    // R: B4
    #[test]
    fn each_limit_is_hit_exactly_at_its_value() {
        let limits = AccountLimits {
            max_daily_loss: Some(Rupees(dec!(1000))),
            max_daily_loss_percent: Some(dec!(2)),
            max_drawdown_percent: Some(dec!(10)),
            max_open_positions: Some(3),
            max_orders_per_day: Some(5),
            max_consecutive_stop_outs: Some(2),
        };
        let day = DayFigures {
            opening_equity: Rupees(dec!(100_000)),
            equity: Some(Rupees(dec!(99_000.01))),
            realised: Rupees::ZERO,
            equity_high: Rupees(dec!(105_000)),
            open_positions: 2,
            orders: 4,
            consecutive_stop_outs: 1,
        };
        assert_eq!(codes(&limits, &day), Vec::<&str>::new());
        let at = |equity: Decimal| DayFigures { equity: Some(Rupees(equity)), ..day };
        assert_eq!(codes(&limits, &at(dec!(99_000))), ["MAX_DAILY_LOSS"]);
        assert_eq!(codes(&limits, &at(dec!(98_000))), ["MAX_DAILY_LOSS", "MAX_DAILY_LOSS_PERCENT"]);
        assert_eq!(codes(&limits, &at(dec!(94_500))).last(), Some(&"MAX_DRAWDOWN"));
        let counts = DayFigures { open_positions: 3, orders: 5, consecutive_stop_outs: 2, ..day };
        assert_eq!(
            codes(&limits, &counts),
            ["MAX_OPEN_POSITIONS", "MAX_ORDERS_PER_DAY", "MAX_CONSECUTIVE_STOP_OUTS"]
        );
    }
    #[test]
    fn without_a_known_equity_the_realised_loss_alone_counts() {
        let limits = AccountLimits {
            max_daily_loss: Some(Rupees(dec!(1000))),
            max_daily_loss_percent: Some(dec!(2)),
            max_drawdown_percent: Some(dec!(1)),
            ..AccountLimits::default()
        };
        let lost = |realised: Decimal| DayFigures {
            opening_equity: Rupees(dec!(100_000)),
            equity: None,
            realised: Rupees(realised),
            equity_high: Rupees(dec!(200_000)),
            ..DayFigures::default()
        };
        assert_eq!(codes(&limits, &lost(dec!(-999.99))), Vec::<&str>::new());
        assert_eq!(codes(&limits, &lost(dec!(-1000))), ["MAX_DAILY_LOSS"]);
        assert_eq!(codes(&limits, &lost(dec!(-2000))), ["MAX_DAILY_LOSS", "MAX_DAILY_LOSS_PERCENT"]);
        assert_eq!(codes(&limits, &lost(dec!(5000))), Vec::<&str>::new());
        let known = DayFigures { equity: Some(Rupees(dec!(100_000))), ..lost(dec!(-2000)) };
        assert_eq!(codes(&limits, &known), ["MAX_DRAWDOWN"], "an open profit outweighs it");
        let sentence = hit(&limits, &lost(dec!(-1000))).remove(0).sentence;
        assert!(sentence.contains("realised loss") && sentence.contains("₹1000.00"), "{sentence}");
    }

    fn limits() -> impl Strategy<Value = AccountLimits> {
        let percent = || proptest::option::of((1..50_i64).prop_map(Decimal::from));
        let count = || proptest::option::of(1..5_u32);
        let loss = proptest::option::of((1..2_000_i64).prop_map(|loss| Rupees(loss.into())));
        (loss, percent(), percent(), count(), count(), count()).prop_map(
            |(loss, percent, drawdown, positions, orders, stop_outs)| AccountLimits {
                max_daily_loss: loss,
                max_daily_loss_percent: percent,
                max_drawdown_percent: drawdown,
                max_open_positions: positions,
                max_orders_per_day: orders,
                max_consecutive_stop_outs: stop_outs,
            },
        )
    }

    fn figures() -> impl Strategy<Value = DayFigures> {
        let rupees = |range: std::ops::Range<i64>| range.prop_map(|rupees| Rupees(rupees.into()));
        let equity = proptest::option::of(rupees(-500..6_000));
        (rupees(0..5_000), equity, rupees(-2_500..2_500), rupees(0..6_000), 0..6_u32, 0..6_u32, 0..6_u32)
            .prop_map(
                |(
                    opening_equity,
                    equity,
                    realised,
                    equity_high,
                    open_positions,
                    orders,
                    consecutive_stop_outs,
                )| {
                    DayFigures {
                        opening_equity,
                        equity,
                        realised,
                        equity_high,
                        open_positions,
                        orders,
                        consecutive_stop_outs,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn a_limit_of_which_all_is_used_is_hit_and_no_other_is(limits in limits(), day in figures()) {
            let full = |(code, share): (&'static str, Decimal)| (share >= Decimal::ONE).then_some(code);
            let full: Vec<&str> = used(&limits, &day).into_iter().filter_map(full).collect();
            // A share of nothing is none: without an equity to lose, any loss hits.
            let of_nothing = |code: &&str| match *code {
                "MAX_DAILY_LOSS_PERCENT" => day.opening_equity == Rupees::ZERO,
                "MAX_DRAWDOWN" => day.equity_high == Rupees::ZERO,
                _ => false,
            };
            let hit: Vec<&str> = codes(&limits, &day).into_iter().filter(|code| !of_nothing(code)).collect();
            prop_assert_eq!(full, hit);
        }
    }
}
