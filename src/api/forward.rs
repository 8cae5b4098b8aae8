//! What only the leader can do, asked of another instance: passed on once, with the operator's credentials.
//!
//! An instance answers for itself whether it leads at the moment of the call. A request that was passed on is not
//! passed on again, so two instances that each think the other leads refuse it instead of playing ball.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use ha::{Fence, Role};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::RequestBuilder;
use serde_json::Value;

use super::{Context, Problem, cluster};
use crate::config::OPERATOR_HEADER;

/// Marks a request that was passed on.
const FORWARDED: &str = "x-baton-forwarded";
/// How long the leader may take; a little less than any request may.
const PATIENCE: Duration = Duration::from_secs(9);
/// How long it may take over a read that this instance can answer too, with less.
const READ: Duration = Duration::from_secs(1);

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
        let Some(address) = self.leaders_address(headers, &role) else {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "NO_LEADER",
                "no instance is known to lead at this moment; nothing was done, try again in a second",
            ));
        };
        let url = format!("{address}{path}");
        let request = self.0.peers.post(&url).timeout(PATIENCE).body(body);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = passed_on(request, headers).send().await;
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

    /// The leader's answer to a read, for an instance that knows less. None on the leader itself, when none is known, when the
    /// request was passed on already, and when the leader gives no good answer in a moment.
    pub async fn leaders_answer(&self, headers: &HeaderMap, path: &str) -> Option<Value> {
        let role = self.handle().ok()?.role().borrow().clone();
        if matches!(role, Role::Leader(_)) {
            return None;
        }
        let url = format!("{}{path}", self.leaders_address(headers, &role)?);
        answered(passed_on(self.0.peers.get(url), headers)).await
    }

    /// Where a request may be passed on to.
    fn leaders_address(&self, headers: &HeaderMap, role: &Role) -> Option<String> {
        let leader = cluster::known_leader(self, role).filter(|_| !headers.contains_key(FORWARDED));
        leader.and_then(|leader| leader.address)
    }
}

/// The request with the caller's credentials, marked.
fn passed_on(mut request: RequestBuilder, headers: &HeaderMap) -> RequestBuilder {
    for name in [header::AUTHORIZATION.as_str(), OPERATOR_HEADER] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    request.header(FORWARDED, HeaderValue::from_static("1"))
}

/// The document that answers a read, if it comes in a moment.
async fn answered(request: RequestBuilder) -> Option<Value> {
    let answer = request.timeout(READ).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    answer.json().await.ok()
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn client() -> reqwest::Client {
        // Whoever comes second is refused, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::new()
    }

    /// What a read gets of a leader that writes so much and then stands still.
    async fn of_a_leader_that_says(said: Option<&str>) -> Option<Value> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1/positions", listener.local_addr().unwrap());
        let said = said.map(str::to_owned);
        let leader = tokio::spawn(async move {
            // As a process that was stopped: the kernel takes the connection.
            let Some(said) = said else { return std::future::pending().await };
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(said.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let begun = Instant::now();
        let answer = answered(passed_on(client().get(url), &HeaderMap::new())).await;
        assert!(begun.elapsed() < READ * 4, "a read hung for {:?}", begun.elapsed());
        leader.abort();
        answer
    }

    #[tokio::test]
    async fn a_read_never_waits_for_a_leader_that_is_dead_or_stands_still() {
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{body}")
        };
        assert_eq!(
            of_a_leader_that_says(Some(&answer("200 OK", r#"{"a": 1}"#))).await,
            Some(json!({ "a": 1 }))
        );
        assert_eq!(of_a_leader_that_says(None).await, None, "stopped");
        assert_eq!(
            of_a_leader_that_says(Some(&answer("200 OK", r#"{"a""#))).await,
            None,
            "stopped in its answer"
        );
        assert_eq!(of_a_leader_that_says(Some(&answer("503 No", r#"{"a": 1}"#))).await, None, "has none");
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", free.local_addr().unwrap());
        drop(free);
        assert_eq!(answered(client().get(url)).await, None, "dead");
    }
}
