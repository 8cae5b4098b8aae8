//! `POST /api/v1/signals/dry-run`: what would become of a signal if it were delivered now.
//!
//! A route of its own and not a flag of the webhook: an instance of an older version, which knows no flag, would trade.
//! Here it answers 404. Only the leader knows; followers pass the body on as it is.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::forward::Served;
use super::webhook::{authenticate, read, within_quota};
use super::{Context, Problem};
use crate::domain::order::OrderClass;
use crate::domain::signal::{Signal, SignalType};
use crate::engine::rehearsal::NotRehearsed;
use crate::ledger::switches::Switches;

const PATH: &str = "/api/v1/signals/dry-run";

/// Answers for whoever may send signals; nothing is stored, and nothing is sent.
pub async fn dry_run(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    authenticate(&context, &headers, &body)?;
    within_quota(&context, context.0.admission.source(peer, &headers))?;
    let signal = read(&context, &headers, &body)?;
    if let Served::Elsewhere(answer) = context.lead_or_forward(&headers, PATH, body).await? {
        return Ok(answer);
    }
    rehearsed(&context, signal).await
}

/// What this instance, which leads, would do about a signal.
pub(super) async fn rehearsed(context: &Context, signal: Signal) -> Result<Response, Problem> {
    let switches = context.0.ledger.switches().await?;
    let own = context.0.ledger.instrument_switches(&signal.instrument).await?;
    let repeats = context.0.ledger.delivered(&signal.key).await?;
    let repeats = repeats.map(|first| json!({ "id": first.id, "status": first.status }));
    let held_by = held_by(&signal, switches, own);
    let mut answer = json!({
        "key": signal.key, "type": signal.kind(), "instrument": signal.instrument, "strategy": signal.strategy,
        "repeat_of": repeats, "held_by_switch": held_by,
    });
    let rehearsal = context.0.desk.rehearse(signal).await.map_err(not_rehearsed)?;
    if let (Value::Object(answer), Value::Object(said)) = (&mut answer, json!(rehearsal)) {
        answer.extend(said);
    }
    Ok(Json(answer).into_response())
}

/// The switch that its orders would be held back by: the cluster's, or its instrument's.
fn held_by(signal: &Signal, switches: Switches, own: Switches) -> Option<String> {
    let class = match signal.kind() {
        SignalType::Exit => OrderClass::Exit,
        kind if kind.opens() => OrderClass::Entry,
        _ => return None,
    };
    match (switches.allow(class), own.allow(class)) {
        (false, _) => Some(switches.sentence().to_owned()),
        (true, false) => Some(format!("{}: {}", signal.instrument, own.sentence())),
        (true, true) => None,
    }
}

fn not_rehearsed(why: NotRehearsed) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_TAKEN", why.to_string())
}
