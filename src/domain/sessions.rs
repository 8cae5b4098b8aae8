//! When exchanges are open, by calendar data: what nobody knows is closed. Only entries ask; exits are always possible.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// India is ahead of UTC by this much, all year.
const IST_MINUTES: i64 = 330;

/// The day in India at a moment.
pub fn trading_day(at: DateTime<Utc>) -> NaiveDate {
    (at + TimeDelta::minutes(IST_MINUTES)).date_naive()
}

/// When a day begins in India.
pub fn day_start(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc() - TimeDelta::minutes(IST_MINUTES)
}

/// Hours and minutes in India at a moment.
pub fn clock(at: DateTime<Utc>) -> impl fmt::Display {
    (at + TimeDelta::minutes(IST_MINUTES)).format("%H:%M")
}

/// One session of an exchange.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// The exchange's code.
    pub exchange: String,
    /// When it opens.
    pub opens: DateTime<Utc>,
    /// When it closes; not open any more at this moment.
    pub closes: DateTime<Utc>,
}

/// A day that is not as usual.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holiday {
    /// The day in India.
    pub day: NaiveDate,
    /// Exchanges that are closed.
    pub closed: Vec<String>,
    /// Sessions in place of the usual ones: an evening, or a Sunday's.
    pub open: Vec<Session>,
}

/// The sessions of one day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calendar {
    day: NaiveDate,
    sessions: BTreeMap<String, Vec<Session>>,
}

impl Calendar {
    /// The calendar of a day; an exchange without a session is closed all day.
    pub fn new(day: NaiveDate, sessions: Vec<Session>) -> Self {
        let mut by_exchange: BTreeMap<String, Vec<Session>> = BTreeMap::new();
        for session in sessions {
            by_exchange.entry(session.exchange.clone()).or_default().push(session);
        }
        Self { day, sessions: by_exchange }
    }

    /// The day it is of.
    pub fn day(&self) -> NaiveDate {
        self.day
    }

    /// The exchange's session that is on at `at`, or comes next this day.
    pub fn session(&self, exchange: &str, at: DateTime<Utc>) -> Option<&Session> {
        let sessions = self.sessions.get(exchange)?;
        sessions.iter().filter(|session| at < session.closes).min_by_key(|session| session.opens)
    }

    /// From the exchange's first opening of the day to its last close; none if it has no session.
    pub fn span(&self, exchange: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let sessions = self.sessions.get(exchange)?;
        let opens = sessions.iter().map(|session| session.opens).min()?;
        Some((opens, sessions.iter().map(|session| session.closes).max()?))
    }

    /// True while the exchange is known to be open.
    pub fn is_open(&self, exchange: &str, at: DateTime<Utc>) -> bool {
        let sessions = self.sessions.get(exchange).map_or(&[][..], Vec::as_slice);
        sessions.iter().any(|session| session.opens <= at && at < session.closes)
    }
}

/// How long before the first opening the broker's session must live: somebody has to log in by then.
const LOGIN_LEAD: TimeDelta = TimeDelta::minutes(30);

impl Calendar {
    /// True from half an hour before one of these exchanges opens until it closes. Outside of that the broker's session
    /// may be dead, as it is every night, and nobody need get up.
    pub fn wants_broker<'a>(
        &self,
        exchanges: impl IntoIterator<Item = &'a String>,
        at: DateTime<Utc>,
    ) -> bool {
        let sessions = exchanges.into_iter().filter_map(|exchange| self.sessions.get(exchange)).flatten();
        sessions.into_iter().any(|session| session.opens - LOGIN_LEAD <= at && at < session.closes)
    }
}

/// Says whether an entry on `exchange` may be made at `at`.
///
/// # Errors
/// `MARKET_CLOSED`, also when the day's calendar is not known.
pub fn judge(calendar: Option<&Calendar>, exchange: &str, at: DateTime<Utc>) -> Result<(), Refusal> {
    let today = trading_day(at);
    // A session may begin before midnight, so the calendar of the day before counts for as long as it has one open.
    let Some(calendar) =
        calendar.filter(|c| c.day == today || c.day.checked_add_days(Days::new(1)) == Some(today))
    else {
        return Err(Refusal::new(
            "MARKET_CLOSED",
            format!("the bridge's calendar for {today} is not known, so {exchange} counts as closed"),
        ));
    };
    if calendar.is_open(exchange, at) {
        return Ok(());
    }
    let times = calendar
        .sessions
        .get(exchange)
        .into_iter()
        .flatten()
        .map(|session| format!("{} to {}", clock(session.opens), clock(session.closes)));
    let times: Vec<String> = times.collect();
    let sentence = match times.is_empty() {
        true => format!("{exchange} has no session on {}", calendar.day),
        false => {
            format!("{exchange} is closed; its sessions on {} are {} IST", calendar.day, times.join(", "))
        }
    };
    Err(Refusal::new("MARKET_CLOSED", sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn mcx() -> Calendar {
        let opens = at("2026-01-30T09:00:00+05:30");
        let closes = at("2026-01-30T23:55:00+05:30");
        let session = Session { exchange: "MCX".to_owned(), opens, closes };
        Calendar::new(trading_day(opens), vec![session])
    }

    // R: K9
    #[test]
    fn an_exchange_is_open_from_its_first_moment_to_before_its_last() {
        let calendar = mcx();
        let judge = |text: &str| judge(Some(&calendar), "MCX", at(text)).is_ok();
        assert!(!judge("2026-01-30T08:59:59+05:30"));
        assert!(judge("2026-01-30T09:00:00+05:30"));
        assert!(judge("2026-01-30T23:54:59+05:30"));
        assert!(!judge("2026-01-30T23:55:00+05:30"));
    }

    // R: B18
    #[test]
    fn the_broker_is_wanted_from_half_an_hour_before_the_opening_to_the_close() {
        let (calendar, traded) = (mcx(), ["MCX".to_owned(), "NSE".to_owned()]);
        let wants = |text: &str| calendar.wants_broker(&traded, at(text));
        assert!(!wants("2026-01-30T03:00:00+05:30"), "the session ends every night");
        assert!(!wants("2026-01-30T08:29:59+05:30"));
        assert!(wants("2026-01-30T08:30:00+05:30") && wants("2026-01-30T23:54:59+05:30"));
        assert!(!wants("2026-01-30T23:55:00+05:30"));
        assert!(!calendar.wants_broker(&traded[1..], at("2026-01-30T12:00:00+05:30")), "no session today");
    }

    #[test]
    fn the_session_is_the_one_that_is_on_or_comes_next() {
        let calendar = mcx();
        let session = |text: &str| calendar.session("MCX", at(text)).map(|session| session.opens);
        let opens = Some(at("2026-01-30T09:00:00+05:30"));
        assert_eq!(session("2026-01-30T00:10:00+05:30"), opens);
        assert_eq!(session("2026-01-30T23:54:59+05:30"), opens);
        assert_eq!(session("2026-01-30T23:55:00+05:30"), None);
        assert_eq!(calendar.session("NSE", at("2026-01-30T12:00:00+05:30")), None);
    }

    #[test]
    fn what_nobody_knows_is_closed() {
        let noon = at("2026-01-30T12:00:00+05:30");
        assert_eq!(judge(None, "MCX", noon).unwrap_err().code, "MARKET_CLOSED");
        let refusal = judge(Some(&mcx()), "NSE", noon).unwrap_err();
        assert_eq!(refusal.sentence, "NSE has no session on 2026-01-30");
        assert!(judge(Some(&mcx()), "MCX", at("2026-02-02T12:00:00+05:30")).is_err(), "another day");
        let late = judge(Some(&mcx()), "MCX", at("2026-01-30T23:58:00+05:30")).unwrap_err();
        assert!(late.sentence.contains("09:00 to 23:55 IST"), "{}", late.sentence);
    }

    #[test]
    fn a_day_is_indias() {
        assert_eq!(trading_day(at("2026-01-30T18:29:59Z")).to_string(), "2026-01-30");
        assert_eq!(trading_day(at("2026-01-30T18:30:00Z")).to_string(), "2026-01-31");
        assert_eq!(day_start(trading_day(at("2026-01-30T18:30:00Z"))), at("2026-01-30T18:30:00Z"));
    }
}
