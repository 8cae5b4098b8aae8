//! The end of a contract: what is held in it is warned about, then sold, and nothing more is bought in it.
//!
//! Days are calendar days from today (India) to the contract's last day: 0 on that day itself.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::dec;
use serde::{Deserialize, Serialize};

use super::contract::Contracts;
use super::fault::{Bound, Checker, Fault};
use super::listing::Listing;
use super::position::Position;
use super::refusal::Refusal;
use super::sessions::{Calendar, Holiday, clock, trading_day};
use super::usual;

/// What is done when a contract nears its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloverPolicy {
    /// A held position is warned about once a day from so many days before.
    pub warn_days: u32,
    /// There is no entry into a contract with fewer days left, nor into one that is being sold by `exit_days`.
    pub entry_days: u32,
    /// What is held is sold with so many days left, before a weekend or a holiday with more; none leaves it to people.
    pub exit_days: Option<u32>,
    /// On that day, so many minutes before the exchange's last close.
    pub exit_min: u32,
}

impl Default for RolloverPolicy {
    fn default() -> Self {
        Self { warn_days: 5, entry_days: 0, exit_days: None, exit_min: 60 }
    }
}

impl RolloverPolicy {
    /// Every fault, each under its path in `rollover`.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let Self { warn_days, entry_days, exit_days, exit_min } = *self;
        let mut checker = Checker::new("rollover");
        checker.range("warn_days", warn_days.into(), Bound::From(dec!(0)), dec!(90));
        checker.range("entry_days", entry_days.into(), Bound::From(dec!(0)), dec!(90));
        checker.range("exit_min", exit_min.into(), Bound::From(dec!(1)), dec!(360));
        if let Some(exit_days) = exit_days {
            checker.check(
                warn_days >= exit_days,
                "warn_days",
                format!("is {warn_days}; set it to exit_days ({exit_days}) or more: a warning comes before the sale"),
            );
        }
        checker.done()
    }

    /// True on the last day with a session that leaves `exit_days` to the contract's `last` day, and after it: what is held then is
    /// sold, and what is being sold is not bought.
    fn is_sold(&self, exchange: &str, last: NaiveDate, today: NaiveDate, holidays: &[Holiday]) -> bool {
        let Some(days) = self.exit_days.map(i64::from) else { return false };
        let next = || usual::next_open_day(exchange, today, holidays);
        (last - today).num_days() <= days || next().is_some_and(|next| (last - next).num_days() < days)
    }
}

/// The last day of a contract: by today's data, else as its name says it (`GOLDM05DEC25FUT`, `NIFTY30DEC2526000CE`); none if it
/// has none, or nobody knows.
pub fn last_day(contracts: Option<&Contracts>, listing: &Listing, today: NaiveDate) -> Option<NaiveDate> {
    let known = contracts.filter(|contracts| contracts.day() == today);
    match known.and_then(|known| known.get(listing)) {
        Some(contract) => contract.expiry,
        None => day_in_name(&listing.symbol),
    }
}

/// The day that the bridge writes into the name of a future or an option.
pub(super) fn day_in_name(symbol: &str) -> Option<NaiveDate> {
    let day = |text: &str| NaiveDate::parse_from_str(text, "%d%b%y").ok();
    if let Some(future) = symbol.strip_suffix("FUT") {
        return day(future.get(future.len().checked_sub(7)?..)?);
    }
    let option = symbol.strip_suffix("CE").or_else(|| symbol.strip_suffix("PE"))?;
    let strike =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let places = (1..option.len()).rev();
    let mut days = places.filter_map(|place| {
        let (name, rest) = (option.get(place..place + 7)?, option.get(place + 7..)?);
        day(name).filter(|_| strike(rest))
    });
    days.next()
}

/// Says whether an entry may be made, for the contract's end.
///
/// # Errors
/// `CONTRACT_EXPIRING`.
pub fn judge_entry(
    policy: &RolloverPolicy,
    contracts: Option<&Contracts>,
    listing: &Listing,
    holidays: &[Holiday],
    today: NaiveDate,
) -> Result<(), Refusal> {
    // One that has ended is refused by another name.
    let Some(last) = last_day(contracts, listing, today).filter(|last| *last >= today) else { return Ok(()) };
    let why = if (last - today).num_days() < policy.entry_days.into() {
        format!("entries need {} days", policy.entry_days)
    } else if policy.is_sold(&listing.exchange, last, today, holidays) {
        "what is held in it is being sold".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(
        "CONTRACT_EXPIRING",
        format!("{listing} ends on {last}: {why}; set instruments.…symbol to the next contract"),
    ))
}

/// What is to be done about a held position, for its contract's end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// It is to be sold now; why.
    pub due: Option<String>,
    /// It is to be warned about; a sentence.
    pub warning: Option<String>,
}

/// Judges a held position. On a day that nobody knows the usual hours count.
///
/// The sale comes before a weekend or a holiday, never after it: of the days with a session it has the last one that leaves
/// `exit_days`.
pub fn judge_held(
    policy: &RolloverPolicy,
    contracts: Option<&Contracts>,
    calendar: Option<&Calendar>,
    holidays: &[Holiday],
    position: &Position,
    at: DateTime<Utc>,
) -> Standing {
    let today = trading_day(at);
    let Some(last) = last_day(contracts, &position.listing(), today) else { return Standing::default() };
    let left = (last - today).num_days();
    // What has ended cannot be sold any more.
    let is_sold = left >= 0 && policy.is_sold(&position.exchange, last, today, holidays);
    if left > i64::from(policy.warn_days) && !is_sold {
        return Standing::default();
    }
    let sale = policy.exit_days.map(i64::from).filter(|_| is_sold).and_then(|days| {
        let known = calendar.filter(|calendar| calendar.day() == today);
        let span = match known {
            Some(calendar) => calendar.span(&position.exchange),
            None => usual::calendar(today, &[]).span(&position.exchange),
        };
        let (opens, closes) = span?;
        let late = (closes - TimeDelta::minutes(policy.exit_min.into())).max(opens);
        // Nobody led on its day, or that had no session after all.
        Some(if left < days { opens } else { late })
    });
    let what = format!("{} of {} {}", position.quantity, position.symbol, position.label);
    let warning = match (policy.exit_days, sale) {
        _ if left < 0 => format!("{what}: the contract ended on {last}; how it was settled the broker knows"),
        (None, _) => format!(
            "{what}: the contract ends on {last}, in {left} days, and nothing sells it before (trading.rollover)"
        ),
        (Some(_), Some(from)) => {
            format!("{what}: the contract ends on {last}; it is sold today from {} IST on", clock(from))
        }
        (Some(_), None) if is_sold => {
            let exchange = &position.exchange;
            format!("{what}: the contract ends on {last}; it is sold as soon as {exchange} opens, not today")
        }
        (Some(days), None) => format!(
            "{what}: the contract ends on {last}, in {left} days; it is sold on the last day with a session that leaves {days}"
        ),
    };
    let due = sale.is_some_and(|from| at >= from).then(|| format!("the contract ends on {last}"));
    Standing { due, warning: Some(warning) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::contract::Contract;
    use crate::domain::fixtures;
    use crate::domain::money::{Price, Quantity};
    use crate::domain::sessions::Session;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(&format!("{text}:00+05:30")).unwrap().to_utc()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn held() -> Position {
        fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(900), 1)
    }

    fn told(listing: &Listing, today: &str, expiry: Option<&str>) -> Contracts {
        let contract = Contract {
            lot_size: Quantity(100),
            tick: Price(dec!(1)),
            freeze_qty: None,
            expiry: expiry.map(day),
        };
        let mut contracts = Contracts::new(day(today));
        contracts.extend([(listing.clone(), contract)]);
        contracts
    }

    #[test]
    fn the_days_data_say_when_a_contract_ends_and_its_name_does_where_they_are_silent() {
        for (symbol, expected) in [
            ("GOLDM05DEC25FUT", Some("2025-12-05")),
            ("BANKNIFTY30DEC25FUT", Some("2025-12-30")),
            ("NIFTY30DEC2526000CE", Some("2025-12-30")),
            ("VEDL25APR24292.5PE", Some("2024-04-25")),
            ("RELIANCE", None),
            ("PIECE", None),
            ("FUT", None),
            ("GOLDM45DEC25FUT", None),
        ] {
            assert_eq!(day_in_name(symbol), expected.map(day), "{symbol}");
        }
        let listing = held().listing();
        let today = day("2025-11-28");
        let earlier = told(&listing, "2025-11-28", Some("2025-12-04"));
        assert_eq!(last_day(Some(&earlier), &listing, today), Some(day("2025-12-04")));
        assert_eq!(last_day(Some(&told(&listing, "2025-11-28", None)), &listing, today), None);
        let yesterday = told(&listing, "2025-11-27", None);
        assert_eq!(last_day(Some(&yesterday), &listing, today), Some(day("2025-12-05")));
    }

    #[test]
    fn entries_need_days_left_and_an_expired_contract_is_refused_by_another_name() {
        let policy = RolloverPolicy { entry_days: 3, ..RolloverPolicy::default() };
        let listing = held().listing();
        let refused =
            |policy: RolloverPolicy, today| judge_entry(&policy, None, &listing, &[], day(today)).is_err();
        for (today, expected) in
            [("2025-12-02", false), ("2025-12-03", true), ("2025-12-05", true), ("2025-12-06", false)]
        {
            assert_eq!(refused(policy, today), expected, "{today}");
        }
        assert!(!refused(RolloverPolicy::default(), "2025-12-05"));
        let sold = RolloverPolicy { exit_days: Some(1), ..RolloverPolicy::default() };
        assert!(
            refused(sold, "2025-12-04") && !refused(sold, "2025-12-03"),
            "what is being sold is not bought"
        );
    }

    #[test]
    fn what_is_held_is_warned_about_and_sold_on_its_day_or_as_soon_as_the_exchange_opens() {
        let policy = RolloverPolicy { entry_days: 3, exit_days: Some(2), ..RolloverPolicy::default() };
        let judged = |policy: &RolloverPolicy, now: &str| {
            let now = at(now);
            let today = trading_day(now).to_string();
            let session = Session {
                exchange: "MCX".to_owned(),
                opens: at(&format!("{today}T09:00")),
                closes: at(&format!("{today}T23:30")),
            };
            let calendar = Calendar::new(trading_day(now), vec![session]);
            let standing = judge_held(policy, None, Some(&calendar), &[], &held(), now);
            (standing.due.is_some(), standing.warning.is_some())
        };
        assert_eq!(judged(&policy, "2025-11-29T12:00"), (false, false));
        assert_eq!(judged(&policy, "2025-11-30T12:00"), (false, true));
        assert_eq!(judged(&policy, "2025-12-03T22:29"), (false, true));
        assert_eq!(judged(&policy, "2025-12-03T22:30"), (true, true));
        assert_eq!(
            judged(&policy, "2025-12-04T08:59"),
            (false, true),
            "nobody led, and the exchange is closed"
        );
        assert_eq!(judged(&policy, "2025-12-04T09:00"), (true, true));
        assert_eq!(judged(&RolloverPolicy::default(), "2025-12-05T23:00"), (false, true), "left to people");
        assert_eq!(judged(&policy, "2025-12-06T12:00"), (false, true), "nobody buys it any more");
        let closed = Calendar::new(day("2025-12-04"), Vec::new());
        let standing = judge_held(&policy, None, Some(&closed), &[], &held(), at("2025-12-04T12:00"));
        assert!(standing.due.is_none() && standing.warning.is_some());
    }

    // A sale that slips over a weekend falls on the last day itself, when a commodity is to be delivered.
    #[test]
    fn a_sale_comes_before_a_weekend_or_a_holiday_and_nothing_is_bought_from_then_on() {
        let listing = held().listing();
        let friday = Holiday { day: day("2025-12-05"), closed: vec!["MCX".to_owned()], open: vec![] };
        let judged = |exit_days, holidays: &[Holiday], now: &str| {
            let policy =
                RolloverPolicy { warn_days: 4, exit_days: Some(exit_days), ..RolloverPolicy::default() };
            let (now, today) = (at(now), trading_day(at(now)));
            let contracts = told(&listing, &today.to_string(), Some("2025-12-08"));
            let standing = judge_held(&policy, Some(&contracts), None, holidays, &held(), now);
            let entry = judge_entry(&policy, Some(&contracts), &listing, holidays, today);
            (standing.due.is_some(), entry.is_err(), standing.warning.unwrap())
        };
        for exit_days in [1, 2, 3] {
            let (due, refused, warning) = judged(exit_days, &[], "2025-12-04T23:00");
            assert!(!due && !refused && warning.contains("the last day with a session"), "{warning}");
            let (due, refused, warning) = judged(exit_days, &[], "2025-12-05T22:54");
            assert!(!due && refused && warning.contains("sold today from 22:55"), "{warning}");
            assert!(judged(exit_days, &[], "2025-12-05T22:55").0, "{exit_days} before a Monday");
            let (due, refused, warning) = judged(exit_days, &[], "2025-12-06T12:00");
            assert!(!due && refused && warning.contains("as soon as MCX opens"), "{warning}");
            assert!(judged(exit_days, &[], "2025-12-08T09:00").0, "nobody led on Friday");
            let (due, refused, _) = judged(exit_days, std::slice::from_ref(&friday), "2025-12-04T22:55");
            assert!(due && refused, "a holiday is known");
        }
        assert!(!judged(0, &[], "2025-12-05T23:00").0 && judged(0, &[], "2025-12-08T22:55").0);
        let late_to_warn = RolloverPolicy { warn_days: 2, exit_days: Some(2), ..RolloverPolicy::default() };
        let contracts = told(&listing, "2025-12-05", Some("2025-12-08"));
        let now = at("2025-12-05T23:00");
        let standing = judge_held(&late_to_warn, Some(&contracts), None, &[], &held(), now);
        assert!(standing.due.is_some(), "three days before, and earlier than it is warned about");
    }

    #[test]
    fn the_defaults_are_sound_and_every_fault_is_named() {
        assert_eq!(RolloverPolicy::default().faults(), vec![]);
        let policy = RolloverPolicy { warn_days: 1, entry_days: 2, exit_days: Some(2), exit_min: 0 };
        let fields: Vec<String> = policy.faults().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["rollover.exit_min", "rollover.warn_days"]);
    }
}
