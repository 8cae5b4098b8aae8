//! Errors as RFC 9457 problem documents, with our code and where the RUNBOOK explains it.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::fault::Fault;
use crate::domain::ids::SignalId;
use crate::ledger::LedgerError;

/// A problem: becomes a document when it is answered or kept.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    faults: Vec<Fault>,
    kept_as: Option<SignalId>,
    /// When it is worth another try.
    retry_after: Duration,
}

/// The document's members.
#[derive(Serialize)]
struct Document<'a> {
    /// Where it is explained.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: &'static str,
    /// One sentence.
    detail: &'a str,
    /// Everything wrong with the input.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    faults: &'a [Fault],
    /// The id under which a refused body was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_as: Option<SignalId>,
}

impl Problem {
    /// A problem with its code and sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let retry_after = Duration::from_secs(1);
        Self { status, code, detail: detail.into(), faults: Vec::new(), kept_as: None, retry_after }
    }

    /// The document as JSON (RFC 9457).
    pub(super) fn document(&self) -> Value {
        json!(Document {
            kind: format!("RUNBOOK.md#{}", self.code.to_lowercase()),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            faults: &self.faults,
            kept_as: self.kept_as,
        })
    }

    pub(super) fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }

    pub(super) fn kept_as(mut self, id: SignalId) -> Self {
        self.kept_as = Some(id);
        self
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
    }

    pub(super) fn initializing(reason: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "INITIALIZING",
            format!("status: initializing ({reason}); try again"),
        )
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "a request met a ledger error");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "DB_UNAVAILABLE",
            format!("{error}; nothing is known to be stored, and sending it again is safe"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.document())).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = self.retry_after.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
