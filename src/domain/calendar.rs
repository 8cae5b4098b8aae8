//! When exchanges are open: the sessions of one day, from the bridge or, failing that, from a dated table.
//!
//! Times of day are India Standard Time. What is not known is closed: no session found means no entries.

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveTime, TimeZone, Utc, Weekday};

/// India Standard Time: no daylight saving.
pub const IST: FixedOffset = FixedOffset::east_opt(5 * 3600 + 1800).expect("5 h 30 min is within a day");

/// One session of one exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarketSession {
    /// Exchange code, e.g. `MCX`.
    pub exchange: String,
    /// From.
    pub opens: DateTime<Utc>,
    /// Until, exclusive.
    pub closes: DateTime<Utc>,
}

/// Where a day's sessions come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CalendarSource {
    /// The bridge's calendar, holidays and special sessions included.
    Bridge,
    /// The built-in table: weekdays only, no holidays.
    Table,
}

/// All sessions of one day, IST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarketDay {
    /// The day.
    pub date: NaiveDate,
    /// Where they come from.
    pub source: CalendarSource,
    sessions: Vec<MarketSession>,
}

/// Normal sessions as of August 2026: exchange, opening, closing.
const TABLE: [(&str, (u32, u32), (u32, u32)); 7] = [
    ("NSE", (9, 15), (15, 30)),
    ("BSE", (9, 15), (15, 30)),
    ("NFO", (9, 15), (15, 40)),
    ("BFO", (9, 15), (15, 40)),
    ("CDS", (9, 0), (17, 0)),
    ("BCD", (9, 0), (17, 0)),
    ("MCX", (9, 0), (23, 55)),
];
/// MCX closes earlier while the United States are on daylight saving time.
const MCX_SUMMER_CLOSE: (u32, u32) = (23, 30);

/// The day that it is in India.
pub fn day_of(at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&IST).date_naive()
}

impl MarketDay {
    /// The sessions that the bridge gives for a day; none at all means that everything is closed.
    pub fn of_bridge(date: NaiveDate, sessions: Vec<MarketSession>) -> Self {
        Self { date, source: CalendarSource::Bridge, sessions }
    }

    /// The built-in table's sessions of a day: it knows weekends, and no holidays.
    pub fn of_table(date: NaiveDate) -> Self {
        let is_weekend = matches!(date.weekday(), Weekday::Sat | Weekday::Sun);
        let rows = TABLE.iter().filter(|_| !is_weekend);
        let sessions = rows.filter_map(|(exchange, opens, closes)| {
            let closes = if *exchange == "MCX" && is_us_summer(date) { MCX_SUMMER_CLOSE } else { *closes };
            Some(MarketSession {
                exchange: (*exchange).to_owned(),
                opens: instant(date, *opens)?,
                closes: instant(date, closes)?,
            })
        });
        Self { date, source: CalendarSource::Table, sessions: sessions.collect() }
    }

    /// Whether an exchange is open at `at`; an exchange or a day that is not known is closed.
    pub fn is_open(&self, exchange: &str, at: DateTime<Utc>) -> bool {
        self.sessions
            .iter()
            .any(|session| session.exchange == exchange && (session.opens..session.closes).contains(&at))
    }

    /// The exchanges that are open at `at`, sorted.
    pub fn open_exchanges(&self, at: DateTime<Utc>) -> Vec<&str> {
        let open = self.sessions.iter().filter(|session| (session.opens..session.closes).contains(&at));
        let mut open: Vec<_> = open.map(|session| session.exchange.as_str()).collect();
        open.sort_unstable();
        open.dedup();
        open
    }

    /// The first opening of any exchange.
    pub fn first_opening(&self) -> Option<DateTime<Utc>> {
        self.sessions.iter().map(|session| session.opens).min()
    }
}

fn instant(date: NaiveDate, (hour, minute): (u32, u32)) -> Option<DateTime<Utc>> {
    let local = date.and_time(NaiveTime::from_hms_opt(hour, minute, 0)?);
    Some(IST.from_local_datetime(&local).single()?.with_timezone(&Utc))
}

/// From the second Sunday of March to the first of November.
fn is_us_summer(date: NaiveDate) -> bool {
    let sunday = |month, nth: u64| {
        let first = NaiveDate::from_ymd_opt(date.year(), month, 1)?;
        let to_sunday = (7 - u64::from(first.weekday().num_days_from_sunday())) % 7;
        first.checked_add_days(Days::new(to_sunday + 7 * (nth - 1)))
    };
    match (sunday(3, 2), sunday(11, 1)) {
        (Some(begins), Some(ends)) => (begins..ends).contains(&date),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn the_table_knows_hours_and_weekends() {
        let monday = MarketDay::of_table(day("2026-08-10"));
        assert!(!monday.is_open("NFO", at("2026-08-10T09:14:59+05:30")));
        assert!(monday.is_open("NFO", at("2026-08-10T09:15:00+05:30")));
        assert!(monday.is_open("NFO", at("2026-08-10T15:39:59+05:30")));
        assert!(!monday.is_open("NFO", at("2026-08-10T15:40:00+05:30")));
        assert!(!monday.is_open("NSE", at("2026-08-10T15:35:00+05:30")));
        assert!(!monday.is_open("NFO", at("2026-08-11T10:00:00+05:30")), "another day");
        assert!(!monday.is_open("NASDAQ", at("2026-08-10T10:00:00+05:30")), "unknown is closed");
        let sunday = MarketDay::of_table(day("2026-08-09"));
        assert!(!sunday.is_open("NFO", at("2026-08-09T10:00:00+05:30")));
        assert_eq!(sunday.first_opening(), None);
    }

    #[test]
    fn mcx_closes_by_new_yorks_clock() {
        for (date, summer) in
            [("2026-03-06", false), ("2026-03-09", true), ("2026-10-30", true), ("2026-11-02", false)]
        {
            let table = MarketDay::of_table(day(date));
            assert_eq!(!table.is_open("MCX", at(&format!("{date}T23:40:00+05:30"))), summer, "{date}");
            assert!(table.is_open("MCX", at(&format!("{date}T23:20:00+05:30"))), "{date}");
        }
    }

    #[test]
    fn the_bridge_may_open_a_weekend_and_close_a_weekday() {
        let sunday = day("2026-11-08");
        let session = MarketSession {
            exchange: "NSE".to_owned(),
            opens: at("2026-11-08T18:00:00+05:30"),
            closes: at("2026-11-08T19:00:00+05:30"),
        };
        let diwali = MarketDay::of_bridge(sunday, vec![session]);
        assert!(diwali.is_open("NSE", at("2026-11-08T18:30:00+05:30")));
        let holiday = MarketDay::of_bridge(day("2026-08-10"), Vec::new());
        assert!(!holiday.is_open("NFO", at("2026-08-10T10:00:00+05:30")));
    }

    #[test]
    fn the_day_is_indias() {
        assert_eq!(day_of(at("2026-08-09T18:29:59Z")), day("2026-08-09"));
        assert_eq!(day_of(at("2026-08-09T18:30:00Z")), day("2026-08-10"));
    }
}
