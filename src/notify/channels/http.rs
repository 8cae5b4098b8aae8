//! What the HTTP channels share: a client, and what an answer says of the delivery.

use std::time::Duration;

use reqwest::{Client, Response, header};

use super::{ChannelError, Delivery};
use crate::causes::with_causes;

/// The longest text of the other side that is kept.
const SAID_CHARS: usize = 200;
/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// A client whose requests take at most `timeout`.
pub(super) fn client(timeout: Duration) -> Result<Client, ChannelError> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(ChannelError::Client)
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Sends a request; on failure says whether it may have arrived. Never names the URL: it may hold a secret.
pub(super) async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, Delivery> {
    exchange_up_to(request, ANSWER_BYTES).await.map_err(|Failed { uncertain, why }| Delivery::Again {
        after: None,
        uncertain,
        why,
    })
}

/// Why a request got no answer.
pub(super) struct Failed {
    /// It may have arrived all the same.
    pub uncertain: bool,
    /// What happened; names no secret.
    pub why: String,
}

/// Sends a request and reads an answer of at most so many bytes.
pub(super) async fn exchange_up_to(request: reqwest::RequestBuilder, limit: usize) -> Result<Answer, Failed> {
    let response = request.send().await.map_err(failed)?;
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = read(response, limit).await.map_err(failed)?;
    Ok(Answer { status, retry_after, body })
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            break;
        }
    }
    Ok(body)
}

fn failed(error: reqwest::Error) -> Failed {
    // A connection that never was carried nothing.
    let uncertain = !error.is_connect() && !error.is_builder();
    Failed { uncertain, why: with_causes(&error.without_url()) }
}

impl Answer {
    /// What the status says: 2xx is delivered, 408, 425, 429 and 5xx are worth another try, the rest is refused.
    pub fn judge(&self, advice: &str) -> Delivery {
        match self.status {
            200..=299 => Delivery::Sent,
            429 => Delivery::Again {
                after: Some(self.retry_after.unwrap_or(Duration::from_secs(30))),
                uncertain: false,
                why: format!("HTTP 429: {}", self.said()),
            },
            408 | 425 | 500..=599 => Delivery::Again {
                after: self.retry_after,
                uncertain: true,
                why: format!("HTTP {}: {}", self.status, self.said()),
            },
            status => Delivery::Refused { why: format!("HTTP {status}: {}; {advice}", self.said()) },
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().chars().take(SAID_CHARS).collect()
    }
}
