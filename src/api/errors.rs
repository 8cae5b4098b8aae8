//! What went wrong, for dashboards and operators: listed, summed up, acknowledged, resolved.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Operator, Problem, reason_if_given};
use crate::ledger::errors::ErrorRow;
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

/// Why an operator says so.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// None from a command line of an older version.
    reason: Option<String>,
}

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
    body: Option<Json<Word>>,
) -> Result<Json<ErrorRow>, Problem> {
    context.handle()?;
    let why = reason_if_given(body.and_then(|Json(word)| word.reason))?;
    let by = repair::Operator { name: &operator.name, reason: &why };
    let row = context.0.ledger.acknowledge_error(id, by).await?;
    row.map(Json).ok_or_else(|| gone(id))
}

/// Ends an error by the operator's word.
pub async fn resolve(
    State(context): State<Context>,
    Path(id): Path<i64>,
    operator: Operator,
    body: Option<Json<Word>>,
) -> Result<Json<ErrorRow>, Problem> {
    context.handle()?;
    let why = reason_if_given(body.and_then(|Json(word)| word.reason))?;
    let by = repair::Operator { name: &operator.name, reason: &why };
    let row = context.0.ledger.resolve_error(id, by).await?;
    row.map(Json).ok_or_else(|| gone(id))
}

fn gone(id: i64) -> Problem {
    Problem::not_found(format!("there is no unresolved error {id}; `baton errors` lists them"))
}
