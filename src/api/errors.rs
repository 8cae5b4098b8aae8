//! What went wrong, for dashboards and operators: listed, summed up, acknowledged, resolved.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Operator, Problem, bad, read, reason};
use crate::ledger::errors::{Episode, ErrorRow, WordError};
use crate::ledger::repair;

/// Rows in a list unless asked for otherwise.
const DEFAULT_LIMIT: i64 = 100;
/// Most rows in a list.
const MOST: i64 = 10_000;

/// Which part of the list.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Also those that are over.
    #[serde(default)]
    all: bool,
    limit: Option<i64>,
}

/// Which time that an error lasted is meant, and why an operator says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    #[serde(default)]
    reason: String,
    /// As the list has it: an error that ended and came back has another.
    open_since: Option<DateTime<Utc>>,
}

impl Word {
    fn about(&self, id: i64) -> Result<Episode, Problem> {
        let which = "say which time you mean: `open_since` is missing; GET /api/v1/errors has it";
        Ok(Episode { id, open_since: self.open_since.ok_or_else(|| bad(which))? })
    }
}

type Body = Result<Json<Word>, JsonRejection>;

/// Errors that are not over (`?all=true`: all), the newest first.
pub async fn list(State(context): State<Context>, Query(page): Query<Page>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST);
    let errors = context.0.ledger.errors(!page.all, limit).await?;
    Ok(Json(json!({ "errors": errors })))
}

/// Counts by kind: unresolved, occurrences, notified, throttled, first and last.
pub async fn summary(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let types = context.0.ledger.error_summary().await?;
    let sum = |of: fn(&crate::ledger::errors::ErrorSummary) -> i64| types.iter().map(of).sum::<i64>();
    let waiting = context.0.ledger.outbox_depth().await?;
    Ok(Json(json!({
        "unresolved": sum(|t| t.unresolved),
        "unacknowledged": sum(|t| t.unacknowledged),
        "occurrences": sum(|t| t.occurrences),
        "notified": sum(|t| t.notified),
        "throttled": sum(|t| t.throttled),
        "undelivered": waiting,
        "types": types,
    })))
}

/// Takes note of an error: it is told no more until it is over.
pub async fn acknowledge(
    State(context): State<Context>,
    Path(id): Path<i64>,
    operator: Operator,
    body: Body,
) -> Result<Json<ErrorRow>, Problem> {
    context.handle()?;
    let word = read(body)?;
    let by = repair::Operator { name: &operator.name, reason: &reason(&word.reason)? };
    Ok(Json(context.0.ledger.acknowledge_error(word.about(id)?, by).await?))
}

/// Ends an error by the operator's word.
pub async fn resolve(
    State(context): State<Context>,
    Path(id): Path<i64>,
    operator: Operator,
    body: Body,
) -> Result<Json<ErrorRow>, Problem> {
    context.handle()?;
    let word = read(body)?;
    let by = repair::Operator { name: &operator.name, reason: &reason(&word.reason)? };
    Ok(Json(context.0.ledger.resolve_error(word.about(id)?, by).await?))
}

impl From<WordError> for Problem {
    fn from(error: WordError) -> Self {
        match error {
            WordError::NotOpen(_) => Self::not_found(error.to_string()),
            WordError::CameBack { .. } => Self::new(StatusCode::NOT_FOUND, "CAME_BACK", error.to_string()),
            WordError::Ledger(error) => error.into(),
        }
    }
}
