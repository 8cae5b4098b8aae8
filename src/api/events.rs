//! What happened, in one line of time.

use axum::Json;
use axum::extract::{Query, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Problem};
use crate::ledger::events::{After, Since};

/// Events in an answer unless asked for otherwise, and at most.
const PAGE: i64 = 100;
const LONGEST: i64 = 1000;

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Behind the last one of an earlier answer: its `next`.
    after: Option<String>,
    /// From this moment on (RFC 3339).
    from: Option<DateTime<Utc>>,
    limit: Option<i64>,
}

/// Events, the oldest first: those behind `after`, or from `from` on, or the newest. `next` is the `after` of the next answer;
/// there is one as soon as anything has happened.
pub async fn events(
    State(context): State<Context>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let since = match (&wanted.after, wanted.from) {
        (Some(_), Some(_)) => return Err(bad("give `after` or `from`, not both")),
        (Some(after), None) => Since::Event(after.parse::<After>().map_err(|()| {
            bad("`after` is no place of an earlier answer; leave it out to begin with the newest")
        })?),
        (None, Some(from)) => Since::Time(from),
        (None, None) => Since::Latest,
    };
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, LONGEST);
    let events = context.0.ledger.events(&since, limit).await?;
    let next = events.last().map(|event| After::from(event).to_string()).or(wanted.after);
    Ok(Json(json!({ "events": events, "next": next })))
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "BAD_QUERY", detail)
}
