//! What operators do about leadership: hand it over, put a member out, read who led when.
//!
//! A handover is the leader's to carry out, so it is passed on to it. A fence is not: it is meant for a leader that
//! does not do what it should, and any instance that reaches PostgreSQL carries it out. Each command may carry the epoch
//! that its author saw; it is refused if another is in force by then.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use ha::operator::{LONGEST, OperatorError, Request};
use ha::{Epoch, HandoverOutcome, Member};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::forward::Served;
use super::{Context, Operator, Problem};
use crate::engine::recess::NotOffered;

/// Epochs in a page unless asked for otherwise.
const PAGE: u16 = 50;
/// The longest reason that is kept.
const REASON_CHARS: usize = 500;

/// The body of a handover.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// To whom; whoever is ready if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Why.
    reason: String,
    /// The epoch that the author saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
}

/// The body of a fence, and of lifting it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Which member.
    member: String,
    /// Why.
    reason: String,
    /// The epoch that the author saw.
    epoch: Option<Epoch>,
}

/// Which epochs.
#[derive(Debug, Deserialize)]
pub struct Page {
    before: Option<i64>,
    limit: Option<u16>,
}

/// Epochs, the newest first: who led, why it began and ended, how long nobody had led, what operators asked for.
pub async fn history(
    State(context): State<Context>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, LONGEST);
    let epochs = context.handle()?.history(page.before.map(Epoch::new), limit).await?;
    let more = epochs.len() == usize::from(limit);
    let next = epochs.last().filter(|_| more).map(|reign| reign.epoch);
    Ok(Json(json!({ "epochs": epochs, "next": next })))
}

/// Hands leadership over; served by the leader.
pub async fn hand_over(
    State(context): State<Context>,
    operator: Operator,
    headers: HeaderMap,
    body: Result<Json<Handover>, JsonRejection>,
) -> Result<Response, Problem> {
    let body = read(body)?;
    let to = body.to.as_deref().map(member).transpose()?;
    let request = request(operator, &body.reason, body.epoch)?;
    let path = "/api/v1/cluster/handover";
    let passed_on = serde_json::to_value(&body).unwrap_or_default();
    let fence = match context.lead_or_forward(&headers, path, passed_on.to_string()).await? {
        Served::Here(fence) => fence,
        Served::Elsewhere(answer) => return Ok(answer),
    };
    if let Some(asked) = request.epoch.filter(|asked| *asked != fence.epoch()) {
        return Err(OperatorError::Stale { asked, found: fence.epoch() }.into());
    }
    let handle = context.handle()?;
    if to.as_ref() == Some(&handle.instance().member) {
        let sentence = format!("{} leads already; name another member", handle.instance().member);
        return Err(Problem::new(StatusCode::CONFLICT, "NO_SUCCESSOR", sentence));
    }
    let recess =
        context.0.recess.get().ok_or_else(|| Problem::initializing("the engine is not there yet"))?;
    tracing::warn!(who = request.who, why = request.why, "[HA] an operator asks for a handover");
    match recess.hand_over(handle, to, fence.epoch(), request).await? {
        HandoverOutcome::HandedOver { to, epoch, gap } => {
            let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
            Ok(Json(json!({ "to": to.member, "instance": to.to_string(), "epoch": epoch, "gap_ms": gap_ms }))
                .into_response())
        }
        HandoverOutcome::NoSuccessor { why } => Err(Problem::new(
            StatusCode::CONFLICT,
            "NO_SUCCESSOR",
            format!("{why}; {} leads on", handle.instance().member),
        )),
        HandoverOutcome::NotLeader => Err(Problem::new(
            StatusCode::CONFLICT,
            "LEADERSHIP_MOVED",
            "this instance stopped leading before it could hand over; look again",
        )),
        HandoverOutcome::Lost { why } => Err(Problem::new(
            StatusCode::CONFLICT,
            "LEADERSHIP_MOVED",
            format!("leadership was lost on the way: {why}; look again"),
        )),
    }
}

/// Keeps a member from leading; ends its epoch if it leads.
pub async fn fence(
    State(context): State<Context>,
    operator: Operator,
    body: Result<Json<About>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let body = read(body)?;
    let request = request(operator, &body.reason, body.epoch)?;
    let member = member(&body.member)?;
    let outcome = context.handle()?.fence_member(&member, &request).await?;
    tracing::warn!(%member, who = request.who, why = request.why, "[HA] an operator fenced a member");
    Ok(Json(
        json!({ "member": member, "fenced": true, "already": outcome.already, "ended_by": outcome.ended }),
    ))
}

/// Lets a fenced member lead again.
pub async fn unfence(
    State(context): State<Context>,
    operator: Operator,
    body: Result<Json<About>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let body = read(body)?;
    let request = request(operator, &body.reason, body.epoch)?;
    let member = member(&body.member)?;
    let lifted = context.handle()?.unfence_member(&member, &request).await?;
    tracing::warn!(%member, who = request.who, why = request.why, "[HA] an operator lifted a member's fence");
    Ok(Json(json!({ "member": member, "fenced": false, "lifted": lifted })))
}

fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body).map_err(|rejection| invalid(rejection.body_text()))
}

fn request(operator: Operator, reason: &str, epoch: Option<Epoch>) -> Result<Request, Problem> {
    let why: String = reason.trim().chars().take(REASON_CHARS).collect();
    if why.is_empty() {
        return Err(invalid("`reason` says why, for the record; it must not be empty"));
    }
    Ok(Request { who: operator.name, why, epoch })
}

fn member(name: &str) -> Result<Member, Problem> {
    Member::new(name).map_err(|error| invalid(error.to_string()))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_COMMAND", detail)
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let (status, code) = match &error {
            OperatorError::Stale { .. } => (StatusCode::CONFLICT, "LEADERSHIP_MOVED"),
            OperatorError::Unknown(_) => (StatusCode::NOT_FOUND, "UNKNOWN_MEMBER"),
            OperatorError::Exhausted(_) => (StatusCode::CONFLICT, "INTERNAL"),
            OperatorError::Unreachable(_) | OperatorError::Failed { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "DB_UNAVAILABLE")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<NotOffered> for Problem {
    fn from(error: NotOffered) -> Self {
        match error {
            NotOffered::Record(error) => error.into(),
            busy @ (NotOffered::Busy | NotOffered::UnderWay) => {
                Self::new(StatusCode::CONFLICT, "HANDOVER_BUSY", busy.to_string())
            }
        }
    }
}
