//! A webhook that takes Slack's JSON: Slack itself, Mattermost, and others that speak alike.

use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{Delivery, Message, http};

/// What to do about a refusal.
const ADVICE: &str = "check notify.slack_url";

/// An incoming webhook.
pub struct Slack {
    client: Client,
    url: SecretString,
}

impl Slack {
    /// An incoming webhook; its URL is its secret.
    pub fn new(client: Client, url: SecretString) -> Self {
        Self { client, url }
    }

    /// Posts one message.
    pub(super) async fn deliver(&self, message: &Message) -> Delivery {
        // Only these three have a meaning of their own.
        let text = message.text().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let request = self.client.post(self.url.expose_secret()).json(&json!({ "text": text }));
        match http::exchange(request).await {
            Ok(answer) => answer.judge(ADVICE),
            Err(delivery) => delivery,
        }
    }
}
