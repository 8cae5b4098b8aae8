//! What a history route is asked for; every fault of the question is listed.

use std::marker::PhantomData;

use axum::extract::{FromRequestParts, Query};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::{Context, Problem};
use crate::domain::fault::Fault;
use crate::domain::order::IntentState;
use crate::domain::sessions::day_start;
use crate::ledger::books::{Filter, Place};
use crate::ledger::inbox::SignalStatus;

/// Rows in a page unless asked for otherwise, and at most.
const DEFAULT_LIMIT: i64 = 100;
const MOST: i64 = 1000;

/// The words that `state` takes for the rows of a route.
pub(super) trait Rows {
    /// None where the rows have no state.
    fn states() -> Vec<&'static str>;
}

/// Rows that have no state.
pub(super) struct Plain;

impl Rows for Plain {
    fn states() -> Vec<&'static str> {
        Vec::new()
    }
}

/// Order intents.
pub(super) struct Orders;

impl Rows for Orders {
    fn states() -> Vec<&'static str> {
        IntentState::ALL.iter().map(|state| state.as_str()).collect()
    }
}

/// Signals.
pub(super) struct Signals;

impl Rows for Signals {
    fn states() -> Vec<&'static str> {
        SignalStatus::ALL.iter().map(|status| status.as_str()).collect()
    }
}

/// What a history route's handler takes: a question about its rows that makes sense, to an instance that can answer.
pub(super) struct Asked<R>(pub Wanted, pub PhantomData<R>);

impl<R: Rows> FromRequestParts<Context> for Asked<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "BAD_QUERY", error.to_string()))?;
        let mut wanted = Wanted::read(&pairs, &R::states())?;
        wanted.csv = wanted.csv.or_else(|| Some(accepts_csv(&parts.headers)));
        context.handle()?;
        Ok(Self(wanted, PhantomData))
    }
}

/// A question that makes sense.
#[derive(Debug)]
pub(super) struct Wanted {
    pub filter: Filter,
    pub cursor: Option<Place>,
    pub limit: i64,
    /// As `format` says, else the `Accept` header.
    csv: Option<bool>,
}

impl Wanted {
    /// Reads the query's pairs; `states` are the words that the rows' states have, if they have any.
    fn read(pairs: &[(String, String)], states: &[&str]) -> Result<Self, Problem> {
        let mut wanted = Self { filter: Filter::default(), cursor: None, limit: DEFAULT_LIMIT, csv: None };
        let mut faults = Vec::new();
        for (index, (name, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                faults.push(Fault::new(name, "is there twice; give it once"));
            } else if let Err(message) = wanted.take(name, value, states) {
                faults.push(Fault::new(name, message));
            }
        }
        if let (Some(from), Some(to)) = (wanted.filter.from, wanted.filter.to)
            && from >= to
        {
            faults.push(Fault::new("from", "is not before `to`; exchange them"));
        }
        if faults.is_empty() {
            return Ok(wanted);
        }
        let detail = "the query is not understood; `faults` lists what is wrong with each parameter";
        Err(Problem::new(StatusCode::BAD_REQUEST, "BAD_QUERY", detail).with_faults(faults))
    }

    /// CSV was asked for.
    pub fn is_csv(&self) -> bool {
        self.csv == Some(true)
    }

    fn take(&mut self, name: &str, value: &str, states: &[&str]) -> Result<(), String> {
        let filter = &mut self.filter;
        match name {
            "instrument" => filter.instrument = Some(text(value)?),
            "strategy" => filter.strategy = Some(text(value)?),
            "from" => filter.from = Some(moment(value, 0)?),
            // A day as the end is meant with all of its hours.
            "to" => filter.to = Some(moment(value, 1)?),
            "state" if !states.is_empty() => filter.states = Some(self::states(value, states)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                self.limit = limit.ok_or_else(|| format!("is {value:?}; give 1 to {MOST}"))?;
            }
            "cursor" => {
                let place = value.parse().map_err(|()| "is no cursor; give the `next` of the page before")?;
                self.cursor = Some(place);
            }
            "format" => {
                self.csv = Some(match value {
                    "csv" => true,
                    "json" => false,
                    other => return Err(format!("is {other:?}; give json or csv")),
                });
            }
            _ if !states.is_empty() => return Err(format!("is not known; {KNOWN} and state are")),
            _ => return Err(format!("is not known; {KNOWN} are")),
        }
        Ok(())
    }
}

fn accepts_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.trim().starts_with("text/csv"))
}

const KNOWN: &str = "instrument, strategy, from, to, limit, cursor, format";

fn text(value: &str) -> Result<String, String> {
    match value.is_empty() || value.contains('\0') {
        true => Err("is empty; give a name or leave it out".to_owned()),
        false => Ok(value.to_owned()),
    }
}

/// A time with its offset, or a day in India: its beginning, or `days` later.
fn moment(value: &str, days: i64) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = NaiveDate::parse_from_str(value, "%Y-%m-%d")
        && let Some(day) = day.checked_add_signed(TimeDelta::days(days)).filter(|_| value.len() == 10)
    {
        return Ok(day_start(day));
    }
    // In a query a plus sign that is not encoded arrives as a space.
    DateTime::parse_from_rfc3339(&value.replace(' ', "+")).map(|time| time.to_utc()).map_err(|_| {
        format!("is {value:?}; give a day in India (2026-08-10) or RFC 3339 with an offset (2026-08-10T09:15:00%2B05:30)")
    })
}

fn states(value: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let states: Vec<String> = value.split(',').map(|state| state.trim().to_owned()).collect();
    let unknown = states.iter().find(|state| !known.contains(&state.as_str()));
    unknown
        .map_or(Ok(states.clone()), |unknown| Err(format!("has {unknown:?}; known are {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)], states: bool) -> Result<Wanted, Problem> {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wanted::read(&pairs, &if states { Orders::states() } else { Plain::states() })
    }

    #[test]
    fn days_are_indian_and_whole_and_an_offset_may_lose_its_plus() {
        let wanted = read(&[("from", "2026-08-10"), ("to", "2026-08-10")], false).unwrap();
        assert_eq!(wanted.filter.from, Some("2026-08-09T18:30:00Z".parse().unwrap()));
        assert_eq!(wanted.filter.to, Some("2026-08-10T18:30:00Z".parse().unwrap()));
        let wanted = read(&[("from", "2026-08-10T09:15:00 05:30")], false).unwrap();
        assert_eq!(wanted.filter.from, Some("2026-08-10T03:45:00Z".parse().unwrap()));
    }

    #[test]
    fn every_fault_of_a_question_is_listed() {
        let query = [
            ("from", "yesterday"),
            ("to", "2026-13-01"),
            ("limit", "0"),
            ("limit", "5"),
            ("cursor", "x"),
            ("format", "xml"),
            ("state", "lost"),
            ("form", "2026-08-10"),
            ("instrument", ""),
        ];
        let document = read(&query, true).unwrap_err().document();
        let fields: Vec<_> =
            document["faults"].as_array().unwrap().iter().map(|fault| &fault["field"]).collect();
        let names: Vec<_> = query.iter().map(|(name, _)| *name).collect();
        assert_eq!(fields, names, "{document}");
        assert_eq!(
            read(&[("state", "filled")], false).unwrap_err().document()["faults"][0]["field"],
            "state"
        );
        let turned = read(&[("from", "2026-08-11"), ("to", "2026-08-10")], false).unwrap_err();
        assert_eq!(turned.document()["faults"][0]["field"], "from");
        for limit in ["1", "1000"] {
            read(&[("limit", limit)], false).unwrap();
        }
        read(&[("limit", "1001")], false).unwrap_err();
    }
}
