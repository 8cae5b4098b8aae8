//! `baton events`: what happened, in one line of time, and what goes on happening.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{Caller, Target};
use super::errors::moment;
use super::output::{Colour, Output, error};
use super::signal::Stop;
use crate::config::Inputs;
use crate::ledger::events::SETTLED;

/// Events that are asked for at once while they are followed.
const PAGE: usize = 1000;

/// `baton events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Switches, strategies, operational states, who led and what was asked of it, notifications: the oldest first, with -o json one
line an event. What was committed late is shown when it is known, so a line may be older than the one above it; none is left
out and none is shown twice.

Examples:
  baton events
  baton events --follow
  baton events --from 2026-08-10T09:15:00+05:30 --limit 1000
  baton events -f -o json | jq 'select(.kind == \"leadership\")'"
)]
pub struct Args {
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
    /// Go on until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// From this moment on (RFC 3339); the newest ones without it.
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// How many at most; while following, how many to begin with.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// How often to look for more, in milliseconds; with --follow.
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=60_000))]
    every_ms: u64,
}

/// An event, as an instance tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    id: String,
    at: DateTime<Utc>,
    kind: String,
    member: Option<String>,
    sentence: String,
    detail: Value,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Event>,
    next: Option<String>,
}

/// Shows events, and those to come.
///
/// # Errors
/// No instance answers the first question; stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen().context("cannot listen for SIGTERM and SIGINT; see the cause")?;
    let caller = args.target.caller(inputs)?;
    let from = args.from.map(|from| format!("&from={}", utc(from))).unwrap_or_default();
    let first = read(&caller, &format!("/api/v1/events?limit={}{from}", args.limit)).await?;
    let mut seen = Seen::default();
    for event in seen.fresh(first.events) {
        show(&event, output)?;
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut away = false;
    loop {
        tokio::select! {
            _ = stop.heard() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(Duration::from_millis(args.every_ms)) => {}
        }
        match since(&caller, seen.from()).await {
            Ok(events) => {
                if std::mem::take(&mut away) {
                    eprintln!("an instance answers again; what happened meanwhile follows");
                }
                for event in seen.fresh(events) {
                    show(&event, output)?;
                }
            }
            // Said once: what happens meanwhile is kept by the ledger and shown afterwards.
            Err(failed) if !away => {
                away = true;
                error(&failed.context("events cannot be read at this moment; asked again until they can"));
            }
            Err(_) => {}
        }
    }
}

/// Everything from a moment on.
async fn since(caller: &Caller, from: DateTime<Utc>) -> anyhow::Result<Vec<Event>> {
    let mut page = read(caller, &format!("/api/v1/events?limit={PAGE}&from={}", utc(from))).await?;
    let mut found = Vec::new();
    loop {
        let full = page.events.len() == PAGE;
        found.append(&mut page.events);
        let Some(next) = page.next.filter(|_| full) else { return Ok(found) };
        page = read(caller, &format!("/api/v1/events?limit={PAGE}&after={next}")).await?;
    }
}

async fn read(caller: &Caller, path: &str) -> anyhow::Result<Page> {
    let page = caller.get(path).await?;
    serde_json::from_value(page).context("the instance answers, but not as one of this version does")
}

fn utc(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// What was shown already.
#[derive(Default)]
struct Seen {
    newest: DateTime<Utc>,
    /// Of the time that is read again.
    ids: BTreeMap<String, DateTime<Utc>>,
}

impl Seen {
    /// Those of `events` that were not shown yet.
    fn fresh(&mut self, events: Vec<Event>) -> Vec<Event> {
        let new = events.into_iter().filter(|event| self.ids.insert(event.id.clone(), event.at).is_none());
        let new: Vec<Event> = new.collect();
        self.newest = new.iter().map(|event| event.at).fold(self.newest, DateTime::max);
        let from = self.from();
        self.ids.retain(|_, at| *at >= from);
        new
    }

    /// From here on a row may still appear that was not there.
    fn from(&self) -> DateTime<Utc> {
        let settled = TimeDelta::from_std(SETTLED).unwrap_or_default();
        self.newest.checked_sub_signed(settled).unwrap_or(self.newest)
    }
}

fn show(event: &Event, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        return Ok(output.json(event)?);
    }
    let colour = match (event.kind.as_str(), event.detail["change"].as_str(), event.detail["to"].as_str()) {
        ("leadership", ..) => Colour::Bold,
        ("notification", Some("dead" | "expired"), _) | ("state", _, Some("ERROR")) => Colour::Red,
        ("switch" | "strategy" | "command", ..) => Colour::Yellow,
        _ => Colour::Dim,
    };
    let kind = output.paint(colour, format!("{:<12}", event.kind));
    Ok(output.line(format!("{}  {kind}  {}", moment(&utc(event.at)), event.sentence))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, second: i64) -> Event {
        let at = DateTime::from_timestamp(1_764_000_000 + second, 0).unwrap();
        Event {
            id: id.to_owned(),
            at,
            kind: "state".to_owned(),
            member: None,
            sentence: String::new(),
            detail: Value::Null,
        }
    }

    fn ids(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.id.as_str()).collect()
    }

    #[test]
    fn what_was_committed_late_is_shown_and_nothing_twice() {
        let mut seen = Seen::default();
        assert_eq!(ids(&seen.fresh(vec![event("a", 100), event("b", 101)])), ["a", "b"]);
        // Its transaction began before b's, and ended after b was read.
        assert_eq!(ids(&seen.fresh(vec![event("a", 100), event("late", 100), event("b", 101)])), ["late"]);
        assert_eq!(ids(&seen.fresh(vec![event("b", 101), event("c", 200)])), ["c"]);
        assert_eq!(seen.from(), event("", 200 - 15).at);
        assert_eq!(seen.ids.len(), 1, "what cannot be read again is forgotten");
        assert!(seen.fresh(vec![event("c", 200)]).is_empty());
    }
}
