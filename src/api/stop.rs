//! `POST /api/shutdown`: the same clean stop as SIGTERM, of the instance that is asked.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Context, Operator, Problem, reason};
use crate::config::ExitPolicy;

/// A stop that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How, by whom and why.
    pub why: String,
    /// Another exit policy than the configured one.
    pub exit_policy: Option<ExitPolicy>,
}

/// Where a stop is asked for; the first one counts.
pub type Stop = mpsc::Sender<Asked>;

/// The stop that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stopping {
    /// What began it: a signal, or whoever asked.
    pub why: String,
    /// What happens to positions when nobody takes over.
    pub exit_policy: ExitPolicy,
}

/// How long an answer waits for a stop that was asked for to begin.
const BEGINS: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    reason: String,
    exit_policy: Option<String>,
}

/// Begins the clean stop of this instance and answers before it is done.
pub async fn shutdown(
    State(context): State<Context>,
    operator: Operator,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail);
    let Json(wanted) = body.map_err(|error| bad(error.body_text()))?;
    let exit_policy = match wanted.exit_policy.as_deref() {
        None => None,
        Some("flatten") => Some(ExitPolicy::Flatten),
        Some("hold") => Some(ExitPolicy::Hold),
        Some(other) => return Err(bad(format!("exit_policy {other:?} is neither flatten nor hold"))),
    };
    let why = format!("POST /api/shutdown by {}: {}", operator.name, reason(&wanted.reason)?);
    // Full or closed: a stop is under way already, which is what was asked for.
    let taken = context.0.stop.try_send(Asked { why: why.clone(), exit_policy }).is_ok();
    let mut draining = context.0.draining.clone();
    let begins = tokio::time::timeout(BEGINS, draining.wait_for(Option::is_some)).await;
    let Some(stopping) = begins.ok().and_then(|begun| begun.ok()?.clone()) else {
        let detail = format!("the stop has not begun within {} s; ask again", BEGINS.as_secs());
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_STOPPING", detail));
    };
    // A signal may have come first; then its policy is in force.
    let status = if taken && stopping.why == why { "stopping" } else { "stopping already" };
    let policy = stopping.exit_policy.as_str();
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": status, "exit_policy": policy }))))
}
