//! The ledger's positions against the broker's position book, compared for whoever asks.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::{Context, Problem};
use crate::recovery::reconcile::{PositionDiff, ReconcileError, Reconciler};

/// One verified comparison, made now: any instance can make it.
pub async fn positions_diff(State(context): State<Context>) -> Result<Json<PositionDiff>, Problem> {
    reconciler(&context)?.compare().await.map(Json).map_err(unverified)
}

/// What compares on this instance, once it has joined.
pub(super) fn reconciler(context: &Context) -> Result<&Reconciler, Problem> {
    let handle = context.handle()?;
    let found = context.0.reconciler.get();
    found
        .map(AsRef::as_ref)
        .ok_or_else(|| Problem::initializing(&format!("{} is joining its cluster", handle.instance())))
}

pub(super) fn unverified(error: ReconcileError) -> Problem {
    match error {
        ReconcileError::Ledger(error) => error.into(),
        ReconcileError::Unverified(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "BROKER_UNVERIFIED",
            format!("{error}; nothing follows from that for any position"),
        ),
    }
}
