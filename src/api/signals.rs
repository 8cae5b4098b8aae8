//! An operator's word on a signal: not to decide one that waits, or to put one in again that was refused.
//!
//! A refused signal gets no order any more: the database lets no refused row become anything else. That it never had one is
//! as true as the ledger is: not after a restore or a failover of PostgreSQL that may have lost it, and not where one that
//! was begun is refused because it cannot be read. So it is put in again only if the ledger knows of nothing that speaks
//! against it, which would make two orders of one; no other end of a signal allows it at all. It gets a key of its own, one a
//! signal, and is decided like any other, by the time at which its sender sent it: an entry that was too old stays too old.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::closing::not_closed;
use super::dry_run::rehearsed;
use super::forward::Served;
use super::webhook::received;
use super::{Context, Operator, Problem, reason};
use crate::domain::ids::SignalId;
use crate::domain::refusal::Refusal;
use crate::domain::signal::Signal;
use crate::ledger::inbox::{NewSignal, SignalStatus};
use crate::ledger::repair;
use crate::ledger::signals::replay_key;

/// Why, and whether only to say what would come of it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Word {
    reason: String,
    /// Of a replay: asks the leader what it would do, and stores nothing.
    #[serde(default)]
    dry_run: bool,
}

type Body = Result<Json<Word>, JsonRejection>;

/// Ends a signal that waits, before it is decided.
pub(super) async fn drop(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let (id, word) = (known(&id)?, word(body)?);
    let why = format!("{}: {}", operator.name, reason(&word.reason)?);
    let path = format!("/api/v1/signals/{id}/drop");
    if let Served::Elsewhere(answer) = context.lead_or_forward(&headers, &path, passed_on(&word)?).await? {
        return Ok(answer);
    }
    let dropped = context.0.desk.drop_signal(id, why).await.map_err(not_closed)?;
    let view = context.0.ledger.signal(id).await?.ok_or_else(|| unknown(&id.to_string()))?;
    if dropped {
        return Ok(Json(view).into_response());
    }
    Err(settled(format!(
        "the signal is {}: only one that waits to be decided can be dropped",
        view.row.status
    )))
}

/// Puts a refused signal into the inbox once more.
pub(super) async fn replay(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let (id, word) = (known(&id)?, word(body)?);
    let why = reason(&word.reason)?;
    let member = context.handle()?.instance().member.to_string();
    let stored = context.0.ledger.stored_signal(id).await?.ok_or_else(|| unknown(&id.to_string()))?;
    if stored.status != SignalStatus::Refused.as_str() {
        let told = format!("the signal is {}: only a refused one can be put in again", stored.status);
        return Err(settled(told));
    }
    let unreadable = |error: serde_json::Error| settled(format!("the stored signal cannot be read: {error}"));
    let mut signal: Signal = serde_json::from_value(stored.payload).map_err(unreadable)?;
    signal.key = replay_key(id);
    if word.dry_run {
        if let Some(refusal) = context.0.ledger.against_replay(id).await? {
            return Err(refused(refusal));
        }
        let path = format!("/api/v1/signals/{id}/replay");
        return match context.lead_or_forward(&headers, &path, passed_on(&word)?).await? {
            Served::Elsewhere(answer) => Ok(answer),
            Served::Here(_) => rehearsed(&context, signal).await,
        };
    }
    let payload = serde_json::to_value(&signal).map_err(unreadable)?;
    let again = NewSignal {
        key: &signal.key,
        kind: signal.kind().as_str(),
        strategy: &signal.strategy,
        instrument: &signal.instrument,
        payload: &payload,
        raw_body: &stored.raw_body,
        received_by: &member,
        traceparent: None,
    };
    let who = repair::Operator { name: &operator.name, reason: &why };
    let receipt = context.0.ledger.replay(&again, id, who).await?.map_err(refused)?;
    tracing::warn!(signal = %receipt.id, original = %id, "put in again by {}: {why}", operator.name);
    if receipt.fresh {
        context.0.arrivals.notify_one();
    }
    Ok(received(&context, &signal, &receipt))
}

fn known(id: &str) -> Result<SignalId, Problem> {
    id.parse().map(SignalId).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("there is no signal {id}; `baton signals list` has the ids"))
}

fn word(body: Body) -> Result<Word, Problem> {
    let Json(word) =
        body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", error.body_text()))?;
    Ok(word)
}

fn passed_on(word: &Word) -> Result<String, Problem> {
    serde_json::to_string(word)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error.to_string()))
}

fn refused(refusal: Refusal) -> Problem {
    Problem::new(StatusCode::CONFLICT, refusal.code, refusal.sentence)
}

fn settled(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "SIGNAL_SETTLED", detail)
}
