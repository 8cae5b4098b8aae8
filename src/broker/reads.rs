//! Reads: an ordinary pooled client with a time limit and a few repeats. Nothing here can place an order.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::json::{self, Object};
use super::settings::{Settings, SettingsError};
use super::types::{BridgeMode, BrokerError};
use super::unchanged::Unchanged;
use crate::causes::with_causes;

/// The order book of a busy day is well below this.
const ANSWER_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// Before a read that the bridge's limit refused is repeated: two repeats are past the second that the limit is for.
const RATE_WAIT: Duration = Duration::from_millis(550);

/// The client for reads.
pub(super) struct Reads {
    client: Client,
    base: String,
    api_key: SecretString,
    armed: BridgeMode,
    timeout: Duration,
    attempts: usize,
}

// === impl Reads ===

impl Reads {
    /// Builds the client; `base` ends in `/api/v1/`.
    pub fn new(settings: &Settings, base: String, tls: rustls::ClientConfig) -> Result<Self, SettingsError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // A proxy from the environment must not come between agent and bridge.
            .no_proxy()
            .dns_resolver(settings.resolver.clone())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.read_timeout)
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Self {
            client,
            base,
            api_key: settings.api_key.clone(),
            armed: settings.mode,
            timeout: settings.read_timeout,
            attempts: settings.read_attempts,
        })
    }

    /// Calls `route` and returns its `data`; an answer in the other mode is an error.
    pub async fn data(&self, route: &'static str, fields: Object) -> Result<Value, BrokerError> {
        self.checked(route, "data", self.call(route, fields).await?)
    }

    /// The same of a route about the account, read by `parse`: the sandbox names itself in each, so an answer without a mode is
    /// the real account's.
    pub async fn account<T>(
        &self,
        route: &'static str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, BrokerError> {
        self.of_account(route, self.call(route, Object::new()).await?, parse)
    }

    /// The same, where what was made of an answer holds for the next one that is no other.
    pub async fn account_anew<T: Clone>(
        &self,
        route: &'static str,
        before: &Unchanged<T>,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, BrokerError> {
        let read = || async {
            let (status, body) = self.fetch(route, Object::new()).await?;
            // Nothing is noted but what came with this status.
            if status == 200
                && let Some(made) = before.made_of(&body)
            {
                return Ok(made);
            }
            let made = self.of_account(route, judge(route, status, &body)?, &parse)?;
            before.note(body, made.clone());
            Ok(made)
        };
        read.retry(self.policy()).when(is_passing).adjust(within_rate).await
    }

    fn of_account<T>(
        &self,
        route: &'static str,
        answer: Object,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, BrokerError> {
        in_mode(self.armed, said_mode(&answer).or(Some(BridgeMode::Live)))?;
        let data = take(route, "data", answer)?;
        parse(&data).map_err(|problem| BrokerError::Malformed { route, problem })
    }

    /// Calls `route` a single time and returns its `field`; an answer in the other mode is an error.
    pub async fn once(
        &self,
        route: &'static str,
        field: &'static str,
        fields: Object,
    ) -> Result<Value, BrokerError> {
        self.checked(route, field, self.attempt(route, fields).await?)
    }

    fn checked(
        &self,
        route: &'static str,
        field: &'static str,
        answer: Object,
    ) -> Result<Value, BrokerError> {
        in_mode(self.armed, said_mode(&answer))?;
        take(route, field, answer)
    }

    /// Calls `/analyzer`.
    pub async fn mode(&self) -> Result<BridgeMode, BrokerError> {
        let route = "analyzer";
        let data = take(route, "data", self.call(route, Object::new()).await?)?;
        let mode = data.get("mode").and_then(Value::as_str).unwrap_or_default();
        mode.parse().map_err(|_| BrokerError::Malformed { route, problem: format!("mode is {mode:?}") })
    }

    async fn call(&self, route: &'static str, fields: Object) -> Result<Object, BrokerError> {
        (|| self.attempt(route, fields.clone()))
            .retry(self.policy())
            .when(is_passing)
            .adjust(within_rate)
            .await
    }

    fn policy(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
    }

    async fn attempt(&self, route: &'static str, fields: Object) -> Result<Object, BrokerError> {
        let (status, body) = self.fetch(route, fields).await?;
        judge(route, status, &body)
    }

    /// The status and body of an answer.
    async fn fetch(&self, route: &'static str, mut fields: Object) -> Result<(u16, Vec<u8>), BrokerError> {
        fields.insert("apikey".to_owned(), json!(self.api_key.expose_secret()));
        let failed = |error: reqwest::Error| match error.is_timeout() {
            true => BrokerError::TimedOut { route, within_ms: self.timeout.as_millis() },
            false => BrokerError::Unreachable { route, reason: with_causes(&error) },
        };
        let request = self.client.post(format!("{}{route}", self.base)).json(&fields);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT_BYTES {
                let problem = format!("longer than {ANSWER_LIMIT_BYTES} bytes");
                return Err(BrokerError::Malformed { route, problem });
            }
        }
        Ok((status, body))
    }
}

/// What an answer to a read says.
fn judge(route: &'static str, status: u16, body: &[u8]) -> Result<Object, BrokerError> {
    let text = || json::clip(String::from_utf8_lossy(body).trim());
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else {
        return Err(match status {
            200 => BrokerError::Malformed { route, problem: format!("no JSON object: {}", text()) },
            _ => BrokerError::Refused { route, status, said: text() },
        });
    };
    if status == 200 && answer.get("status").and_then(Value::as_str) == Some("success") {
        return Ok(answer);
    }
    let said = json::message(&answer);
    Err(match status {
        _ if is_dead_session(&said) => BrokerError::SessionExpired { said },
        429 => BrokerError::RateLimited { said },
        _ => BrokerError::Refused { route, status, said },
    })
}

/// The mode that an answer names.
fn said_mode(answer: &Object) -> Option<BridgeMode> {
    answer.get("mode").and_then(Value::as_str).and_then(|mode| mode.parse().ok())
}

fn in_mode(expected: BridgeMode, found: Option<BridgeMode>) -> Result<(), BrokerError> {
    match found {
        Some(found) if found != expected => Err(BrokerError::WrongMode { expected, found }),
        _ => Ok(()),
    }
}

/// How a dead broker session speaks through the books: as a 403, or as a 500 with the broker's words in it.
fn is_dead_session(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    said.contains("invalid openalgo apikey")
        || said.contains("403 forbidden")
        || said.contains("access_token")
}

/// Worth another attempt now. A timeout is not: the bridge still works on the first one.
fn is_passing(error: &BrokerError) -> bool {
    match error {
        BrokerError::Unreachable { .. } | BrokerError::RateLimited { .. } => true,
        BrokerError::Refused { status, .. } => *status >= 500,
        _ => false,
    }
}

/// The bridge counts requests by a second that moves: sooner another one would be refused, too.
fn within_rate(error: &BrokerError, wait: Option<Duration>) -> Option<Duration> {
    match error {
        BrokerError::RateLimited { .. } => wait.map(|wait| wait.max(RATE_WAIT)),
        _ => wait,
    }
}

fn take(route: &'static str, field: &'static str, mut answer: Object) -> Result<Value, BrokerError> {
    answer
        .remove(field)
        .ok_or_else(|| BrokerError::Malformed { route, problem: format!("{field:?} is missing") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_answers_are_told_apart() {
        let of = |status, body: &str| judge("orderbook", status, body.as_bytes());
        assert!(of(200, r#"{"status":"success","data":{}}"#).is_ok());
        assert!(matches!(of(200, r#"{"data":{}}"#), Err(BrokerError::Refused { .. })));
        assert!(matches!(of(200, "<html>"), Err(BrokerError::Malformed { .. })));
        assert!(matches!(of(502, "<html>"), Err(BrokerError::Refused { status: 502, .. })));
        assert!(matches!(
            of(403, r#"{"status":"error","message":"Invalid openalgo apikey"}"#),
            Err(BrokerError::SessionExpired { .. })
        ));
        assert!(matches!(
            of(500, r#"{"status":"error","message":"Incorrect `api_key` or `access_token`."}"#),
            Err(BrokerError::SessionExpired { .. })
        ));
        assert!(matches!(of(429, r#"{"message":"50 per 1 second"}"#), Err(BrokerError::RateLimited { .. })));
        let bug = of(500, r#"{"status":"error","message":"cannot access local variable 'order_status'"}"#);
        assert!(is_passing(&bug.unwrap_err()));
    }

    #[test]
    fn a_validation_object_is_readable() {
        let error = judge("quotes", 400, br#"{"status":"error","message":{"symbol":["Missing data."]}}"#);
        assert!(error.unwrap_err().to_string().contains("Missing data"));
    }
}
