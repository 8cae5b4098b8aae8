//! The account's newest day, its rows against what the audit log tells of it.

use chrono::NaiveDate;

use crate::ledger::account_day::{Latched, Opened, StoredDays, ToldDay};
use crate::ledger::snapshot::{NOTHING, Snapshot};
use crate::recovery::report::Finding;

/// A row that is not what the log tells, or is one of the two alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::recovery) enum OffDay {
    /// What the day began with.
    Opening {
        /// The day.
        day: NaiveDate,
        /// Its row.
        stored: Option<Opened>,
        /// What was told.
        told: Option<Opened>,
    },
    /// A limit that was hit.
    Latch {
        /// The day.
        day: NaiveDate,
        /// The limit's code.
        code: String,
        /// Its row.
        stored: Option<Latched>,
        /// What was told.
        told: Option<Latched>,
    },
}

/// What is off. Nobody goes by a day before the newest one, so the log's word of those is not kept.
pub(in crate::recovery) fn off_day(stored: &StoredDays, told: &ToldDay) -> Vec<OffDay> {
    // A row that the log does not tell of is wrong where the log would tell of it.
    let is_untold = |day: NaiveDate| told.complete && told.day.is_none_or(|newest| day >= newest);
    let opened = |day| told.opening.filter(|_| told.day == Some(day));
    let latched = |day, code: &str| told.latches.get(code).filter(|_| told.day == Some(day));
    let mut off = Vec::new();
    for (&day, &row) in &stored.openings {
        let told = opened(day);
        if told.map_or(is_untold(day), |told| told != row) {
            off.push(OffDay::Opening { day, stored: Some(row), told });
        }
    }
    for ((day, code), row) in &stored.latches {
        let told = latched(*day, code);
        if told.map_or(is_untold(*day), |told| told != row) {
            let (code, stored) = (code.clone(), Some(row.clone()));
            off.push(OffDay::Latch { day: *day, code, stored, told: told.cloned() });
        }
    }
    let Some(day) = told.day else { return off };
    if told.opening.is_some() && !stored.openings.contains_key(&day) {
        off.push(OffDay::Opening { day, stored: None, told: told.opening });
    }
    for (code, latched) in &told.latches {
        if !stored.latches.contains_key(&(day, code.clone())) {
            off.push(OffDay::Latch { day, code: code.clone(), stored: None, told: Some(latched.clone()) });
        }
    }
    off
}

impl OffDay {
    /// Its table.
    pub(in crate::recovery) fn table(&self) -> &'static str {
        match self {
            Self::Opening { .. } => "trading_day",
            Self::Latch { .. } => "limit_latch",
        }
    }

    /// Its row's key, for people.
    pub(in crate::recovery) fn row(&self) -> String {
        match self {
            Self::Opening { day, .. } => day.to_string(),
            Self::Latch { day, code, .. } => format!("{day} {code}"),
        }
    }

    /// The column that is off, or the whole row.
    pub(in crate::recovery) fn field(&self) -> &'static str {
        match self {
            Self::Opening { stored: Some(row), told: Some(told), .. } if row.equity != told.equity => {
                "opening_equity"
            }
            Self::Opening { stored: Some(_), told: Some(_), .. } => "opened_at",
            Self::Latch { stored: Some(row), told: Some(told), .. } if row.sentence != told.sentence => {
                "sentence"
            }
            Self::Latch { stored: Some(_), told: Some(_), .. } => "at",
            _ => "row",
        }
    }

    /// What is stored and what was told, for people.
    pub(in crate::recovery) fn shown(&self) -> (String, String) {
        let both = |[stored, told]: [Option<String>; 2]| {
            let or_nothing = |shown: Option<String>| shown.unwrap_or_else(|| NOTHING.to_owned());
            (or_nothing(stored), or_nothing(told))
        };
        match self {
            Self::Opening { stored, told, .. } => both(
                [stored, told]
                    .map(|row| row.map(|row| format!("{} at {} UTC", row.equity.0.normalize(), row.at))),
            ),
            Self::Latch { stored, told, .. } => both(
                [stored, told]
                    .map(|row| row.as_ref().map(|row| format!("{} at {} UTC", row.sentence, row.at))),
            ),
        }
    }
}

/// V11. What the newest day began with, and which limits were hit in it.
pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let off = off_day(&snapshot.days, &snapshot.recorded.day);
    let finding = |off: OffDay| {
        let (stored, told) = off.shown();
        Finding::mismatch(off.table(), off.row(), off.field(), stored, told)
    };
    off.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{NaiveDateTime, TimeDelta};
    use rust_decimal::dec;

    use super::*;
    use crate::domain::fixtures;
    use crate::domain::money::Rupees;

    fn at() -> NaiveDateTime {
        fixtures::at(0).naive_utc()
    }

    fn today() -> NaiveDate {
        at().date()
    }

    fn opened() -> Opened {
        Opened { equity: Rupees(dec!(5000000)), at: at() }
    }

    fn hit() -> Latched {
        Latched { sentence: "much".to_owned(), at: at() }
    }

    fn told() -> ToldDay {
        let latches = BTreeMap::from([("MAX_DRAWDOWN".to_owned(), hit())]);
        ToldDay { complete: true, day: Some(today()), opening: Some(opened()), latches }
    }

    fn stored() -> StoredDays {
        StoredDays {
            openings: BTreeMap::from([(today(), opened()), (today() - TimeDelta::days(1), opened())]),
            latches: BTreeMap::from([((today(), "MAX_DRAWDOWN".to_owned()), hit())]),
        }
    }

    fn named(stored: &StoredDays, told: &ToldDay) -> Vec<String> {
        let off = off_day(stored, told);
        off.iter().map(|off| format!("{} {} {}", off.table(), off.row(), off.field())).collect()
    }

    #[test]
    fn rows_that_are_what_was_told_are_whole_and_older_ones_are_not_looked_at() {
        assert_eq!(named(&stored(), &told()), [""; 0]);
        let mut older = stored();
        older.openings.insert(today() - TimeDelta::days(1), Opened { equity: Rupees::ZERO, ..opened() });
        assert_eq!(named(&older, &told()), [""; 0]);
    }

    #[test]
    fn each_row_that_is_another_or_gone_or_nobodys_is_named() {
        let (day, next) = (today(), today() + TimeDelta::days(1));
        type Damage = Box<dyn Fn(&mut StoredDays)>;
        let latch = move |code: &str| (day, code.to_owned());
        let cases: [(String, Damage); 7] = [
            (
                format!("trading_day {day} opening_equity"),
                Box::new(move |days| days.openings.get_mut(&day).unwrap().equity = Rupees::ZERO),
            ),
            (
                format!("trading_day {day} opened_at"),
                Box::new(move |days| days.openings.get_mut(&day).unwrap().at += TimeDelta::microseconds(1)),
            ),
            (
                format!("trading_day {day} row"),
                Box::new(move |days| days.openings.retain(|of, _| *of != day)),
            ),
            (
                format!("trading_day {next} row"),
                Box::new(move |days| days.openings.extend([(next, opened())])),
            ),
            (
                format!("limit_latch {day} MAX_DRAWDOWN sentence"),
                Box::new(move |days| days.latches.values_mut().for_each(|row| row.sentence.clear())),
            ),
            (format!("limit_latch {day} MAX_DRAWDOWN row"), Box::new(|days| days.latches.clear())),
            (
                format!("limit_latch {day} MAX_DAILY_LOSS row"),
                Box::new(move |days| drop(days.latches.insert(latch("MAX_DAILY_LOSS"), hit()))),
            ),
        ];
        for (name, damage) in cases {
            let mut days = stored();
            damage(&mut days);
            assert_eq!(named(&days, &told()), [name]);
        }
        assert_eq!(
            named(&stored(), &ToldDay { complete: true, ..ToldDay::default() }).len(),
            3,
            "none was told"
        );
    }

    #[test]
    fn what_the_log_may_have_told_before_is_not_held_against_a_row() {
        assert_eq!(named(&stored(), &ToldDay::default()), [""; 0]);
        let partly = ToldDay { complete: false, opening: None, ..told() };
        assert_eq!(named(&stored(), &partly), [""; 0]);
        let mut days = stored();
        days.latches.clear();
        assert_eq!(
            named(&days, &partly),
            [format!("limit_latch {} MAX_DRAWDOWN row", today())],
            "that one was told"
        );
    }
}
