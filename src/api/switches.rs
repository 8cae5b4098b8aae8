//! The operator's switches: read and set on any instance that reaches the database, leader or not.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Operator, Problem};
use crate::ledger::switching::{Switch, SwitchChange};

/// The longest reason that is kept.
const REASON_CHARS: usize = 500;

/// What to set.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    switch: String,
    on: bool,
    #[serde(default)]
    reason: String,
    until: Option<String>,
}

/// Every switch, with who set it and why.
pub async fn switches(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    Ok(Json(json!({ "switches": context.0.ledger.switch_views().await? })))
}

/// Sets one switch; it holds for every order that is journaled after the answer.
pub async fn set_switch(
    State(context): State<Context>,
    operator: Operator,
    body: Result<Json<Wanted>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let Json(wanted) = body.map_err(|error| bad(error.body_text()))?;
    let switch: Switch = wanted.switch.parse().map_err(|_| {
        let known: Vec<&str> = Switch::ALL.iter().map(|switch| switch.as_str()).collect();
        bad(format!("switch {:?} is not one of {}", wanted.switch, known.join(", ")))
    })?;
    let why = super::reason(&wanted.reason)?;
    let now = Utc::now();
    let until =
        wanted.until.as_deref().map(|text| until(text, now).ok_or_else(|| bad_until(text))).transpose()?;
    if until.is_some() && !wanted.on {
        return Err(bad("`until` belongs to switching on; leave it out to switch off".to_owned()));
    }
    let change = SwitchChange { switch, on: wanted.on, who: operator.name, why, until };
    context.0.ledger.set_switch(&change).await?;
    let state = if change.on { "on" } else { "off" };
    tracing::warn!(switch = %switch, who = change.who, until = ?change.until, "[HA] {switch} is {state}: {}", change.why);
    Ok(Json(json!({ "switches": context.0.ledger.switch_views().await? })))
}

/// A reason, which every change needs.
pub(super) fn reason(text: &str) -> Result<String, Problem> {
    let reason: String = text.trim().chars().filter(|c| !c.is_control()).take(REASON_CHARS).collect();
    if reason.is_empty() { Err(bad("say why: `reason` is missing".to_owned())) } else { Ok(reason) }
}

/// When a switch ends: an RFC 3339 time, a duration such as `90s`, `30m`, `2h`, or `today` (midnight in India).
fn until(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let end = if text == "today" {
        let ist = TimeDelta::minutes(330);
        let midnight = (now + ist).date_naive().checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN);
        midnight.and_utc() - ist
    } else if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        time.to_utc()
    } else {
        let unit = text.chars().last()?;
        let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        now.checked_add_signed(TimeDelta::try_seconds(count.checked_mul(seconds)?)?)?
    };
    (end > now).then_some(end)
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
}

fn bad_until(text: &str) -> Problem {
    bad(format!(
        "until {text:?} is no time to come; use 2026-01-31T15:30:00+05:30, a duration such as 90s, 30m, 2h or 1d, or today"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_a_duration_or_the_days() {
        let now: DateTime<Utc> = "2026-01-30T20:00:00Z".parse().unwrap();
        let ends = |text: &str| until(text, now).map(|end| end.to_rfc3339());
        assert_eq!(ends("30m").as_deref(), Some("2026-01-30T20:30:00+00:00"));
        assert_eq!(ends("1d").as_deref(), Some("2026-01-31T20:00:00+00:00"));
        // 01:30 on the 31st in India: its midnight is 18:30 UTC.
        assert_eq!(ends("today").as_deref(), Some("2026-01-31T18:30:00+00:00"));
        assert_eq!(ends("2026-01-31T15:30:00+05:30").as_deref(), Some("2026-01-31T10:00:00+00:00"));
        for text in ["", "h", "0s", "-5m", "5 minutes", "2020-01-01T00:00:00Z", "99999999999999999999d", "é"]
        {
            assert_eq!(ends(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_change_needs_a_reason() {
        assert!(reason("  ").is_err());
        assert_eq!(reason(" a\nb ").unwrap(), "ab");
    }
}
