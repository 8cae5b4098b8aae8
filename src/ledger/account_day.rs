//! The account's newest day twice: as its rows have it, and as the audit chain tells it.
//!
//! The database tells the chain of every day that is opened and of every limit that is latched or lifted (V31), whichever version
//! writes it. Only the newest day is kept in mind: nobody goes by an older one.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveDateTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::money::Rupees;

/// The kind of the chain's rows that tell of a day.
pub(super) const DAY: &str = "day";

/// What a day began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The equity, in rupees.
    #[serde(rename = "opening")]
    pub equity: Rupees,
    /// When it was opened, in UTC.
    pub at: NaiveDateTime,
}

/// A limit that was hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latched {
    /// The figures that it was hit by.
    pub sentence: String,
    /// When, in UTC.
    pub at: NaiveDateTime,
}

/// The rows of the newest days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredDays {
    /// What they began with.
    pub openings: BTreeMap<NaiveDate, Opened>,
    /// Their latches, by day and code.
    pub latches: BTreeMap<(NaiveDate, String), Latched>,
}

/// The newest day that the chain tells of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldDay {
    /// What is not here is not, rather than unknown.
    pub complete: bool,
    /// Which day; none if none was told.
    pub day: Option<NaiveDate>,
    /// What it began with.
    pub opening: Option<Opened>,
    /// Its latches, by code.
    pub latches: BTreeMap<String, Latched>,
}

/// A row of the chain, of which it has to be known first whether it is of an older day.
#[derive(Deserialize)]
struct Told {
    day: NaiveDate,
    #[serde(flatten)]
    rest: Value,
}

/// What it may tell.
#[derive(Deserialize)]
#[serde(untagged)]
enum News {
    Opened(Opened),
    Latched {
        latch: String,
        #[serde(flatten)]
        latched: Latched,
    },
    Lifted {
        lifted: String,
    },
}

impl ToldDay {
    /// No day was told of yet, and that is known.
    pub(super) fn from_the_first() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// Takes the next row in; of one that makes no sense nothing is known any more.
    pub(super) fn take(&mut self, payload: &str) {
        let Ok(Told { day, rest }) = serde_json::from_str(payload) else {
            *self = Self::default();
            return;
        };
        if self.day.is_some_and(|newest| day < newest) {
            return;
        }
        let Ok(news) = serde_json::from_value(rest) else {
            *self = Self::default();
            return;
        };
        if self.day != Some(day) {
            if matches!(news, News::Lifted { .. }) {
                return;
            }
            // All of a day that is newer than one that was told comes behind it, if its opening does.
            let opens = matches!(news, News::Opened(_)) && self.day.is_some();
            let complete = self.complete || opens;
            *self = Self { complete, day: Some(day), ..Self::default() };
        }
        match news {
            News::Opened(opened) => self.opening = Some(opened),
            News::Latched { latch, latched } => drop(self.latches.insert(latch, latched)),
            News::Lifted { lifted } => drop(self.latches.remove(&lifted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    const OPENED: &str = r#"{"day": "2026-08-11", "opening": "5000000", "at": "2026-08-11T03:45:00.000125", "session": "baton/b1"}"#;
    const HIT: &str = r#"{"day": "2026-08-11", "latch": "MAX_DAILY_LOSS", "sentence": "much", "at": "2026-08-11T05:00:00"}"#;
    const LIFTED: &str = r#"{"day": "2026-08-11", "lifted": "MAX_DAILY_LOSS", "session": "psql"}"#;

    fn told(mut day: ToldDay, rows: &[&str]) -> ToldDay {
        rows.iter().for_each(|row| day.take(row));
        day
    }

    #[test]
    fn the_newest_day_is_what_its_rows_add_up_to() {
        let day = told(ToldDay::from_the_first(), &[OPENED, HIT]);
        let opening = day.opening.unwrap();
        assert_eq!((day.complete, opening.equity), (true, Rupees(dec!(5000000))));
        assert_eq!(opening.at.to_string(), "2026-08-11 03:45:00.000125");
        assert_eq!(day.latches["MAX_DAILY_LOSS"].sentence, "much");
        let read: ToldDay = serde_json::from_value(serde_json::json!(day)).unwrap();
        assert_eq!(read, day, "as the row of a seal has it");
        // A deposit moves the opening; a latch is lifted by hand.
        let moved = OPENED.replace("5000000", "5000500.5");
        let day = told(day, &[&moved, LIFTED]);
        assert_eq!((day.opening.unwrap().equity, day.latches.len()), (Rupees(dec!(5000500.5)), 0));
    }

    #[test]
    fn what_is_said_of_another_days_latch_makes_nothing_known() {
        let day = ToldDay { day: Some("2026-08-10".parse().unwrap()), ..ToldDay::default() };
        let lifted = told(day.clone(), &[LIFTED]);
        assert_eq!(lifted, day, "nothing is told of the day by it");
        assert!(!told(day.clone(), &[HIT]).complete, "its opening may have been told before");
        assert!(told(day, &[OPENED]).complete);
    }

    #[test]
    fn an_older_day_changes_nothing_and_a_newer_one_begins_anew() {
        let day = told(ToldDay::from_the_first(), &[OPENED, HIT]);
        let older =
            [HIT, OPENED, LIFTED, r#"{"day": "2026-08-11", "latch": "X", "sentence": "", "at": "infinity"}"#]
                .map(|row| row.replace("2026-08-11", "2026-08-10"));
        assert_eq!(told(day.clone(), &older.each_ref().map(String::as_str)), day);
        let next = told(day, &[&HIT.replace("2026-08-11", "2026-08-12")]);
        assert!(next.complete && next.opening.is_none() && next.latches.len() == 1, "{next:?}");
    }

    #[test]
    fn behind_an_older_versions_seal_what_was_not_told_is_unknown_until_the_next_day() {
        let day = told(ToldDay::default(), &[HIT]);
        assert!(!day.complete && day.opening.is_none(), "its opening may have been told before");
        let next = told(day, &[&OPENED.replace("2026-08-11", "2026-08-12")]);
        assert!(next.complete && next.latches.is_empty());
        for nonsense in
            ["{", "{}", r#"{"day": "2026-08-13"}"#, r#"{"day": "2026-08-13", "opening": "NaN", "at": "now"}"#]
        {
            assert_eq!(told(next.clone(), &[nonsense]), ToldDay::default(), "{nonsense}");
        }
    }
}
