//! One socket: `select` gathers a frame from either side, `Session::react` answers synchronously.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::messages::{self, Mode};
use crate::paper::hub::{Frame, Hub};
use crate::paper::{BridgeMode, SymbolKey};

/// A peer that takes nothing for this long is gone: its socket must not hold frames.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Symbols on one socket, as the real proxy allows.
const MAX_SYMBOLS: usize = 1000;
/// The close code of a socket that did not authenticate in time.
const AUTH_TIMEOUT_CODE: u16 = 4401;

/// Why a socket ended other than by a close.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the WebSocket handshake failed")]
    Handshake(#[source] SocketError),
    #[error("reading from the WebSocket failed")]
    Read(#[source] SocketError),
    #[error("writing to the WebSocket failed")]
    Write(#[source] SocketError),
    #[error("the peer took nothing for {} s", SEND_TIMEOUT.as_secs())]
    Stuck,
}

enum Action {
    Received(Message),
    Outgoing(Frame),
    Ping,
    AuthTimeout,
    Lagged(u64),
    End,
}

/// Serves one socket until it ends.
pub(super) async fn run(hub: Arc<Hub>, stream: TcpStream) -> Result<(), Error> {
    let _ = stream.set_nodelay(true);
    let mut frames = hub.frames.subscribe();
    let mut socket = accept_async(stream).await.map_err(Error::Handshake)?;
    let mut session = Session::new(Arc::clone(&hub));
    let grace = tokio::time::sleep(hub.options.ws_auth_grace);
    tokio::pin!(grace);
    let period = hub.options.ws_ping_interval.max(Duration::from_millis(10));
    let mut ping = tokio::time::interval_at(Instant::now() + period, period);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let action = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message)) => Action::Received(message),
                Some(Err(error)) => return Err(Error::Read(error)),
                None => Action::End,
            },
            frame = frames.recv() => match frame {
                Ok(frame) => Action::Outgoing(frame),
                Err(RecvError::Lagged(lost)) => Action::Lagged(lost),
                Err(RecvError::Closed) => Action::End,
            },
            () = &mut grace, if !session.authenticated => Action::AuthTimeout,
            _ = ping.tick() => Action::Ping,
        };
        let replies = match action {
            Action::Received(Message::Text(text)) => session.react(&text),
            Action::Received(Message::Close(_)) | Action::End | Action::Outgoing(Frame::Drop) => {
                return Ok(());
            }
            Action::Received(_) => continue,
            Action::Outgoing(frame) => session.hears(&frame),
            Action::Ping => vec![Message::Ping(Vec::new().into())],
            Action::AuthTimeout => {
                let close = CloseFrame { code: AUTH_TIMEOUT_CODE.into(), reason: "auth timeout".into() };
                vec![Message::Close(Some(close))]
            }
            Action::Lagged(lost) => {
                tracing::warn!(lost, "a paper bridge socket is slow and lost frames");
                continue;
            }
        };
        let closing = matches!(replies.last(), Some(Message::Close(_)));
        for reply in replies {
            let sent = tokio::time::timeout(SEND_TIMEOUT, socket.send(reply)).await;
            sent.map_err(|_| Error::Stuck)?.map_err(Error::Write)?;
        }
        if closing {
            return Ok(());
        }
    }
}

/// What one socket has asked for.
struct Session {
    hub: Arc<Hub>,
    authenticated: bool,
    /// The login that it authenticated under.
    login: u64,
    wants_orders: bool,
    symbols: BTreeMap<SymbolKey, BTreeSet<Mode>>,
}

impl Session {
    fn new(hub: Arc<Hub>) -> Self {
        Self { hub, authenticated: false, login: 0, wants_orders: false, symbols: BTreeMap::new() }
    }

    /// What a frame from the market or the order stream becomes on this socket.
    fn hears(&self, frame: &Frame) -> Vec<Message> {
        let broker = &self.hub.options.broker;
        match frame {
            // The adapter behind it is gone; nothing says so.
            Frame::Tick(_) if self.is_cut_off() => Vec::new(),
            Frame::Tick(tick) => {
                let modes = self.symbols.get(&tick.listing.spec.key);
                let modes = modes.into_iter().flatten();
                modes.map(|mode| text(&messages::tick(tick, *mode, broker))).collect()
            }
            Frame::Update(update) if self.wants_orders => {
                let shape = self.hub.lock().mode;
                // A live broker's stream comes through the adapter too; the sandbox's is the bridge's own.
                if shape == BridgeMode::Live && self.is_cut_off() {
                    return Vec::new();
                }
                vec![text(&messages::order_update(update, shape, &self.hub.options))]
            }
            Frame::Update(_) | Frame::Drop => Vec::new(),
        }
    }

    /// Answers one message of the client.
    fn react(&mut self, received: &str) -> Vec<Message> {
        let Ok(request) = serde_json::from_str::<Value>(received) else {
            return vec![text(&messages::error("INVALID_JSON", "Invalid JSON message"))];
        };
        let action = request.get("action").or_else(|| request.get("type")).and_then(Value::as_str);
        let mut reply = match action.unwrap_or_default() {
            "ping" => messages::pong(&request, chrono::Utc::now().timestamp_millis()),
            "authenticate" | "auth" => self.authenticate(&request),
            "subscribe"
            | "unsubscribe"
            | "unsubscribe_all"
            | "subscribe_orders"
            | "unsubscribe_orders"
            | "get_broker_info"
            | "get_supported_brokers"
                if !self.authenticated =>
            {
                let message = "You must authenticate first";
                return vec![text(&messages::error("NOT_AUTHENTICATED", message))];
            }
            "subscribe" => self.subscribe(&request),
            "unsubscribe" => self.unsubscribe(&request),
            "unsubscribe_all" => {
                self.symbols.clear();
                json!({ "type": "unsubscribe_all", "status": "success", "message": "Unsubscribed from all symbols" })
            }
            "subscribe_orders" => {
                self.wants_orders = true;
                json!({ "type": "subscribe_orders", "status": "success" })
            }
            "unsubscribe_orders" => {
                self.wants_orders = false;
                json!({ "type": "unsubscribe_orders", "status": "success" })
            }
            "get_broker_info" => {
                json!({ "type": "broker_info", "status": "success", "broker": self.hub.options.broker })
            }
            "get_supported_brokers" => {
                json!({ "type": "supported_brokers", "status": "success", "brokers": [self.hub.options.broker] })
            }
            other => messages::error("INVALID_ACTION", &format!("Invalid action: {other}")),
        };
        if reply["status"] != "error" || reply.get("type").is_some() {
            echo_request_id(&request, &mut reply);
        }
        vec![text(&reply)]
    }

    /// A failed attempt does not close the socket; a dead session still authenticates.
    fn authenticate(&mut self, request: &Value) -> Value {
        let key = request.get("api_key").or_else(|| request.get("apikey")).and_then(Value::as_str);
        if key != Some(self.hub.options.api_key.as_str()) {
            return messages::error("AUTHENTICATION_ERROR", "Invalid API key");
        }
        if self.hub.lock().session_revoked() {
            return messages::error("BROKER_ERROR", "No broker configuration found for user");
        }
        if self.is_cut_off() {
            self.symbols.clear();
        }
        if !std::mem::replace(&mut self.authenticated, true) {
            self.hub.listener_came();
        }
        self.login = self.hub.logins.load(Ordering::Relaxed);
        messages::authenticated(&self.hub.options)
    }

    /// The broker's session was renewed since it authenticated.
    fn is_cut_off(&self) -> bool {
        self.login != self.hub.logins.load(Ordering::Relaxed)
    }

    fn subscribe(&mut self, request: &Value) -> Value {
        if self.is_cut_off() {
            return messages::error("BROKER_ERROR", "Broker adapter not found");
        }
        let Some(mode) = Mode::read(request.get("mode")) else {
            return messages::error("INVALID_MODE", "Invalid mode: use 1, 2, 3, LTP, Quote or Depth");
        };
        let Some(keys) = requested(request) else {
            return messages::error("INVALID_PARAMETERS", "Missing symbols or symbol and exchange");
        };
        if self.symbols.len() + keys.len() > MAX_SYMBOLS {
            return messages::error("INVALID_PARAMETERS", "Too many symbols on one connection");
        }
        let depth = request.get("depth").cloned().unwrap_or_else(|| json!(5));
        let mut rows = Vec::new();
        let mut all = true;
        for (key, _) in keys {
            let listed = self.hub.lock().exchange.listing(&key).is_some();
            rows.push(messages::subscription(&key, mode, &depth, listed, &self.hub.options.broker));
            all &= listed;
            if listed {
                self.symbols.entry(key).or_default().insert(mode);
            }
        }
        json!({
            "type": "subscribe", "status": if all { "success" } else { "partial" },
            "subscriptions": rows, "message": "Subscription processing complete",
            "broker": self.hub.options.broker,
        })
    }

    /// Unsubscribing what was not subscribed is a success.
    fn unsubscribe(&mut self, request: &Value) -> Value {
        let Some(keys) = requested(request) else {
            return messages::error("INVALID_PARAMETERS", "Missing symbols or symbol and exchange");
        };
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for (key, mode) in keys {
            let mode = mode.or_else(|| request.get("mode").cloned());
            let row = json!({ "symbol": key.symbol, "exchange": key.exchange });
            match Mode::read(mode.as_ref()) {
                Some(mode) => {
                    if let Some(modes) = self.symbols.get_mut(&key) {
                        modes.remove(&mode);
                        if modes.is_empty() {
                            self.symbols.remove(&key);
                        }
                    }
                    successful.push(row);
                }
                None => failed.push(row),
            }
        }
        let status = match (successful.is_empty(), failed.is_empty()) {
            (_, true) => "success",
            (false, false) => "partial",
            (true, false) => "error",
        };
        json!({ "type": "unsubscribe", "status": status, "successful": successful, "failed": failed })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.authenticated {
            self.hub.listener_left();
        }
    }
}

/// The symbols of a request, each with its own mode if it names one: a list, or one symbol at the top.
fn requested(request: &Value) -> Option<Vec<(SymbolKey, Option<Value>)>> {
    let read = |item: &Value| {
        let key = SymbolKey::new(item["symbol"].as_str()?, item["exchange"].as_str()?);
        Some((key, item.get("mode").cloned()))
    };
    match request.get("symbols") {
        Some(Value::Array(items)) => items.iter().map(read).collect(),
        Some(_) => None,
        None => Some(vec![read(request)?]),
    }
}

fn echo_request_id(request: &Value, reply: &mut Value) {
    if let Some(id) = request.get("request_id") {
        reply["request_id"] = id.clone();
    }
}

fn text(value: &Value) -> Message {
    Message::text(value.to_string())
}
