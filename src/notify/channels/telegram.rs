//! The Telegram Bot API: `sendMessage`, plain text, so that nothing in a message can be taken for markup.

use std::time::Duration;

use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Delivery, Message, http};

/// The Bot API's limit, in UTF-16 units as it counts them.
const TEXT_UNITS: usize = 4096;
/// What to do about a refusal.
const ADVICE: &str =
    "check notify.telegram_bot_token and notify.telegram_chat_id, and that the bot is in the chat";

/// A bot that writes to one chat, or back to whoever wrote to it.
#[derive(Clone)]
pub struct Telegram {
    client: Client,
    base: String,
    token: SecretString,
    chat: String,
}

/// The Bot API's answer, whatever was asked.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub ok: bool,
    pub result: Option<Value>,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    description: String,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Answer {
    /// The code of an error, and what the Bot API says of it.
    pub fn fault(&self, status: u16) -> (u16, String) {
        let code = if self.error_code == 0 { status } else { self.error_code };
        (code, format!("{code}: {}", self.description))
    }

    /// How long to leave it alone after a 429.
    pub fn pause(&self) -> Duration {
        let asked = self.parameters.as_ref().and_then(|parameters| parameters.retry_after);
        Duration::from_secs(asked.unwrap_or(30))
    }
}

impl Telegram {
    /// A bot at `base` (without a trailing slash) that writes to `chat`.
    pub fn new(client: Client, base: &str, token: SecretString, chat: String) -> Self {
        Self { client, base: base.to_owned(), token, chat }
    }

    /// Sends one message.
    pub(super) async fn deliver(&self, message: &Message) -> Delivery {
        let body = json!({
            "chat_id": message.recipient.as_deref().unwrap_or(&self.chat),
            "text": fitted(message),
            "disable_web_page_preview": true,
        });
        let url = format!("{}/bot{}/sendMessage", self.base, self.token.expose_secret());
        let answer = match http::exchange(self.client.post(url).json(&body)).await {
            Ok(answer) => answer,
            Err(delivery) => return delivery,
        };
        let Ok(said) = serde_json::from_slice::<Answer>(&answer.body) else {
            // A proxy's page, or half an answer.
            return match answer.status {
                200..=299 => Delivery::Again {
                    after: None,
                    uncertain: true,
                    why: "the answer is none of the Bot API's".to_owned(),
                },
                _ => answer.judge(ADVICE),
            };
        };
        judge(&said, answer.status)
    }
}

fn judge(answer: &Answer, status: u16) -> Delivery {
    if answer.ok {
        return Delivery::Sent;
    }
    let (code, why) = answer.fault(status);
    if let Some(chat) = answer.parameters.as_ref().and_then(|parameters| parameters.migrate_to_chat_id) {
        return Delivery::Refused { why: format!("{why}; set notify.telegram_chat_id = \"{chat}\"") };
    }
    match code {
        429 => Delivery::Again { after: Some(answer.pause()), uncertain: false, why },
        500..=599 => Delivery::Again { after: None, uncertain: true, why },
        _ => Delivery::Refused { why: format!("{why}; {ADVICE}") },
    }
}

/// The text, cut to what the Bot API takes, with its mark kept at the end.
fn fitted(message: &Message) -> String {
    let text = message.text();
    if text.encode_utf16().count() <= TEXT_UNITS {
        return text;
    }
    let tail = format!("…\n{}", message.mark());
    let mut room = TEXT_UNITS - tail.encode_utf16().count();
    let mut cut = String::new();
    for c in text.chars() {
        if c.len_utf16() > room {
            break;
        }
        room -= c.len_utf16();
        cut.push(c);
    }
    cut + &tail
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::super::super::event::Severity;
    use super::*;

    fn message(body: String) -> Message {
        Message {
            id: Uuid::nil(),
            cluster: "baton".to_owned(),
            subject: "s".to_owned(),
            body,
            severity: Severity::Error,
            types: Vec::new(),
            possible_repeat: true,
            created_at: DateTime::UNIX_EPOCH,
            recipient: None,
        }
    }

    #[test]
    fn a_long_text_is_cut_to_the_limit_in_utf16_and_keeps_its_mark() {
        assert_eq!(fitted(&message("short".to_owned())), "(possible repeat) short\n#00000000");
        for body in ["x".repeat(9000), "😀".repeat(3000), "x".repeat(4096) + "😀"] {
            let text = fitted(&message(body));
            assert!(text.encode_utf16().count() <= TEXT_UNITS);
            assert!(text.starts_with("(possible repeat) ") && text.ends_with("…\n#00000000"), "{text}");
        }
    }

    #[test]
    fn the_bot_api_is_understood() {
        let judge = |status, body: &str| judge(&serde_json::from_str(body).unwrap(), status);
        assert_eq!(judge(200, r#"{"ok":true,"result":{"message_id":1}}"#), Delivery::Sent);
        let wait = judge(
            429,
            r#"{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":7}}"#,
        );
        assert!(
            matches!(wait, Delivery::Again { after: Some(after), uncertain: false, .. } if after.as_secs() == 7)
        );
        let gone = judge(403, r#"{"ok":false,"error_code":403,"description":"Forbidden: bot was kicked"}"#);
        assert!(
            matches!(gone, Delivery::Refused { ref why } if why.contains("kicked") && why.contains("telegram_chat_id"))
        );
        let moved = judge(
            400,
            r#"{"ok":false,"error_code":400,"description":"upgraded","parameters":{"migrate_to_chat_id":-1001}}"#,
        );
        assert!(matches!(moved, Delivery::Refused { ref why } if why.contains("-1001")));
        let down = judge(502, r#"{"ok":false,"error_code":502,"description":"Bad Gateway"}"#);
        assert!(matches!(down, Delivery::Again { uncertain: true, .. }));
    }
}
