//! `POST /webhook`: a signal becomes one durable row, on whichever instance it arrives.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::Utc;
use http::{HeaderMap, StatusCode, header};
use opentelemetry::trace::SpanContext;
use serde_json::json;

use super::credentials::{bearer, matches};
use super::{Context, Problem};
use crate::domain::ids::SignalId;
use crate::domain::signal::{self, RejectionKind, Signal, SignalType};
use crate::failpoint;
use crate::ledger::inbox::{NewSignal, PendingSignal, Placed, Receipt};
use crate::mutant::Mutant;
use crate::notify::{Event, Kind};
use crate::telemetry::Traces;
use crate::telemetry::traces::{self, Step};

/// Takes a signal: 202 once it is durable, 200 for a repeat, a problem document otherwise.
pub async fn receive(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let source = context.0.admission.source(peer, &headers);
    match take(&context, source, &headers, &body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn take(
    context: &Context,
    source: IpAddr,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Problem> {
    let begun = SystemTime::now();
    let turned_away = context.0.metrics.signals.with_label_values(&["OTHER", "refused"]);
    context.0.admission.allows(source).inspect_err(|_| turned_away.inc())?;
    authenticate(context, headers, body).inspect_err(|_| turned_away.inc())?;
    let handle = context.handle()?;
    let member = handle.instance().member.to_string();
    let signal = match read(context, headers, body) {
        // What takes risk off is never turned away for its number.
        Ok(signal) if signal.kind() == SignalType::Exit => signal,
        other => {
            within_quota(context, source)?;
            match other {
                Ok(signal) => signal,
                Err(problem) => return Err(keep(context, body, problem, &member).await),
            }
        }
    };
    let payload = serde_json::to_value(&signal).map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            format!("the signal cannot be stored: {error}"),
        )
    })?;
    let kept = redacted(body);
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let sender = traceparent.and_then(traces::sender);
    let row = NewSignal {
        key: &signal.key,
        kind: signal.kind().as_str(),
        strategy: &signal.strategy,
        instrument: &signal.instrument,
        payload: &payload,
        raw_body: &kept,
        received_by: &member,
        traceparent: traceparent.filter(|_| sender.is_some()),
    };
    let id = SignalId::new();
    context.0.coming.announce(id, signal.kind(), &signal.instrument);
    let expected = context.0.coming.handed.expect(id);
    let stored = |Placed { seq, first }| {
        failpoint::hit(failpoint::STORED);
        if !first || !expected.hand_over(PendingSignal::fresh(id, seq, payload.clone())) {
            context.0.arrivals.notify_one();
        }
    };
    let accepted = context.0.ledger.accept(id, &row, stored).await;
    let receipt = match accepted {
        Err(_) if Mutant::AcknowledgesUnstored.is_on() => Receipt::unstored(),
        accepted => accepted?,
    };
    trace(&context.0.traces, &signal, &receipt, sender, begun);
    Ok(received(context, &signal, &receipt))
}

/// Counts a signal that is stored, and answers with its receipt.
pub(super) fn received(context: &Context, signal: &Signal, receipt: &Receipt) -> Response {
    let outcome = if receipt.fresh { "accepted" } else { "repeated" };
    context.0.metrics.signals.with_label_values(&[signal.kind().as_str(), outcome]).inc();
    if receipt.fresh {
        let strategy = context.0.strategies.load().label(&signal.strategy);
        let counted = &context.0.metrics.strategy_signals;
        counted.with_label_values(&[strategy, signal.kind().as_str()]).inc();
    }
    let (code, status) = match receipt.fresh {
        true => (StatusCode::ACCEPTED, "accepted"),
        false => (StatusCode::OK, receipt.status.as_str()),
    };
    (code, Json(json!({ "id": receipt.id, "key": signal.key, "status": status }))).into_response()
}

/// Reads a signal from a request.
///
/// # Errors
/// 400 `MALFORMED`, 413 `BODY_TOO_LARGE`, 415 `CONTENT_TYPE`, 422 `INVALID_SIGNAL` with every fault.
pub(super) fn read(context: &Context, headers: &HeaderMap, body: &Bytes) -> Result<Signal, Problem> {
    if !is_json(headers) {
        let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "CONTENT_TYPE",
            format!("the content type is {said}; send the signal as application/json"),
        ));
    }
    let config = &context.0.config;
    let parsed = signal::parse(body, &config.instruments, &config.trading.policy.signals, Utc::now());
    parsed.map_err(|rejection| {
        let (status, code) = match rejection.kind {
            RejectionKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            RejectionKind::Malformed => (StatusCode::BAD_REQUEST, "MALFORMED"),
            RejectionKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "INVALID_SIGNAL"),
        };
        let detail = crate::domain::fault::join(&rejection.faults);
        Problem::new(status, code, detail).with_faults(rejection.faults)
    })
}

/// Begins the signal's trace; a repeat goes on with the first delivery's. A sender who traces finds the delivery in the
/// own trace too, and each of the two leads to the other.
fn trace(
    traces: &Traces,
    signal: &Signal,
    receipt: &Receipt,
    sender: Option<SpanContext>,
    begun: SystemTime,
) {
    let step = || {
        let step = match receipt.fresh {
            true => Step::first(receipt.id, "webhook").with("baton.signal", receipt.id.to_string()),
            false => Step::of_signal(receipt.id, "webhook repeated"),
        };
        let step = step.since(begun).with("baton.key", signal.key.to_string());
        step.with("baton.type", signal.kind().as_str()).with("baton.instrument", signal.instrument.clone())
    };
    let Some(sender) = sender else { return traces.record(step) };
    let mut own = step();
    if sender.is_sampled() {
        let delivery = Step::of_sender(&sender, "webhook").since(begun).linked(own.context());
        own = own.linked(delivery.context());
        traces.record_sent(delivery);
    } else {
        own = own.linked(sender);
    }
    traces.record(|| own);
}

/// Lets a sender in by bearer token or by the body's `secret`, whichever is configured; else everybody (loopback).
pub(super) fn authenticate(context: &Context, headers: &HeaderMap, body: &Bytes) -> Result<(), Problem> {
    let signals = &context.0.config.signals;
    if signals.token.is_none() && signals.secret.is_none() {
        return Ok(());
    }
    let by_token = matches(signals.token.as_ref(), bearer(headers).as_ref());
    let by_secret = matches(signals.secret.as_ref(), signal::secret_in_body(body).as_ref());
    if by_token || by_secret {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "send `Authorization: Bearer <signals.token>`, or the body field `secret`",
    ))
}

/// Counts what is no exit; the operator hears of what was turned away, because most senders never send it again.
pub(super) fn within_quota(context: &Context, source: IpAddr) -> Result<(), Problem> {
    context.0.admission.count(source).inspect_err(|_| {
        context.0.metrics.signals.with_label_values(&["OTHER", "over_quota"]).inc();
        let told = format!(
            "{source} sends more than signals.quota_per_minute ({}): signals that are no exits are turned away; see \
             RUNBOOK.md#signals_over_quota",
            context.0.config.signals.quota
        );
        context.0.notifier.raise(Event::about(Kind::SignalsOverQuota, source.to_string(), told));
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A sender's secret is not stored, in whatever else is.
fn redacted(body: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(body) {
        Ok(text) => signal::redacted(text).into_owned().into_bytes(),
        Err(_) => body.to_vec(),
    }
}

/// Keeps the refused body beside its faults; when that fails too, the sender is told so.
async fn keep(context: &Context, body: &[u8], problem: Problem, member: &str) -> Problem {
    context.0.metrics.signals.with_label_values(&["OTHER", "refused"]).inc();
    let (status, document) = (problem.status().as_u16(), problem.document());
    match context.0.ledger.keep_rejection(&redacted(body), status, &document, member).await {
        Ok(id) => problem.kept_as(id),
        Err(error) => error.into(),
    }
}
