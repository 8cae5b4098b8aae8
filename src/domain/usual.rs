//! The usual hours of India's exchanges, as published on [`AS_OF`]: for a day of which the bridge cannot be asked. They say
//! nothing of holidays, so they count only beside the year's list of those.

use chrono::{Datelike, Days, NaiveDate, TimeDelta, Weekday};

use super::sessions::{Calendar, Holiday, Session, day_start};

/// When the table was correct.
pub const AS_OF: &str = "2026-08-03";

/// An hour and a minute, IST.
type Time = (i64, i64);

/// Exchanges of shares.
pub(super) const EQUITY: [&str; 2] = ["NSE", "BSE"];
/// Exchanges of futures and options on shares and indices.
pub(super) const DERIVATIVES: [&str; 2] = ["NFO", "BFO"];
/// Exchanges of currency contracts.
pub(super) const CURRENCY: [&str; 2] = ["CDS", "BCD"];

/// The calendar of a day by the usual hours and the year's `holidays`. Exchanges that are not in the table are closed.
pub fn calendar(day: NaiveDate, holidays: &[Holiday]) -> Calendar {
    let today: Vec<&Holiday> = holidays.iter().filter(|holiday| holiday.day == day).collect();
    let mut sessions: Vec<Session> = Vec::new();
    if !is_weekend(day) {
        sessions = hours(day).into_iter().map(|(exchange, times)| session(day, exchange, times)).collect();
    }
    for holiday in today {
        let special = |exchange: &String| holiday.open.iter().any(|session| session.exchange == *exchange);
        sessions.retain(|session| !holiday.closed.contains(&session.exchange) && !special(&session.exchange));
        sessions.extend(holiday.open.iter().cloned());
    }
    Calendar::new(day, sessions)
}

/// How far ahead a day with a session is looked for.
const AHEAD: usize = 14;

/// The next day after `day` on which `exchange` has a session, by weekdays and the `holidays` that are known; also of an exchange that
/// is not in the table. None if there is none within two weeks.
pub(super) fn next_open_day(exchange: &str, day: NaiveDate, holidays: &[Holiday]) -> Option<NaiveDate> {
    let is_open = |day: &NaiveDate| {
        let today = || holidays.iter().filter(|holiday| holiday.day == *day);
        let closed = today().any(|holiday| holiday.closed.iter().any(|closed| closed == exchange));
        let special =
            || today().any(|holiday| holiday.open.iter().any(|session| session.exchange == exchange));
        !is_weekend(*day) && !closed || special()
    };
    day.iter_days().skip(1).take(AHEAD).find(is_open)
}

fn is_weekend(day: NaiveDate) -> bool {
    matches!(day.weekday(), Weekday::Sat | Weekday::Sun)
}

fn hours(day: NaiveDate) -> Vec<(&'static str, (Time, Time))> {
    // Continuous trading of derivatives is longer since this day.
    let longer = NaiveDate::from_ymd_opt(2026, 8, 3).is_some_and(|since| day >= since);
    let derivatives_close = if longer { (15, 40) } else { (15, 30) };
    let mcx_close = if is_summer_in_new_york(day) { (23, 30) } else { (23, 55) };
    let of = |exchanges: [&'static str; 2], times| exchanges.map(|exchange| (exchange, times));
    let mut hours = vec![("MCX", ((9, 0), mcx_close))];
    hours.extend(of(EQUITY, ((9, 15), (15, 30))));
    hours.extend(of(DERIVATIVES, ((9, 15), derivatives_close)));
    hours.extend(of(CURRENCY, ((9, 0), (17, 0))));
    hours
}

fn session(day: NaiveDate, exchange: &str, (opens, closes): (Time, Time)) -> Session {
    let at = |(hour, minute)| day_start(day) + TimeDelta::minutes(hour * 60 + minute);
    Session { exchange: exchange.to_owned(), opens: at(opens), closes: at(closes) }
}

/// From the second Sunday of March to the first of November: the commodity exchange follows New York's clock.
fn is_summer_in_new_york(day: NaiveDate) -> bool {
    let sunday = |month: u32, weeks: u64| {
        let first = NaiveDate::from_ymd_opt(day.year(), month, 1)?;
        let ahead = u64::from((7 - first.weekday().num_days_from_sunday()) % 7);
        first.checked_add_days(Days::new(ahead + weeks * 7))
    };
    let (begins, ends) = (sunday(3, 1), sunday(11, 0));
    begins.is_some_and(|begins| day >= begins) && ends.is_some_and(|ends| day < ends)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn open(exchange: &str, text: &str, holidays: &[Holiday]) -> bool {
        let now = at(&format!("{text}:00+05:30"));
        calendar(super::super::sessions::trading_day(now), holidays).is_open(exchange, now)
    }

    #[test]
    fn the_usual_hours_follow_the_calendar_of_the_exchange() {
        for (exchange, text, expected) in [
            ("NSE", "2026-08-10T09:14", false),
            ("NSE", "2026-08-10T09:15", true),
            ("NSE", "2026-08-10T15:30", false),
            ("NFO", "2026-08-10T15:39", true),
            ("NFO", "2026-07-31T15:39", false),
            ("CDS", "2026-08-10T16:59", true),
            ("MCX", "2026-08-10T23:31", false),
            ("MCX", "2026-03-06T23:54", true),
            ("MCX", "2026-03-09T23:54", false),
            ("MCX", "2026-10-30T23:54", false),
            ("MCX", "2026-11-02T23:54", true),
            ("MCX", "2026-08-08T12:00", false),
            ("NCDEX", "2026-08-10T12:00", false),
        ] {
            assert_eq!(open(exchange, text, &[]), expected, "{exchange} at {text}");
        }
    }

    #[test]
    fn a_holiday_closes_its_exchanges_and_may_open_one_in_the_evening_or_on_a_sunday() {
        let holiday = |day: &str, closed: &[&str], open: &[(&str, &str, &str)]| Holiday {
            day: day.parse().unwrap(),
            closed: closed.iter().map(|exchange| (*exchange).to_owned()).collect(),
            open: open
                .iter()
                .map(|(exchange, opens, closes)| Session {
                    exchange: (*exchange).to_owned(),
                    opens: at(&format!("{day}T{opens}:00+05:30")),
                    closes: at(&format!("{day}T{closes}:00+05:30")),
                })
                .collect(),
        };
        let holidays = [
            holiday("2026-08-12", &["NSE", "NFO"], &[("MCX", "17:00", "23:30")]),
            holiday("2026-11-08", &[], &[("NSE", "18:00", "19:00")]),
        ];
        for (exchange, text, expected) in [
            ("NSE", "2026-08-12T12:00", false),
            ("NFO", "2026-08-12T12:00", false),
            ("BSE", "2026-08-12T12:00", true),
            ("MCX", "2026-08-12T12:00", false),
            ("MCX", "2026-08-12T18:00", true),
            ("NSE", "2026-11-08T18:30", true),
            ("NSE", "2026-11-08T12:00", false),
            ("NSE", "2026-08-13T12:00", true),
        ] {
            assert_eq!(open(exchange, text, &holidays), expected, "{exchange} at {text}");
        }
        for (exchange, day, expected) in [
            ("NSE", "2026-08-10", "2026-08-11"),
            ("NSE", "2026-08-11", "2026-08-13"),
            ("MCX", "2026-08-11", "2026-08-12"),
            ("NCDEX", "2026-08-14", "2026-08-17"),
            ("NSE", "2026-11-06", "2026-11-08"),
            ("MCX", "2026-11-06", "2026-11-09"),
        ] {
            let next = next_open_day(exchange, day.parse().unwrap(), &holidays);
            assert_eq!(next, Some(expected.parse().unwrap()), "{exchange} after {day}");
        }
    }
}
