//! What became of signals and positions.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::priced::Prices;
use super::{Context, Problem};
use crate::domain::ids::SignalId;
use crate::domain::position::Position;
use crate::ledger::views::{SignalView, Which};

/// Rows in a list unless asked for otherwise.
const DEFAULT_LIMIT: i64 = 100;
/// Most rows in a list.
const MOST: i64 = 10_000;

/// Which part of a list.
#[derive(Debug, Deserialize)]
pub struct Page {
    status: Option<String>,
    limit: Option<i64>,
}

impl Page {
    fn limit(&self) -> i64 {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST)
    }
}

/// One signal, with its orders.
pub async fn signal(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<SignalView>, Problem> {
    context.handle()?;
    let unknown =
        || Problem::not_found(format!("there is no signal {id}; ids come with the webhook's answer"));
    let id = id.parse().map_err(|_| unknown())?;
    context.0.ledger.signal(SignalId(id)).await?.map(Json).ok_or_else(unknown)
}

/// How many signals there are, by type and status.
pub async fn signal_counts(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let counts = context.0.ledger.signal_counts().await?;
    let counts: Vec<Value> = counts
        .into_iter()
        .map(|(kind, status, count)| json!({ "type": kind, "status": status, "count": count }))
        .collect();
    Ok(Json(json!({ "counts": counts })))
}

/// Positions (`?status=open`, the default, or `closed`) and the portfolio's aggregates. Open ones with the price that they
/// are watched by, which the leader knows: another instance asks it, and says `unknown here` when it does not answer.
pub async fn positions(
    State(context): State<Context>,
    headers: HeaderMap,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let which = match page.status.as_deref() {
        None | Some("open") => Which::Unfinished,
        Some("closed") => Which::Closed,
        Some(other) => return Err(bad_query(format!("status {other:?} is neither open nor closed"))),
    };
    let is_open = matches!(which, Which::Unfinished);
    let path = uri.path_and_query().filter(|_| is_open);
    if let Some(path) = path
        && let Some(answer) = context.leaders_answer(&headers, path.as_str()).await
    {
        return Ok(Json(answer));
    }
    let positions = context.0.ledger.positions(which, page.limit()).await?;
    let portfolio = context.0.ledger.portfolio().await?;
    let mut document = json!({ "positions": positions, "portfolio": portfolio });
    if is_open {
        let prices = Prices::of(&context);
        let priced = |position: &Position| {
            let mut shown = json!(position);
            prices.add_to(&mut shown, position);
            shown
        };
        document["positions"] = positions.iter().map(priced).collect();
        document["prices"] = json!(prices.word());
    }
    Ok(Json(document))
}

fn bad_query(detail: String) -> Problem {
    Problem::new(http::StatusCode::BAD_REQUEST, "BAD_QUERY", detail)
}
