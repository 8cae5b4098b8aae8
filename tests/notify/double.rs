//! A Bot API double: it records every message that arrives, then answers, or not, as a test says; and it is asked for
//! updates as the real one is, forgetting what is below the offset.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The chat that notifications go to.
pub const CHAT: i64 = -1001;
/// The bot's name.
pub const BOT: &str = "baton_bot";

/// What becomes of the next message that arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Script {
    /// 429 with this `retry_after` in seconds; not delivered.
    TooMany(u64),
    /// 502 from the front, not delivered.
    Fail,
    /// Delivered, but the answer never comes.
    LoseAnswer,
    /// 403: the bot was kicked.
    Kicked,
}

/// What becomes of the next poll that finds updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PollScript {
    /// 429 with this `retry_after` in seconds.
    TooMany(u64),
    /// 502 from the front.
    Fail,
    /// The connection ends in the middle of the answer.
    LoseAnswer,
    /// Nothing comes, for as long as the asker waits.
    Hang,
}

#[derive(Default)]
struct Inner {
    scripts: VecDeque<Script>,
    polls: VecDeque<PollScript>,
    delivered: Vec<(i64, String)>,
    tried: usize,
    hanging: bool,
    updates: Vec<Value>,
    last_update: i64,
    /// The number of the poll that may answer: a newer one ends it.
    poll: u64,
    polling: usize,
    most_polling: usize,
}

/// The double; it serves as long as the test.
#[derive(Clone, Default)]
pub struct Telegram {
    inner: Arc<Mutex<Inner>>,
    pub url: String,
}

impl Telegram {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let double = Self { inner: Arc::default(), url };
        double.lock().last_update = 7000;
        let router = Router::new()
            .route("/{bot}/sendMessage", post(send))
            .route("/{bot}/getMe", post(me))
            .route("/{bot}/getUpdates", post(updates))
            .with_state(double.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        double
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The next messages meet this, one each.
    pub fn script(&self, scripts: &[Script]) {
        self.lock().scripts.extend(scripts);
    }

    /// The next polls that find updates meet this, one each.
    pub fn script_polls(&self, scripts: &[PollScript]) {
        self.lock().polls.extend(scripts);
    }

    /// Polls that are still to meet something.
    pub fn scripted_polls(&self) -> usize {
        self.lock().polls.len()
    }

    /// Answers nothing while set; what arrives meanwhile is not delivered.
    pub fn hang(&self, hanging: bool) {
        self.lock().hanging = hanging;
    }

    /// Somebody writes to the bot, so many seconds ago.
    pub fn write(&self, chat: i64, sender: i64, text: &str, seconds_ago: i64) {
        let date = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64 - seconds_ago;
        let mut inner = self.lock();
        inner.last_update += 1;
        let update = json!({ "update_id": inner.last_update, "message": {
            "message_id": inner.last_update, "date": date, "text": text,
            "chat": { "id": chat, "type": "supergroup", "title": "desk" },
            "from": { "id": sender, "is_bot": false, "first_name": "Asha", "username": "asha" },
        } });
        inner.updates.push(update);
    }

    /// The most polls at a time so far.
    pub fn most_polling(&self) -> usize {
        self.lock().most_polling
    }

    /// Updates that nobody has taken yet.
    pub fn untaken(&self) -> usize {
        self.lock().updates.len()
    }

    /// Texts that arrived in the channel's chat, in order.
    pub fn delivered(&self) -> Vec<String> {
        self.replies(CHAT)
    }

    /// Texts that arrived in a chat, in order.
    pub fn replies(&self, chat: i64) -> Vec<String> {
        let inner = self.lock();
        inner.delivered.iter().filter(|(to, _)| *to == chat).map(|(_, text)| text.clone()).collect()
    }

    /// Every chat that something arrived in.
    pub fn chats(&self) -> Vec<i64> {
        let mut chats: Vec<i64> = self.lock().delivered.iter().map(|(chat, _)| *chat).collect();
        chats.sort_unstable();
        chats.dedup();
        chats
    }

    /// Messages that came, delivered or not.
    pub fn tried(&self) -> usize {
        self.lock().tried
    }

    /// Texts with this in them.
    pub fn with(&self, part: &str) -> Vec<String> {
        self.delivered().into_iter().filter(|text| text.contains(part)).collect()
    }

    /// The environment that points an instance here.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BATON_NOTIFY__TELEGRAM_URL", self.url.clone()),
            ("TELEGRAM_BOT_TOKEN", "123:secret-token".to_owned()),
            ("TELEGRAM_CHAT_ID", CHAT.to_string()),
        ]
    }
}

fn refusal(status: u16, body: Value) -> Response {
    (http::StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn too_many(seconds: u64) -> Response {
    let body = json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry later",
        "parameters": { "retry_after": seconds } });
    refusal(429, body)
}

async fn send(State(double): State<Telegram>, Path(bot): Path<String>, Json(body): Json<Value>) -> Response {
    let text = body["text"].as_str().unwrap().to_owned();
    assert!(text.encode_utf16().count() <= 4096);
    assert_eq!(bot, "bot123:secret-token");
    let chat: i64 = body["chat_id"].as_str().unwrap().parse().unwrap();
    let (script, hanging) = {
        let mut inner = double.lock();
        inner.tried += 1;
        (inner.scripts.pop_front(), inner.hanging)
    };
    if hanging {
        return std::future::pending().await;
    }
    match script {
        None => {
            double.lock().delivered.push((chat, text));
            Json(json!({ "ok": true, "result": { "message_id": 1 } })).into_response()
        }
        Some(Script::LoseAnswer) => {
            double.lock().delivered.push((chat, text));
            std::future::pending().await
        }
        Some(Script::Fail) => (http::StatusCode::BAD_GATEWAY, "<html>").into_response(),
        Some(Script::TooMany(seconds)) => too_many(seconds),
        Some(Script::Kicked) => refusal(
            403,
            json!({ "ok": false, "error_code": 403, "description": "Forbidden: bot was kicked from the group chat" }),
        ),
    }
}

async fn me() -> Response {
    let me = json!({ "id": 123, "is_bot": true, "first_name": "Baton", "username": BOT });
    Json(json!({ "ok": true, "result": me })).into_response()
}

/// Counts a poll for as long as its asker waits.
struct Polling(Telegram);

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.lock().polling -= 1;
    }
}

async fn updates(State(double): State<Telegram>, Json(body): Json<Value>) -> Response {
    let offset = body["offset"].as_i64().unwrap_or(0);
    let limit = body["limit"].as_u64().unwrap() as usize;
    let until = tokio::time::Instant::now() + Duration::from_secs(body["timeout"].as_u64().unwrap());
    let (mine, _polling) = {
        let mut inner = double.lock();
        inner.updates.retain(|update| update["update_id"].as_i64().unwrap() >= offset);
        inner.poll += 1;
        inner.polling += 1;
        inner.most_polling = inner.most_polling.max(inner.polling);
        (inner.poll, Polling(double.clone()))
    };
    loop {
        let (found, script) = {
            let mut inner = double.lock();
            if inner.poll != mine {
                let description = "Conflict: terminated by other getUpdates request";
                return refusal(409, json!({ "ok": false, "error_code": 409, "description": description }));
            }
            let found: Vec<Value> = inner.updates.iter().take(limit).cloned().collect();
            let script = if found.is_empty() { None } else { inner.polls.pop_front() };
            (found, script)
        };
        match script {
            Some(PollScript::TooMany(seconds)) => return too_many(seconds),
            Some(PollScript::Fail) => return (http::StatusCode::BAD_GATEWAY, "<html>").into_response(),
            Some(PollScript::LoseAnswer) => {
                let half = json!({ "ok": true, "result": found }).to_string();
                return half[..half.len() / 2].to_owned().into_response();
            }
            Some(PollScript::Hang) => return std::future::pending().await,
            None if !found.is_empty() || tokio::time::Instant::now() >= until => {
                return Json(json!({ "ok": true, "result": found })).into_response();
            }
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
