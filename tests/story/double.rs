//! A cluster of doubles: HTTP servers that share one inbox, each of which can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How an instance behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// Answers 503 to everything.
    Unavailable,
    /// Accepts connections and never answers, as a paused process does.
    Silent,
    /// Stores the signal and hangs up before it answers, as a process does that is killed just then.
    HangsUpAfterStoring,
    /// Refuses every signal.
    Refuses(u16),
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub body: Value,
    pub posted: usize,
    pub looks: usize,
}

#[derive(Debug, Default)]
pub struct Inbox {
    pub signals: BTreeMap<String, Stored>,
    /// Keys in the order of their first arrival.
    pub order: Vec<String>,
    /// Prices set at the control port, as text.
    pub prices: Vec<String>,
    /// The authorization headers seen.
    pub tokens: Vec<String>,
    /// How many looks find a signal unfinished.
    pub looks_until_final: usize,
    /// Makes one signal end otherwise: key, status.
    pub ends: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Shared {
    inbox: Arc<Mutex<Inbox>>,
    mood: Arc<Mutex<Mood>>,
}

pub struct Instance {
    pub address: String,
    mood: Arc<Mutex<Mood>>,
    server: JoinHandle<()>,
}

impl Instance {
    pub async fn start(inbox: &Arc<Mutex<Inbox>>, mood: Mood) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        let shared = Shared { inbox: Arc::clone(inbox), mood: Arc::clone(&mood) };
        let routes = Router::new()
            .route("/webhook", post(webhook))
            .route("/api/v1/signals/{id}", get(signal))
            .route("/api/v1/positions", get(positions))
            .route("/_ctl/price", post(price))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, mood, server }
    }

    pub fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Ends it; from then on nobody listens on its port.
    pub async fn kill(self) -> String {
        self.server.abort();
        let _ = self.server.await;
        self.address
    }
}

impl Shared {
    /// The answer of a bad mood, if it is one.
    async fn mood(&self) -> Result<Mood, Response> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Unavailable => Err(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Mood::Silent => std::future::pending().await,
            mood => Ok(mood),
        }
    }
}

async fn webhook(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let mood = match shared.mood().await {
        Ok(mood) => mood,
        Err(answer) => return answer,
    };
    if let Mood::Refuses(status) = mood {
        let faults = json!([{ "field": "stop", "message": "is above the price" }]);
        let problem = json!({ "title": "refused", "status": status, "faults": faults });
        return (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response();
    }
    let key = body["id"].as_str().unwrap().to_owned();
    let repeat = {
        let mut inbox = shared.inbox.lock().unwrap();
        let token = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        inbox.tokens.extend(token);
        let repeat = inbox.signals.contains_key(&key);
        if !repeat {
            inbox.order.push(key.clone());
        }
        let fresh = Stored { body, posted: 0, looks: 0 };
        inbox.signals.entry(key.clone()).or_insert(fresh).posted += 1;
        repeat
    };
    if mood == Mood::HangsUpAfterStoring {
        *shared.mood.lock().unwrap() = Mood::Silent;
        // A body shorter than announced: the connection is cut in the middle of the answer.
        let cut = futures_util::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other("killed"))]);
        return Response::new(axum::body::Body::from_stream(cut));
    }
    let (status, word) =
        if repeat { (StatusCode::OK, "pending") } else { (StatusCode::ACCEPTED, "accepted") };
    (status, Json(json!({ "id": format!("id-{key}"), "key": key, "status": word }))).into_response()
}

async fn signal(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    if let Err(answer) = shared.mood().await {
        return answer;
    }
    let key = id.strip_prefix("id-").unwrap().to_owned();
    let mut inbox = shared.inbox.lock().unwrap();
    let (until, end) = (inbox.looks_until_final, inbox.ends.get(&key).cloned());
    let Some(stored) = inbox.signals.get_mut(&key) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    stored.looks += 1;
    let is_final = stored.looks > until;
    let status = if is_final { end.unwrap_or_else(|| "executed".to_owned()) } else { "working".to_owned() };
    let orders = if status == "executed" {
        json!([{ "id": "i", "state": "filled", "epoch": 1, "broker_order_id": "7", "filled_quantity": 200,
            "average_price": stored.body["price"] }])
    } else {
        json!([])
    };
    let reasons = match status.as_str() {
        "refused" => json!([{ "code": "RISK", "sentence": "too much" }]),
        _ => json!([]),
    };
    let finished = is_final.then_some("2026-01-01T00:00:00Z");
    Json(json!({ "id": id, "key": key, "status": status, "orders": orders, "reasons": reasons,
        "finished_at": finished }))
    .into_response()
}

async fn positions(State(shared): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if let Err(answer) = shared.mood().await {
        return answer;
    }
    assert!(["open", "closed"].contains(&query["status"].as_str()));
    Json(json!({ "positions": [] })).into_response()
}

async fn price(State(shared): State<Shared>, body: String) -> Response {
    let wanted: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&wanted["symbol"], &wanted["exchange"]), (&json!("GOLDM05DEC25FUT"), &json!("MCX")));
    shared.inbox.lock().unwrap().prices.push(wanted["ltp"].as_str().unwrap().to_owned());
    StatusCode::OK.into_response()
}
