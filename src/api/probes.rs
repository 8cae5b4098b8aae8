//! Probes and metrics. Readiness is never leadership: it is "could durably accept a signal, and could lead".

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ha::Status;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::{Context, Problem};
use crate::failpoint;
use crate::health::warmth::lacks;
use crate::telemetry::metrics::Metrics;

/// For platforms and people: who this is and how it is; always 200 while the process serves.
pub async fn healthz(State(context): State<Context>) -> Json<Value> {
    let operational = context.operational();
    Json(json!({
        "status": if context.0.handle.get().is_some() { "ok" } else { "initializing" },
        "name": "baton",
        "version": failpoint::version(),
        "mode": context.0.config.broker.mode.as_str(),
        "operational": operational,
        "recovery": context.recovery(),
    }))
}

/// The process serves.
pub async fn livez() -> &'static str {
    "alive\n"
}

/// The stores were reached and the instance has joined.
pub async fn startupz(State(context): State<Context>) -> Response {
    match context.handle() {
        Ok(_) => "started\n".into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Could durably accept a signal now, and could lead.
pub async fn readyz(State(context): State<Context>) -> Response {
    match ready(&context).await {
        Ok(()) => "ready\n".into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn ready(context: &Context) -> Result<(), Problem> {
    let not_ready = |code, why: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, why);
    if context.0.draining.borrow().is_some() {
        return Err(not_ready("DRAINING", "the instance is on its way out".to_owned()));
    }
    let operational = context.operational();
    if let (None, Some(code)) = (context.0.handle.get(), operational.code) {
        return Err(not_ready(code, format!("not a member yet: {}", operational.reason)));
    }
    let stats = context.handle()?.stats().borrow().clone();
    context.0.ledger.ping().await?;
    match stats.status {
        Some(Status::Active) => warm(context).await,
        Some(Status::Recovering) | None => {
            // What keeps it from recovering, where that has a section of its own in the RUNBOOK.
            let code = operational.code.unwrap_or("RECOVERING");
            Err(not_ready(code, format!("not recovered yet: {}", operational.reason)))
        }
        Some(Status::Draining) => Err(not_ready("DRAINING", "the instance is on its way out".to_owned())),
    }
}

/// Not ready while a link of its own is cut that another instance has (ADR 20).
async fn warm(context: &Context) -> Result<(), Problem> {
    let handle = context.handle()?;
    let listed = handle.instances().await.unwrap_or_default();
    match lacks(handle.instance(), &listed) {
        None => Ok(()),
        Some(stale) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, stale.code(), stale.sentence().to_owned()))
        }
    }
}

/// Every metric as Prometheus text.
pub async fn metrics(State(context): State<Context>) -> Response {
    match context.0.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error.to_string()).into_response()
        }
    }
}
