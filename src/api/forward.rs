//! What only the leader can do, asked of another instance: passed on once, with the operator's credentials.
//!
//! An instance answers for itself whether it leads at the moment of the call. A request that was passed on is not
//! passed on again, so two instances that each think the other leads refuse it instead of playing ball.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use ha::{Fence, Role};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::{Context, Problem, cluster};
use crate::config::OPERATOR_HEADER;

/// Marks a request that was passed on.
const FORWARDED: &str = "x-baton-forwarded";
/// How long the leader may take; a little less than any request may.
const PATIENCE: Duration = Duration::from_secs(9);

/// How long the leader may take to say what it knows; less than whoever shows it waits for.
const GLANCE: Duration = Duration::from_millis(1200);

/// Who serves a request that only the leader can.
pub enum Served {
    /// This instance, under its fence.
    Here(Fence),
    /// The leader, which has answered.
    Elsewhere(Response),
}

impl Context {
    /// Passes a request with a body of JSON on to the leader, unless that is this instance.
    ///
    /// # Errors
    /// `NO_LEADER` when none is known or the request was passed on already; `LEADER_UNREACHABLE` when the leader
    /// could not be asked, or did not answer: whether it acted is then unknown, and the problem says which.
    pub async fn lead_or_forward(
        &self,
        headers: &HeaderMap,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Served, Problem> {
        let role = self.handle()?.role().borrow().clone();
        if let Role::Leader(fence) = role {
            return Ok(Served::Here(fence));
        }
        let leader = cluster::known_leader(self, &role).filter(|_| !headers.contains_key(FORWARDED));
        let Some(address) = leader.and_then(|leader| leader.address) else {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "NO_LEADER",
                "no instance is known to lead at this moment; nothing was done, try again in a second",
            ));
        };
        let url = format!("{address}{path}");
        let mut request = self.0.peers.post(&url).timeout(PATIENCE).body(body);
        request = request.header(header::CONTENT_TYPE, "application/json");
        for name in [header::AUTHORIZATION.as_str(), OPERATOR_HEADER] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let answer = request.header(FORWARDED, HeaderValue::from_static("1")).send().await;
        let answer = answer.map_err(|error| unreachable(&url, &error))?;
        let status = answer.status();
        let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
        let document: Value = answer.json().await.map_err(|error| unreachable(&url, &error))?;
        let mut response = (status, Json(document)).into_response();
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        Ok(Served::Elsewhere(response))
    }
}

impl Context {
    /// What the leader answers to a GET, for what only the leader knows; none when this instance leads, when no leader is known, the
    /// question was passed on already, or there is no good answer in a moment.
    pub async fn leaders_answer(&self, headers: &HeaderMap, path: &str) -> Option<Value> {
        let role = self.0.handle.get()?.role().borrow().clone();
        let asks = !matches!(role, Role::Leader(_)) && !headers.contains_key(FORWARDED);
        let address = cluster::known_leader(self, &role).filter(|_| asks)?.address?;
        let request = self.0.peers.get(format!("{address}{path}")).timeout(GLANCE);
        let answer = request.header(FORWARDED, HeaderValue::from_static("1")).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }
}

fn unreachable(url: &str, error: &reqwest::Error) -> Problem {
    let acted = if error.is_connect() {
        "nothing was done; try again"
    } else {
        "whether it acted is not known: look before you try again"
    };
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "LEADER_UNREACHABLE",
        format!("the leader was asked at {url} and gave no usable answer ({error}); {acted}"),
    )
}
