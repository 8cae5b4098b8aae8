//! A generic webhook: one JSON document a message, signed over time stamp and body so that the receiver can tell ours
//! from anybody's and a fresh one from a replay.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::Sha256;

use super::{Delivery, Message, http};

/// What to do about a refusal.
const ADVICE: &str = "check notify.webhook_url and notify.webhook_secret against the receiver";

/// A webhook.
pub struct Webhook {
    client: Client,
    url: SecretString,
    secret: Option<SecretString>,
}

impl Webhook {
    /// A webhook at `url`; signed if there is a secret.
    pub fn new(client: Client, url: SecretString, secret: Option<SecretString>) -> Self {
        Self { client, url, secret }
    }

    /// Posts one message.
    pub(super) async fn deliver(&self, message: &Message) -> Delivery {
        let body = json!({
            "id": message.id,
            "cluster": message.cluster,
            "severity": message.severity,
            "types": message.types,
            "subject": message.subject,
            "text": message.body,
            "possible_repeat": message.possible_repeat,
            "created_at": message.created_at,
        })
        .to_string();
        let time = chrono::Utc::now().timestamp().to_string();
        let mut request = self
            .client
            .post(self.url.expose_secret())
            .header("content-type", "application/json")
            .header("idempotency-key", message.id.to_string())
            .header("x-baton-timestamp", &time);
        if let Some(secret) = &self.secret {
            let signature = sign(secret.expose_secret().as_bytes(), &time, &body);
            request = request.header("x-baton-signature", format!("sha256={signature}"));
        }
        match http::exchange(request.body(body)).await {
            Ok(answer) => answer.judge(ADVICE),
            Err(delivery) => delivery,
        }
    }
}

/// HMAC-SHA-256 over `time.body`, in hexadecimal.
pub fn sign(secret: &[u8], time: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_any_other_tool_computes() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret
        let signature = sign(b"s3cret", "1700000000", r#"{"a":1}"#);
        assert_eq!(signature, "1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940");
    }
}
