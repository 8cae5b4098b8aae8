//! The account's limits. A hit one refuses entries for the rest of the day; the ledger latches it, so that
//! neither a recovery of the price nor a restart lifts it. Only the number of open positions is not latched: it holds
//! while they are open. Exits are never limited.

use chrono::NaiveDate;
use rust_decimal::dec;

use super::money::Rupees;
use super::policy::AccountLimits;
use super::refusal::Refusal;

/// Every code, in the order of the checks.
pub const CODES: [&str; 6] = [
    "MAX_DAILY_LOSS",
    "MAX_DAILY_LOSS_PERCENT",
    "MAX_DRAWDOWN",
    "MAX_OPEN_POSITIONS",
    "MAX_ORDERS_PER_DAY",
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
    let (loss, what) = match day.equity {
        Some(equity) => (day.opening_equity - equity, "loss"),
        None => (Rupees::ZERO - day.realised, "realised loss, without what is held and has no price,"),
    };
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
    let fall = day.equity.map_or(Rupees::ZERO, |equity| day.equity_high - equity);
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
        ("MAX_ORDERS_PER_DAY", "orders today", day.orders, limits.max_orders_per_day),
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

#[cfg(test)]
mod tests {
    use rust_decimal::{Decimal, dec};

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
}
