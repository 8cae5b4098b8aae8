//! Close, flatten, emergency close: an operator's exits. Only the leader acts; followers pass the call on.
//!
//! The answer is what the ledger knows after a moment, which is what the broker's books have shown: `filled`,
//! `submitted`, `pending`, `refused` or `in_doubt`. A repetition makes no second exit: it reports the one under way.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::forward::Served;
use super::{Context, Operator, Problem, reason};
use crate::domain::ids::PositionId;
use crate::domain::money::Quantity;
use crate::engine::command::{Beside, Closing, FILLS, NotClosed, Select};
use crate::ledger::exits::Outcome;

/// How long the whole may take: less than whoever passed the call on waits.
const ALL: Duration = Duration::from_millis(8500);

type Body = Result<Json<Value>, JsonRejection>;

/// `{symbol | instrument | position, reason}`: closes what is named.
pub async fn close(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = object(body)?;
    let named = ["symbol", "instrument", "position"].iter().filter_map(|field| text(&body, field)).next();
    let name = named.ok_or_else(|| bad("say what to close: `symbol`, `instrument` or `position`"))?;
    let select = match name.parse() {
        Ok(id) => Select::Position(PositionId(id)),
        Err(_) => Select::Named(name.to_owned()),
    };
    act(&context, &operator, &headers, "/api/v1/positions/close", &body, select).await
}

/// `{reason}`: closes everything.
pub async fn flatten(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = object(body)?;
    act(&context, &operator, &headers, "/api/v1/positions/flatten", &body, Select::All).await
}

/// `{symbol, reason}`: the same as close, by the name that monitoring tools know.
pub async fn emergency(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = object(body)?;
    let symbol =
        text(&body, "symbol").ok_or_else(|| bad("`symbol` is missing: say which open trade to close"))?;
    let select = Select::Named(symbol.to_owned());
    let path = "/api/v1/monitoring/emergency-close-position";
    act(&context, &operator, &headers, path, &body, select).await
}

async fn act(
    context: &Context,
    operator: &Operator,
    headers: &HeaderMap,
    path: &str,
    body: &Value,
    select: Select,
) -> Result<Response, Problem> {
    let why = format!("{}: {}", operator.name, reason(text(body, "reason").unwrap_or_default())?);
    if let Served::Elsewhere(answer) = context.lead_or_forward(headers, path, body.to_string()).await? {
        return Ok(answer);
    }
    let nothing = match &select {
        Select::All => None,
        Select::Named(name) => Some(name.clone()),
        Select::Position(id) => Some(id.to_string()),
    };
    let latest = Instant::now() + ALL;
    let closing = context.0.desk.close(select, operator.name.clone(), why).await.map_err(not_closed)?;
    if closing.positions.is_empty()
        && closing.beside.is_empty()
        && closing.entries == 0
        && let Some(name) = nothing
    {
        return Err(Problem::not_found(format!("No open trade found for {name}")));
    }
    report(context, &closing, latest.min(Instant::now() + FILLS)).await
}

/// Waits a moment for the fills and says how far each position is.
async fn report(context: &Context, closing: &Closing, until: Instant) -> Result<Response, Problem> {
    let views = closing.progress(&context.0.ledger, until).await.ok_or_else(unread)?;
    let worst = views.iter().map(|view| view.outcome).max();
    let positions: Vec<Value> = views
        .iter()
        .map(|view| {
            let taken = closing.positions.iter().find(|taken| taken.position.0 == view.position);
            let mut shown = json!(view);
            shown["was_under_way"] = json!(taken.is_some_and(|taken| taken.under_way));
            shown
        })
        .collect();
    // What could not be sold although it is held: orders on their way may sell it, or it is more than one order takes.
    let left: Vec<Value> =
        closing.beside.iter().filter(|beside| beside.units != beside.held).map(left).collect();
    let flat = worst.is_none_or(|worst| worst == Outcome::Filled) && closing.entries == 0 && left.is_empty();
    let status = if flat { StatusCode::OK } else { StatusCode::ACCEPTED };
    let answer = json!({
        // Nothing held and nothing on its way is as flat as all filled.
        "status": worst.map_or(json!("flat"), |worst| json!(worst)),
        "positions": positions,
        "not_sold": left,
        "entries_closed_when_filled": closing.entries,
    });
    Ok((status, Json(answer)).into_response())
}

/// What of a contract that a custodian closes was not sold, and why.
fn left(beside: &Beside) -> Value {
    let Beside { contract, held, out, units, .. } = beside;
    let why = match (*held < Quantity::ZERO, *out > Quantity::ZERO) {
        (true, _) => "the broker is short: buy it back by hand".to_owned(),
        (false, true) => format!("orders on their way may still sell {out} units"),
        (false, false) => "more than one order takes, or the ledger took none: ask again".to_owned(),
    };
    json!({ "contract": contract.to_string(), "held": held, "sold_by_this": units, "why": why })
}

fn object(body: Body) -> Result<Value, Problem> {
    let Json(value) = body.map_err(|error| bad(&error.body_text()))?;
    if value.is_object() { Ok(value) } else { Err(bad("the body must be a JSON object")) }
}

fn text<'a>(body: &'a Value, field: &str) -> Option<&'a str> {
    body[field].as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
}

pub(super) fn not_closed(why: NotClosed) -> Problem {
    let code = match why {
        NotClosed::Busy | NotClosed::NotTaken | NotClosed::Unverified(_) => "NOT_TAKEN",
        NotClosed::Unknown => "CLOSE_UNKNOWN",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, why.to_string())
}

fn unread() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "CLOSE_UNKNOWN",
        "the close is stored and is being carried out; how far it is could not be read; ask again: a repetition never makes \
         a second exit",
    )
}
