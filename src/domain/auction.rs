//! Closing auctions: the minutes in which shares with derivatives do not trade continuously any more.
//!
//! The exchange collects orders there, market and limit ones and no stops, and fills them at its end. So nothing is bought in
//! them; what is to be sold is sent and waits for that end; and no stop is put there, since it would be refused.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::instrument::Instrument;
use super::refusal::Refusal;
use super::sessions::{Calendar, clock, day_start, trading_day};
use super::usual;

/// One rule of an exchange.
struct Auction {
    /// The first day on which it holds: year, month, day.
    since: (i32, u32, u32),
    exchanges: [&'static str; 2],
    /// Minutes after midnight, IST.
    from: i64,
    to: i64,
}

/// As published for the day on which each begins to hold.
const AUCTIONS: [Auction; 1] =
    [Auction { since: (2026, 8, 3), exchanges: usual::EQUITY, from: 15 * 60 + 15, to: 15 * 60 + 35 }];

/// From when to when the closing auction of an exchange's day is; none on a day of which the session is not on then.
fn closing(
    calendar: Option<&Calendar>,
    exchange: &str,
    at: DateTime<Utc>,
) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let today = trading_day(at);
    let holds = |auction: &&Auction| {
        let (year, month, day) = auction.since;
        let since = NaiveDate::from_ymd_opt(year, month, day);
        auction.exchanges.contains(&exchange) && since.is_some_and(|since| today >= since)
    };
    let auction = AUCTIONS.iter().find(holds)?;
    let time = |minutes| day_start(today) + TimeDelta::minutes(minutes);
    let (from, to) = (time(auction.from), time(auction.to));
    // On an evening's or a short day's session there is none; of an unknown day nothing else is known.
    let is_on = match calendar.filter(|calendar| calendar.day() == today) {
        Some(calendar) => {
            calendar.span(exchange).is_some_and(|(opens, closes)| opens <= from && from < closes)
        }
        None => true,
    };
    is_on.then_some((from, to))
}

/// The closing auction of an exchange at `at`: when it ends.
fn is_on(calendar: Option<&Calendar>, exchange: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    closing(calendar, exchange, at).filter(|(from, to)| *from <= at && at < *to).map(|(_, to)| to)
}

/// True while exits of an instrument wait for the end of its closing auction, and no stop is put. Only where it is said to have one: an
/// exit that is left to rest for twenty minutes while its share trades on protects nothing.
pub fn holds_back(
    calendar: Option<&Calendar>,
    exchange: &str,
    instrument: &Instrument,
    at: DateTime<Utc>,
) -> bool {
    instrument.closing_auction == Some(true) && is_on(calendar, exchange, at).is_some()
}

/// Says whether an entry may be made, for closing auctions. An instrument of which nobody says that it has none counts as having one.
///
/// # Errors
/// `CLOSING_AUCTION`.
pub fn judge_entry(
    calendar: Option<&Calendar>,
    instrument: &Instrument,
    at: DateTime<Utc>,
) -> Result<(), Refusal> {
    let Instrument { exchange, symbol, closing_auction, .. } = instrument;
    match is_on(calendar, exchange, at).filter(|_| *closing_auction != Some(false)) {
        None => Ok(()),
        Some(to) => Err(Refusal::new(
            "CLOSING_AUCTION",
            format!(
                "{exchange}:{symbol} is in its closing auction until {} IST: its price is not made yet",
                clock(to)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures;
    use crate::domain::sessions::Session;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(&format!("{text}:00+05:30")).unwrap().to_utc()
    }

    fn share(exchange: &str) -> Instrument {
        Instrument { exchange: exchange.to_owned(), ..fixtures::instrument("GOLD_MINI") }
    }

    fn session(opens: &str, closes: &str) -> Calendar {
        let (opens, closes) = (at(opens), at(closes));
        Calendar::new(trading_day(opens), vec![Session { exchange: "NSE".to_owned(), opens, closes }])
    }

    #[test]
    fn shares_with_derivatives_have_one_since_its_day_and_nothing_else_has() {
        for (exchange, time, expected) in [
            ("NSE", "2026-08-03T15:14", false),
            ("NSE", "2026-08-03T15:15", true),
            ("BSE", "2026-08-03T15:34", true),
            ("NSE", "2026-08-03T15:35", false),
            ("NSE", "2026-07-31T15:20", false),
            ("NFO", "2026-08-03T15:20", false),
            ("MCX", "2026-08-03T15:20", false),
        ] {
            let refused = judge_entry(None, &share(exchange), at(time)).is_err();
            assert_eq!(refused, expected, "{exchange} at {time}");
        }
        for (said, refused, held) in
            [(None, true, false), (Some(true), true, true), (Some(false), false, false)]
        {
            let (share, now) = (Instrument { closing_auction: said, ..share("NSE") }, at("2026-08-03T15:20"));
            let judged = (judge_entry(None, &share, now).is_err(), holds_back(None, "NSE", &share, now));
            assert_eq!(judged, (refused, held), "{said:?}");
        }
        let refusal = judge_entry(None, &share("NSE"), at("2026-08-03T15:20")).unwrap_err();
        assert!(refusal.code == "CLOSING_AUCTION" && refusal.sentence.contains("15:35"), "{refusal}");
    }

    #[test]
    fn a_day_whose_session_is_not_on_then_has_none() {
        let noon = at("2026-08-05T15:20");
        for (opens, closes, expected) in [
            ("2026-08-05T09:15", "2026-08-05T15:30", true),
            ("2026-08-05T09:15", "2026-08-05T12:00", false),
            ("2026-08-05T18:00", "2026-08-05T19:00", false),
        ] {
            let calendar = session(opens, closes);
            assert_eq!(judge_entry(Some(&calendar), &share("NSE"), noon).is_err(), expected, "{opens}");
        }
    }
}
