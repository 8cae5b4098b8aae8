//! `POST /api/shutdown`: the same clean stop as SIGTERM, of the instance that is asked.

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
    /// By whom and why.
    pub why: String,
    /// Another exit policy than the configured one.
    pub exit_policy: Option<ExitPolicy>,
}

/// Where a stop is asked for; the first one counts.
pub type Stop = mpsc::Sender<Asked>;

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
    let why = format!("{}: {}", operator.name, reason(&wanted.reason)?);
    // Full or closed: a stop is under way already, which is what was asked for.
    let begun = context.0.stop.try_send(Asked { why, exit_policy }).is_ok();
    let policy = exit_policy.unwrap_or(context.0.config.shutdown.exit_policy);
    let status = if begun { "stopping" } else { "stopping already" };
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": status, "exit_policy": policy.as_str() }))))
}
