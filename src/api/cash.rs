//! Deposits and withdrawals. Only the leader books them; followers pass the call on.
//!
//! Whoever asks gives the movement its id: asked again, it is told and not booked once more.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::closing::not_closed;
use super::forward::Served;
use super::{Context, Operator, Problem, reason};
use crate::domain::cash::Movement;
use crate::domain::ids::MovementId;
use crate::engine::command::NotClosed;

const PATH: &str = "/api/v1/cash";
/// Movements that are listed at most.
const MOST: i64 = 1000;

/// What to book.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Wanted {
    id: Uuid,
    kind: String,
    /// As text: a number of JSON is not exact.
    amount: String,
    #[serde(default)]
    reason: String,
}

/// What the account was opened with, what it has now, and what moved, the newest first.
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    Ok(Json(account(&context).await?))
}

/// Books one.
pub(super) async fn move_cash(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(wanted) = body.map_err(|error| bad(error.body_text()))?;
    let why = reason(&wanted.reason)?;
    let asked = Movement::asked(MovementId(wanted.id), &wanted.kind, &wanted.amount);
    let movement = asked.map_err(|fault| bad(fault.to_string()).with_faults(vec![fault]))?;
    let passed_on = json!(wanted).to_string();
    if let Served::Elsewhere(answer) = context.lead_or_forward(&headers, PATH, passed_on).await? {
        return Ok(answer);
    }
    let booked = context.0.desk.move_cash(movement, operator.name, why).await.map_err(not_booked)?;
    let fresh =
        booked.map_err(|refusal| Problem::new(StatusCode::CONFLICT, refusal.code, refusal.sentence))?;
    let mut answer = account(&context).await.unwrap_or_else(|_| json!({}));
    answer["fresh"] = json!(fresh);
    answer["booked"] = json!(wanted.id);
    Ok(Json(answer).into_response())
}

async fn account(context: &Context) -> Result<Value, Problem> {
    let ledger = &context.0.ledger;
    let cash = ledger.cash().await?;
    let configured = context.0.config.trading.capital;
    Ok(json!({
        "opening": cash.map(|cash| cash.opening),
        "capital": cash.map(|cash| cash.capital),
        "closed_equity": cash.map(|cash| cash.closed_equity),
        "warning": cash.and_then(|cash| cash.opened_otherwise(configured)),
        "movements": ledger.cash_movements(MOST).await?,
    }))
}

fn not_booked(why: NotClosed) -> Problem {
    match why {
        NotClosed::Unknown => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "CASH_UNKNOWN",
            "the leader took it up, and whether it is booked is not known: the database did not answer, or leadership ended; ask \
             again with the same id: it is booked once",
        ),
        why => not_closed(why),
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
}
