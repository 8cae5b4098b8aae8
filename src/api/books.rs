//! History: trades, orders and the equity curve, as JSON or CSV, page by page; what the predecessor called balance.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::query::{Asked, Orders, Plain, Signals};
use super::{Context, Problem};
use crate::domain::table;
use crate::ledger::books::Page;

/// Closed positions, the newest first.
pub(super) async fn trades(
    State(context): State<Context>,
    Asked(wanted, _): Asked<Plain>,
) -> Result<Response, Problem> {
    let page = context.0.ledger.trades(&wanted.filter, wanted.cursor, wanted.limit).await?;
    answer("trades", table::TRADES, &page, wanted.is_csv(), json!({}))
}

/// Order intents, the newest first; all or those in some states (`?state=in_doubt,acknowledged`).
pub(super) async fn orders(
    State(context): State<Context>,
    Asked(wanted, _): Asked<Orders>,
) -> Result<Response, Problem> {
    let page = context.0.ledger.orders(&wanted.filter, wanted.cursor, wanted.limit).await?;
    answer("orders", table::ORDERS, &page, wanted.is_csv(), json!({}))
}

/// Signals, the newest first; all or those in some states (`?state=pending,refused`).
pub(super) async fn signals(
    State(context): State<Context>,
    Asked(wanted, _): Asked<Signals>,
) -> Result<Response, Problem> {
    let page = context.0.ledger.signals(&wanted.filter, wanted.cursor, wanted.limit).await?;
    answer("signals", table::SIGNALS, &page, wanted.is_csv(), json!({}))
}

/// The equity curve, a point a trade, the newest first; and what the account's realised equity is made of now.
pub(super) async fn equity(
    State(context): State<Context>,
    Asked(wanted, _): Asked<Plain>,
) -> Result<Response, Problem> {
    let page = context.0.ledger.equity(&wanted.filter, wanted.cursor, wanted.limit).await?;
    let now = context.0.ledger.realised().await?;
    answer("points", table::EQUITY, &page, wanted.is_csv(), json!({ "now": now }))
}

/// The ledger's money: nothing of the broker's cash, which only the broker knows.
pub async fn balance(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let portfolio = context.0.ledger.portfolio().await?;
    Ok(Json(json!({ "source": "ledger", "portfolio": portfolio })))
}

fn answer<T: Serialize>(
    name: &str,
    columns: &[&str],
    page: &Page<T>,
    as_csv: bool,
    mut document: Value,
) -> Result<Response, Problem> {
    let next = page.next.map(|place| place.to_string());
    let rows: Vec<Value> = page.rows.iter().map(|row| json!(row)).collect();
    if !as_csv {
        document[name] = Value::Array(rows);
        document["next"] = json!(next);
        return Ok(Json(document).into_response());
    }
    let text = table::csv(columns, &rows)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error.to_string()))?;
    let mut response =
        ([(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], text).into_response();
    // Made of hexadecimal digits and a hyphen.
    if let Some(next) = next.and_then(|next| next.parse().ok()) {
        response.headers_mut().insert(NEXT, next);
    }
    Ok(response)
}

/// The next page's cursor, beside a CSV that has no place for it.
const NEXT: &str = "x-baton-next";
