//! The ledger's positions against the broker's position book, compared for whoever asks.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::{Context, Problem};
use crate::recovery::reconcile::{PositionDiff, ReconcileError};

/// One verified comparison, made now: any instance can make it.
pub async fn positions_diff(State(context): State<Context>) -> Result<Json<PositionDiff>, Problem> {
    let handle = context.handle()?;
    let Some(reconciler) = context.0.reconciler.get() else {
        return Err(Problem::initializing(&format!("{} is joining its cluster", handle.instance())));
    };
    reconciler.compare().await.map(Json).map_err(|error| match error {
        ReconcileError::Ledger(error) => error.into(),
        ReconcileError::Unverified(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "BROKER_UNVERIFIED",
            format!("{error}; nothing follows from that for any position"),
        ),
    })
}
