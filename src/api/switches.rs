//! The operator's switches: read and set on any instance that reaches the database, leader or not.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Operator, Problem};
use crate::ledger::instrument_switches::OF_INSTRUMENTS;
use crate::ledger::release::{Seen, SetError};
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
    #[serde(flatten)]
    seen: SeenText,
}

/// What the author of a release saw, as it came: of a brake it is not looked at, whatever it is.
#[derive(Debug, Deserialize)]
pub(super) struct SeenText {
    epoch: Option<Value>,
    change: Option<Value>,
}

impl SeenText {
    /// What is compared; nothing for a brake.
    pub(super) fn read(self, is_release: bool) -> Result<Seen, Problem> {
        if !is_release {
            return Ok(Seen::default());
        }
        let Self { epoch, change } = self;
        serde_json::from_value(json!({ "epoch": epoch, "change": change })).map_err(|error| {
            bad(format!("epoch and change are whole numbers, as a reading gives them: {error}"))
        })
    }
}

/// Every switch, with who set it and why, and the epoch in force: both are what a release may carry.
pub async fn switches(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let ledger = &context.0.ledger;
    // The epoch first: if leadership moves in between, a release is refused rather than taken for a fresh one.
    let epoch = ledger.epoch_in_force().await?;
    Ok(Json(json!({ "epoch": epoch, "switches": ledger.switch_views().await? })))
}

/// Sets one switch; it holds for every order that is journaled after the answer.
pub async fn set_switch(
    State(context): State<Context>,
    operator: Operator,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let change = change(operator, body)?;
    context.0.ledger.set_switch(&change).await?;
    let SwitchChange { switch, who, why, until, .. } = &change;
    tracing::warn!(switch = %switch, who, until = ?until, "[HA] {switch} is {}: {why}", state(&change));
    switches(State(context)).await
}

/// Sets one switch of one instrument. A route of its own: an instance of an older version, which knows no instrument, would
/// end the cluster's halt where that of an instrument is meant. Here it answers 404.
pub async fn set_instrument_switch(
    State(context): State<Context>,
    operator: Operator,
    Path(instrument): Path<String>,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let change = change(operator, body)?;
    has_switch(&context, &instrument, &change)?;
    context.0.ledger.set_instrument_switch(&instrument, &change).await?;
    let SwitchChange { switch, who, why, until, .. } = &change;
    tracing::warn!(
        switch = %switch, instrument, who, until = ?until, "[HA] {switch} of {instrument} is {}: {why}", state(&change)
    );
    switches(State(context)).await
}

fn state(change: &SwitchChange) -> &'static str {
    if change.on { "on" } else { "off" }
}

/// What an operator's body asks for.
fn change(operator: Operator, body: Result<Json<Wanted>, JsonRejection>) -> Result<SwitchChange, Problem> {
    let wanted = read(body)?;
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
    let on = wanted.on;
    let seen = wanted.seen.read(!on)?;
    Ok(SwitchChange { switch, on, who: operator.name, why, until, seen })
}

/// A slip in the name must not leave the instrument that was meant trading. What is not configured any more can be switched
/// off.
fn has_switch(context: &Context, instrument: &str, change: &SwitchChange) -> Result<(), Problem> {
    if !OF_INSTRUMENTS.contains(&change.switch) {
        let known: Vec<&str> = OF_INSTRUMENTS.iter().map(|switch| switch.as_str()).collect();
        return Err(bad(format!(
            "an instrument has no switch {}; it has {}",
            change.switch,
            known.join(", ")
        )));
    }
    let catalog = &context.0.config.instruments;
    if change.on && catalog.get(instrument).is_none() {
        let known: Vec<&str> = catalog.iter().map(|instrument| instrument.name.as_str()).collect();
        return Err(Problem::not_found(format!(
            "there is no instrument {instrument:?}; known are {}",
            known.join(", ")
        )));
    }
    Ok(())
}

/// Reads the body of a change.
pub(super) fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(wanted)| wanted).map_err(|error| bad(error.body_text()))
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

/// A body that does not say what is needed.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
}

fn bad_until(text: &str) -> Problem {
    bad(format!(
        "until {text:?} is no time to come; use 2026-01-31T15:30:00+05:30, a duration such as 90s, 30m, 2h or 1d, or today"
    ))
}

impl From<SetError> for Problem {
    fn from(error: SetError) -> Self {
        let code = match error {
            SetError::Moved { .. } => "LEADERSHIP_MOVED",
            SetError::SetAnew { .. } | SetError::Restless(_) => "SET_ANEW",
            SetError::Ledger(error) => return error.into(),
        };
        Self::new(StatusCode::CONFLICT, code, error.to_string())
    }
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
