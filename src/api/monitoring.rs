//! What this instance depends on, as it last looked, or looks now.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Operator, Problem, read, reason};
use crate::health::rounds::Report;
use crate::ledger::repair;

/// How long an answer waits for a round that was asked for; less than a request may take.
const ROUND: Duration = Duration::from_secs(8);

/// The last round of checks.
pub async fn checks(State(context): State<Context>) -> Json<Value> {
    Json(last_round(&context))
}

/// The same as a document.
pub(super) fn last_round(context: &Context) -> Value {
    let report = context.0.rounds.watch().borrow().clone();
    shown(context, report)
}

/// A round of checks now; `fresh` is false when it takes longer than an answer may.
pub async fn check(State(context): State<Context>, operator: Operator) -> Json<Value> {
    tracing::info!(operator = operator.name, "[HEALTH-CHECK] a round was asked for");
    let before = context.0.rounds.watch().borrow().as_ref().map_or(0, |report| report.round);
    let report = context.0.rounds.looked(ROUND).await;
    let fresh = report.as_ref().is_some_and(|report| report.round > before);
    let mut answer = shown(&context, report);
    answer["fresh"] = json!(fresh);
    answer["warnings"] = json!(context.0.config.warnings());
    Json(answer)
}

fn shown(context: &Context, report: Option<Report>) -> Value {
    let instance = &context.0.config.cluster.member;
    let operational = context.operational();
    match report {
        Some(report) => {
            let healthy = report.failing().next().is_none();
            json!({ "member": instance, "healthy": healthy, "operational": operational, "report": report })
        }
        // The first round is under way.
        None => {
            json!({ "member": instance, "healthy": false, "operational": operational, "status": "initializing" })
        }
    }
}

/// Changes in a page unless asked for otherwise, and at most.
const PAGE: i64 = 100;
const LONGEST: i64 = 1000;

/// Which changes of states.
#[derive(Debug, Deserialize)]
pub struct Changes {
    /// One member's; all when it is not given.
    member: Option<String>,
    before: Option<i64>,
    limit: Option<i64>,
}

/// How operational states changed, the newest first; `next` is the `before` of the next page.
pub async fn states(
    State(context): State<Context>,
    Query(page): Query<Changes>,
) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, LONGEST);
    let changes = context.0.ledger.state_history(page.member.as_deref(), page.before, limit).await?;
    let more = usize::try_from(limit).is_ok_and(|limit| changes.len() == limit);
    let next = changes.last().filter(|_| more).map(|change| change.id);
    Ok(Json(json!({ "changes": changes, "next": next })))
}

/// Whose storm.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// One member; all when it is not given.
    member: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Acknowledges a restart storm: the members that wait for it go on.
pub async fn acknowledge_storm(
    State(context): State<Context>,
    operator: Operator,
    body: Result<Json<Storm>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Storm { member, reason: why } = read(body)?;
    let by = repair::Operator { name: &operator.name, reason: &reason(&why)? };
    let starts = context.0.ledger.acknowledge_starts(member.as_deref(), by).await?;
    tracing::info!(operator = operator.name, member, starts, "[STATE] a restart storm was acknowledged");
    Ok(Json(json!({ "acknowledged_starts": starts, "member": member })))
}
