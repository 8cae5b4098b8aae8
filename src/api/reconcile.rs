//! `POST /api/v1/reconcile`: the ledger against the broker's books, now, by the instance that trades.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::json;

use super::drift::{reconciler, unverified};
use super::forward::Served;
use super::{Context, Operator, Problem};

/// Compares positions and orders and says what differs. Nothing is traded or booked by it; what the leader knows of drift is
/// as new as the answer.
pub(super) async fn reconcile(
    State(context): State<Context>,
    _operator: Operator,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Served::Elsewhere(answer) = context.lead_or_forward(&headers, "/api/v1/reconcile", "{}").await? {
        return Ok(answer);
    }
    let report = reconciler(&context)?.report().await.map_err(unverified)?;
    let by = context.handle()?.instance().member.to_string();
    Ok(Json(json!({ "by": by, "positions": report.positions, "orders": report.orders, "foreign": report.foreign }))
        .into_response())
}
