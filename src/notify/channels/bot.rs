//! The Telegram Bot API as far as commands need it: who the bot is, and what was sent to it.
//!
//! An update is read leniently, one by one: one that cannot be read must not hide the others, nor come again for ever.

use std::time::Duration;

use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::telegram::Answer;
use super::{ChannelError, http};
use crate::config;

/// Updates asked for at once: few enough that the longest of them fit into an answer that is read.
const UPDATES: u8 = 20;
/// The longest answer that is read.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// What the answer to a long poll may take beyond the poll itself.
const SLACK: Duration = Duration::from_secs(5);

/// A bot that is asked for commands.
pub struct Bot {
    client: Client,
    base: String,
    token: SecretString,
    timeout: Duration,
}

/// Why the Bot API gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BotError {
    /// It is worth another try, not before the wait that it asked for.
    Later {
        /// How long to wait, if it said so.
        after: Option<Duration>,
        /// What happened; names no secret.
        why: String,
    },
    /// Somebody has to change something.
    Refused {
        /// Why, and what to do.
        why: String,
    },
}

/// Something that was sent to the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its number.
    pub id: i64,
    /// The message, if it is one that a person wrote here and now.
    pub message: Option<Written>,
}

/// A message that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub chat: i64,
    /// Who.
    pub sender: i64,
    /// The sender's name, for histories.
    pub name: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// What.
    pub text: String,
}

#[derive(Deserialize)]
struct Me {
    id: i64,
    username: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    chat: Id,
    from: Option<Sender>,
    date: i64,
    text: Option<String>,
    forward_origin: Option<Value>,
    via_bot: Option<Value>,
}

#[derive(Deserialize)]
struct Id {
    id: i64,
}

#[derive(Deserialize)]
struct Sender {
    id: i64,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    first_name: String,
    username: Option<String>,
}

// === impl Bot ===

impl Bot {
    /// The configured bot; none without a token.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn configured(notify: &config::Notify) -> Result<Option<Self>, ChannelError> {
        let Some(token) = notify.telegram_bot_token.clone() else { return Ok(None) };
        let client = http::client(notify.timeout)?;
        Ok(Some(Self { client, base: notify.telegram_url.clone(), token, timeout: notify.timeout }))
    }

    /// The bot's number and name.
    ///
    /// # Errors
    /// The Bot API does not answer, or refuses the token.
    pub async fn me(&self) -> Result<(i64, String), BotError> {
        let me: Me = self.call("getMe", &json!({}), self.timeout).await?;
        Ok((me.id, me.username.unwrap_or_default()))
    }

    /// What was sent from number `offset` on; waits for something for at most `poll`. What is below the offset the Bot
    /// API then forgets.
    ///
    /// # Errors
    /// The Bot API does not answer, or refuses.
    pub async fn updates(&self, offset: Option<i64>, poll: Duration) -> Result<Vec<Update>, BotError> {
        let body = json!({
            "offset": offset, "limit": UPDATES, "timeout": poll.as_secs(), "allowed_updates": ["message"],
        });
        let updates: Vec<Value> = self.call("getUpdates", &body, poll + SLACK).await?;
        Ok(updates.into_iter().filter_map(update).collect())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<T, BotError> {
        let later = |why: String| BotError::Later { after: None, why };
        let url = format!("{}/bot{}/{method}", self.base, self.token.expose_secret());
        let request = self.client.post(url).timeout(timeout).json(body);
        let answer = http::exchange_up_to(request, ANSWER_BYTES).await.map_err(|failed| later(failed.why))?;
        let Ok(mut said) = serde_json::from_slice::<Answer>(&answer.body) else {
            return Err(later(format!("HTTP {}: the answer is none of the Bot API's", answer.status)));
        };
        match said.result.take().filter(|_| said.ok) {
            Some(result) => serde_json::from_value(result).map_err(|error| later(error.to_string())),
            None => Err(judge(&said, answer.status)),
        }
    }
}

fn judge(answer: &Answer, status: u16) -> BotError {
    let (code, why) = answer.fault(status);
    match code {
        429 => BotError::Later { after: Some(answer.pause()), why },
        409 if why.contains("webhook") => BotError::Refused {
            why: format!("{why}; the bot has a webhook: delete it (deleteWebhook), or use a bot of its own"),
        },
        // Another poll of the same bot: the last leader's, until it has ended.
        409 | 500..=599 => BotError::Later { after: None, why },
        _ => BotError::Refused { why: format!("{why}; check notify.telegram_bot_token") },
    }
}

/// None for what has no number.
fn update(value: Value) -> Option<Update> {
    let id = value["update_id"].as_i64()?;
    let message = value.get("message").and_then(|message| Message::deserialize(message).ok());
    Some(Update { id, message: message.and_then(written) })
}

/// A message counts if a person wrote it: not a bot, not passed on from elsewhere.
fn written(message: Message) -> Option<Written> {
    let (sender, text) = (message.from?, message.text?);
    if sender.is_bot || message.forward_origin.is_some() || message.via_bot.is_some() {
        return None;
    }
    let name = sender.username.unwrap_or(sender.first_name);
    Some(Written { chat: message.chat.id, sender: sender.id, name, at: message.date, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_read_as_the_bot_api_sends_it() {
        let sent = json!({ "update_id": 7, "message": { "message_id": 1, "date": 1_795_596_120,
            "chat": { "id": -1001, "type": "supergroup", "title": "desk" },
            "from": { "id": 42, "is_bot": false, "first_name": "Asha", "username": "asha" }, "text": "/halt news" } });
        let written = Written {
            chat: -1001,
            sender: 42,
            name: "asha".to_owned(),
            at: 1_795_596_120,
            text: "/halt news".to_owned(),
        };
        assert_eq!(update(sent.clone()), Some(Update { id: 7, message: Some(written) }));
        let without = |change: fn(&mut Value)| {
            let mut sent = sent.clone();
            change(&mut sent["message"]);
            update(sent).unwrap().message
        };
        assert_eq!(without(|m| m["forward_origin"] = json!({ "type": "user" })), None, "passed on");
        assert_eq!(without(|m| m["from"]["is_bot"] = json!(true)), None);
        assert_eq!(without(|m| m["from"] = Value::Null), None, "a channel's post has no sender");
        assert_eq!(without(|m| m["date"] = json!("yesterday")), None);
        assert_eq!(update(json!({ "update_id": 8 })), Some(Update { id: 8, message: None }));
        assert_eq!(update(json!({ "message": {} })), None);
    }

    #[test]
    fn a_refusal_says_who_can_mend_it() {
        let judge = |status, body: Value| judge(&serde_json::from_value(body).unwrap(), status);
        let conflict = |why: &str| json!({ "ok": false, "error_code": 409, "description": why });
        let wait = json!({ "ok": false, "error_code": 429, "parameters": { "retry_after": 7 } });
        assert!(
            matches!(judge(429, wait), BotError::Later { after: Some(after), .. } if after.as_secs() == 7)
        );
        let other = conflict("Conflict: terminated by other getUpdates request");
        assert!(matches!(judge(409, other), BotError::Later { after: None, .. }));
        let hook = conflict("Conflict: can't use getUpdates method while webhook is active");
        assert!(matches!(judge(409, hook), BotError::Refused { ref why } if why.contains("deleteWebhook")));
        let token = json!({ "ok": false, "description": "Unauthorized" });
        assert!(
            matches!(judge(401, token), BotError::Refused { ref why } if why.contains("telegram_bot_token"))
        );
    }
}
