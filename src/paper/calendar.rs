//! Trading hours and holidays, as the bridge's own calendar table serves them. Pure: the date is passed in.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveTime, TimeZone, Weekday};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Hours and minutes of an exchange's normal session, IST.
struct Session {
    exchange: &'static str,
    opens: (u32, u32),
    closes: (u32, u32),
}

const fn session(exchange: &'static str, opens: (u32, u32), closes: (u32, u32)) -> Session {
    Session { exchange, opens, closes }
}

/// The one that never closes.
const ROUND_THE_CLOCK: &str = "CRYPTO";

const SESSIONS: [Session; 8] = [
    session("NSE", (9, 15), (15, 30)),
    session("BSE", (9, 15), (15, 30)),
    session("NFO", (9, 15), (15, 30)),
    session("BFO", (9, 15), (15, 30)),
    session("CDS", (9, 0), (17, 0)),
    session("BCD", (9, 0), (17, 0)),
    session("MCX", (9, 0), (23, 55)),
    session(ROUND_THE_CLOCK, (0, 0), (23, 59)),
];

/// India Standard Time, without daylight saving.
pub fn ist() -> FixedOffset {
    FixedOffset::east_opt(5 * 3600 + 1800).expect("5 h 30 min is within a day")
}

/// A day on which all exchanges but CRYPTO are closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holiday {
    /// The day, IST.
    pub date: NaiveDate,
    /// Its name.
    pub description: String,
}

/// What the calendar routes answer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calendar {
    /// Every exchange is open all day, every day: replays and demos run at any hour.
    #[default]
    AlwaysOpen,
    /// Real session hours, closed at weekends and on these days.
    Exchange(Vec<Holiday>),
    /// Every exchange is open between these hours, IST, every day.
    Hours {
        /// When they open.
        opens: NaiveTime,
        /// When they close.
        closes: NaiveTime,
    },
}

impl Calendar {
    /// Rows of `market/holidays` for a year.
    pub fn holidays(&self, year: i32) -> Vec<Value> {
        let Self::Exchange(days) = self else { return Vec::new() };
        let exchanges = SESSIONS.iter().map(|session| session.exchange);
        let closed: Vec<&str> = exchanges.filter(|exchange| *exchange != ROUND_THE_CLOCK).collect();
        days.iter()
            .filter(|day| day.date.year() == year)
            .map(|day| {
                json!({
                    "date": day.date.format("%Y-%m-%d").to_string(),
                    "description": day.description,
                    "holiday_type": "TRADING_HOLIDAY",
                    "closed_exchanges": closed,
                    "open_exchanges": [],
                })
            })
            .collect()
    }

    /// Rows of `market/timings` for a day: exchange, opening and closing in epoch milliseconds.
    pub fn timings(&self, date: NaiveDate) -> Vec<Value> {
        let closed = match self {
            Self::AlwaysOpen | Self::Hours { .. } => false,
            Self::Exchange(days) => {
                matches!(date.weekday(), Weekday::Sat | Weekday::Sun)
                    || days.iter().any(|day| day.date == date)
            }
        };
        SESSIONS
            .iter()
            .filter(|session| !closed || session.exchange == ROUND_THE_CLOCK)
            .map(|session| {
                let (opens, closes) = match self {
                    Self::AlwaysOpen => (time((0, 0)), time((23, 59))),
                    Self::Exchange(_) => (time(session.opens), time(session.closes)),
                    Self::Hours { opens, closes } => (*opens, *closes),
                };
                json!({
                    "exchange": session.exchange,
                    "start_time": epoch_ms(date, opens),
                    "end_time": epoch_ms(date, closes),
                })
            })
            .collect()
    }
}

fn time((hour, minute): (u32, u32)) -> NaiveTime {
    NaiveTime::from_hms_opt(hour, minute, 0).unwrap_or(NaiveTime::MIN)
}

fn epoch_ms(date: NaiveDate, time: NaiveTime) -> i64 {
    let local: Option<DateTime<FixedOffset>> = ist().from_local_datetime(&date.and_time(time)).single();
    // A fixed offset maps every local time to exactly one instant; 0 is never reached.
    local.map_or(0, |at| at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn exchange_hours_close_at_weekends_and_on_holidays() {
        let calendar =
            Calendar::Exchange(vec![Holiday { date: day("2025-12-25"), description: "Christmas".into() }]);
        assert_eq!(calendar.timings(day("2025-12-24")).len(), SESSIONS.len());
        for closed in ["2025-12-25", "2025-12-27"] {
            let rows = calendar.timings(day(closed));
            assert_eq!(rows.len(), 1, "{closed}");
            assert_eq!(rows[0]["exchange"], "CRYPTO");
        }
        assert_eq!(calendar.holidays(2025).len(), 1);
        assert!(calendar.holidays(2026).is_empty());
    }

    #[test]
    fn hours_are_india_standard_time() {
        let rows = Calendar::Exchange(Vec::new()).timings(day("2025-12-24"));
        let nse = rows.iter().find(|row| row["exchange"] == "NSE").unwrap();
        // 09:15 IST is 03:45 UTC.
        assert_eq!(
            nse["start_time"],
            day("2025-12-24").and_hms_opt(3, 45, 0).unwrap().and_utc().timestamp_millis()
        );
    }

    #[test]
    fn hours_of_ones_own_hold_for_every_exchange_and_day() {
        let text = r#"{"hours": {"opens": "18:00:00", "closes": "19:00:30"}}"#;
        let calendar: Calendar = serde_json::from_str(text).unwrap();
        let sunday = day("2026-11-08");
        let rows = calendar.timings(sunday);
        assert_eq!((rows.len(), calendar.holidays(2026).len()), (SESSIONS.len(), 0));
        let closes = sunday.and_hms_opt(13, 30, 30).unwrap().and_utc().timestamp_millis();
        assert!(rows.iter().all(|row| row["end_time"] == closes));
    }

    #[test]
    fn always_open_means_weekends_too() {
        assert_eq!(Calendar::AlwaysOpen.timings(day("2025-12-27")).len(), SESSIONS.len());
    }
}
