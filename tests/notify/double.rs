//! A Bot API double: it records every message that arrives, then answers, or not, as a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

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

#[derive(Default)]
struct Inner {
    scripts: VecDeque<Script>,
    delivered: Vec<String>,
    hanging: bool,
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
        let router = Router::new().route("/{bot}/sendMessage", post(send)).with_state(double.clone());
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

    /// Answers nothing while set; what arrives meanwhile is not delivered.
    pub fn hang(&self, hanging: bool) {
        self.lock().hanging = hanging;
    }

    /// Texts that arrived in the chat, in order.
    pub fn delivered(&self) -> Vec<String> {
        self.lock().delivered.clone()
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
            ("TELEGRAM_CHAT_ID", "-1001".to_owned()),
        ]
    }
}

async fn send(State(double): State<Telegram>, Path(bot): Path<String>, Json(body): Json<Value>) -> Response {
    let text = body["text"].as_str().unwrap().to_owned();
    assert!(text.encode_utf16().count() <= 4096);
    assert_eq!((bot.as_str(), body["chat_id"].as_str()), ("bot123:secret-token", Some("-1001")));
    let (script, hanging) = {
        let mut inner = double.lock();
        (inner.scripts.pop_front(), inner.hanging)
    };
    let refusal =
        |status: u16, body: Value| (http::StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    if hanging {
        return std::future::pending().await;
    }
    match script {
        None => {
            double.lock().delivered.push(text);
            Json(json!({ "ok": true, "result": { "message_id": 1 } })).into_response()
        }
        Some(Script::LoseAnswer) => {
            double.lock().delivered.push(text);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            std::future::pending().await
        }
        Some(Script::Fail) => (http::StatusCode::BAD_GATEWAY, "<html>").into_response(),
        Some(Script::TooMany(seconds)) => refusal(
            429,
            json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry later",
                "parameters": { "retry_after": seconds } }),
        ),
        Some(Script::Kicked) => refusal(
            403,
            json!({ "ok": false, "error_code": 403, "description": "Forbidden: bot was kicked from the group chat" }),
        ),
    }
}
