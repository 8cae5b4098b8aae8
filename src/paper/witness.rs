//! What reached the bridge: every order request at its arrival, before anything looks at it, and what became of it.
//!
//! The file has one JSON object a line: `event` is `received`, `outcome` or `fill`, `arrival` is the request's
//! number, `at` the wall-clock time, `elapsed_us` the monotonic one. A line is written whole, in one write, before
//! the request goes on, so it survives a kill of any agent (and of this process, fsync aside).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use serde_json::{Value, json};

use super::http::Verb;

/// Lines kept in memory for `GET /_ctl/log`.
const KEPT_LINES: usize = 10_000;

/// One order request as it arrived, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Arrival {
    /// Its number, counted from 1 over all order requests.
    pub arrival: u64,
    /// The route.
    pub verb: Verb,
    /// Wall-clock time of arrival, IST.
    pub received_at: DateTime<FixedOffset>,
    /// Microseconds since the bridge's start, monotonic.
    pub elapsed_us: u64,
    /// The body, with the API key masked; a string when it was not JSON.
    pub body: Value,
    /// The order it made or named, once that is known.
    pub orderid: Option<String>,
    /// Whether it was carried out; `None` while it is worked on.
    pub done: Option<bool>,
    /// HTTP status answered; 0 when the connection was cut; `None` while it is worked on.
    pub answered: Option<u16>,
    /// Faults it met.
    pub faults: Vec<Value>,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) orderid: Option<String>,
    pub(super) done: bool,
    /// `None` = cut.
    pub(super) status: Option<u16>,
    pub(super) answer: Value,
    pub(super) faults: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Witness {
    arrivals: VecDeque<Arrival>,
    received: u64,
    max_arrivals: usize,
    lines: VecDeque<Value>,
    line: u64,
    file: Option<File>,
    /// Set when a line could not be written; the witness then answers every later request with an error.
    broken: Option<String>,
}

impl Witness {
    pub(super) fn open(path: Option<&Path>, max_arrivals: usize) -> io::Result<Self> {
        let file = path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        Ok(Self {
            arrivals: VecDeque::new(),
            received: 0,
            max_arrivals,
            lines: VecDeque::new(),
            line: 0,
            file,
            broken: None,
        })
    }

    /// Records an order request before anything is done with it.
    pub(super) fn received(
        &mut self,
        verb: Verb,
        body: Value,
        at: DateTime<FixedOffset>,
        elapsed: Duration,
    ) -> Arrival {
        self.received += 1;
        let arrival = Arrival {
            arrival: self.received,
            verb,
            received_at: at,
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            body,
            orderid: None,
            done: None,
            answered: None,
            faults: Vec::new(),
        };
        self.write(json!({
            "event": "received", "arrival": arrival.arrival, "verb": verb, "at": at,
            "elapsed_us": arrival.elapsed_us, "body": arrival.body,
        }));
        if self.arrivals.len() >= self.max_arrivals {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(arrival.clone());
        arrival
    }

    /// Records what became of it.
    pub(super) fn outcome(
        &mut self,
        arrival: u64,
        outcome: Outcome,
        at: DateTime<FixedOffset>,
        elapsed: Duration,
    ) {
        let verb = self.find(arrival).map(|known| known.verb);
        self.write(json!({
            "event": "outcome", "arrival": arrival, "verb": verb, "at": at,
            "elapsed_us": u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "orderid": outcome.orderid, "done": outcome.done, "status": outcome.status,
            "cut": outcome.status.is_none(), "answer": outcome.answer, "faults": outcome.faults,
        }));
        if let Some(known) = self.find(arrival) {
            known.orderid = outcome.orderid;
            known.done = Some(outcome.done);
            known.answered = Some(outcome.status.unwrap_or(0));
            known.faults = outcome.faults;
        }
    }

    fn find(&mut self, arrival: u64) -> Option<&mut Arrival> {
        let first = self.arrivals.front()?.arrival;
        let index = usize::try_from(arrival.checked_sub(first)?).ok()?;
        self.arrivals.get_mut(index)
    }

    /// Appends a line to the file and to the kept ones.
    pub(super) fn write(&mut self, mut line: Value) {
        self.line += 1;
        if let Value::Object(fields) = &mut line {
            fields.insert("line".to_owned(), self.line.into());
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(format!("{line}\n").as_bytes())
            && self.broken.is_none()
        {
            tracing::error!(%error, "paper bridge cannot write its log; it refuses requests from now on");
            self.broken = Some(error.to_string());
        }
        if self.lines.len() >= KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Why the log is not complete any more. A witness that missed something must not pretend otherwise.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(super) fn arrivals(&self) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter()
    }

    /// Kept lines with a number above `after`.
    pub(super) fn lines_after(&self, after: u64) -> Vec<Value> {
        self.lines
            .iter()
            .filter(|line| line["line"].as_u64().is_some_and(|number| number > after))
            .cloned()
            .collect()
    }
}
