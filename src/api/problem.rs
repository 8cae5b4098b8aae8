//! Errors as RFC 9457 problem documents, with our code and where the RUNBOOK explains it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::domain::fault::Fault;
use crate::ledger::LedgerError;

/// A problem document.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
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
    detail: String,
    /// Everything wrong with the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Fault>,
    /// The id under which a refused body was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_as: Option<String>,
}

impl Problem {
    /// A problem with its code and sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("RUNBOOK.md#{}", code.to_lowercase()),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            faults: Vec::new(),
            kept_as: None,
        }
    }

    pub(super) fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    pub(super) fn kept_as(mut self, id: impl ToString) -> Self {
        self.kept_as = Some(id.to_string());
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

    pub(super) fn status(&self) -> u16 {
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
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
