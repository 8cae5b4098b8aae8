//! `/runbook`: where alerts point. Plain text, which every browser and `curl` shows.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header;

use super::Problem;
use crate::runbook;

const PLAIN: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];

/// The whole runbook.
pub async fn whole() -> Response {
    (PLAIN, runbook::TEXT).into_response()
}

/// The section of an alert, a code or a situation.
pub async fn section(Path(name): Path<String>) -> Response {
    match runbook::section(&name) {
        Some(section) => (PLAIN, format!("{}\n", section.text)).into_response(),
        None => Problem::not_found("the runbook has no such section; GET /runbook shows all").into_response(),
    }
}
