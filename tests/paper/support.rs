//! A running paper bridge and clients for its three ports.

use std::time::{Duration, Instant};

use baton::paper::{BridgeMode, Options, Paper, RateLimits};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub const KEY: &str = "paper";
pub const GOLD: &str = "GOLDM05DEC25FUT";
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Options for tests: no request limits, a market that stands still, frequent ticks.
pub fn options(mode: BridgeMode) -> Options {
    Options {
        mode,
        limits: RateLimits { orders_per_second: None, api_per_second: None },
        tick_interval: Duration::from_millis(20),
        ..Options::default()
    }
}

pub struct Bridge {
    pub paper: Paper,
    pub client: reqwest::Client,
}

impl Bridge {
    pub async fn start(mode: BridgeMode) -> Self {
        Self::with(options(mode)).await
    }

    pub async fn with(options: Options) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let paper = Paper::start(options).await.unwrap();
        Self { paper, client: reqwest::Client::new() }
    }

    /// Posts a body with the key to a verb; the transport's error when the line was cut.
    pub async fn try_post(&self, verb: &str, mut body: Value) -> Result<(u16, Value), reqwest::Error> {
        if let Value::Object(fields) = &mut body {
            fields.entry("apikey").or_insert(KEY.into());
        }
        let url = format!("{}/api/v1/{verb}", self.paper.http_url());
        let response = self.client.post(url).json(&body).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::from(text))))
    }

    pub async fn post(&self, verb: &str, body: Value) -> (u16, Value) {
        self.try_post(verb, body).await.unwrap()
    }

    /// Posts and expects 200.
    pub async fn ok(&self, verb: &str, body: Value) -> Value {
        let (status, answer) = self.post(verb, body).await;
        assert_eq!(status, 200, "{verb}: {answer}");
        answer
    }

    /// Places an order and gives its id.
    pub async fn place(&self, order: Value) -> String {
        self.ok("placeorder", order).await["orderid"].as_str().unwrap().to_owned()
    }

    pub async fn control(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/_ctl/{path}", self.paper.control_url());
        let mut request = self.client.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn fault(&self, rule: Value) {
        let (status, answer) = self.control("POST", "faults", Some(rule)).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn set_price(&self, symbol: &str, ltp: Value) {
        let body = json!({ "symbol": symbol, "exchange": "MCX", "ltp": ltp });
        assert_eq!(self.control("POST", "price", Some(body)).await.0, 200);
    }

    /// All orders that exist, hidden ones included.
    pub async fn truth(&self) -> Vec<Value> {
        let (_, answer) = self.control("GET", "orders", None).await;
        answer["orders"].as_array().unwrap().clone()
    }

    pub async fn book(&self) -> Vec<Value> {
        self.ok("orderbook", json!({})).await["data"]["orders"].as_array().unwrap().clone()
    }

    pub async fn trades(&self) -> Vec<Value> {
        self.ok("tradebook", json!({})).await["data"].as_array().unwrap().clone()
    }

    /// Asks again until the book satisfies the condition.
    pub async fn book_until(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let book = self.book().await;
            if wanted(&book) {
                return book;
            }
            assert!(Instant::now() < deadline, "never came: {what}; the book: {book:?}");
            tokio::task::yield_now().await;
        }
    }
}

/// A buy of one lot of gold at the market.
pub fn market_buy() -> Value {
    json!({
        "strategy": "trend-1", "symbol": GOLD, "exchange": "MCX", "action": "BUY", "quantity": 100,
        "pricetype": "MARKET", "product": "NRML",
    })
}

/// The same with a limit.
pub fn limit_buy(price: f64) -> Value {
    let mut order = market_buy();
    order["pricetype"] = "LIMIT".into();
    order["price"] = price.into();
    order
}

/// The sorted names of an object's fields.
pub fn keys(value: &Value) -> Vec<String> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn connect(bridge: &Bridge) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(bridge.paper.ws_url()).await.unwrap();
        Self(socket)
    }

    /// Connected and authenticated.
    pub async fn authenticated(bridge: &Bridge) -> Self {
        let mut socket = Self::connect(bridge).await;
        let answer = socket.ask(json!({ "action": "authenticate", "api_key": KEY })).await;
        assert_eq!(answer["status"], "success", "{answer}");
        socket
    }

    pub async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text.to_owned())).await.unwrap();
    }

    /// The next message of any kind within the deadline; `None` when the stream ended.
    pub async fn message(&mut self) -> Option<Message> {
        let next =
            tokio::time::timeout(DEADLINE, self.0.next()).await.expect("no message within the deadline");
        next.and_then(Result::ok)
    }

    /// The next JSON frame of a type (`""` for errors, which have none).
    pub async fn next_of(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let message = self.message().await.expect("the socket ended");
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["type"].as_str().unwrap_or_default() == kind {
                    return frame;
                }
            }
        }
        panic!("no frame of type {kind:?} within the deadline");
    }

    /// Sends and gives the first frame that is neither a tick nor an order update.
    pub async fn ask(&mut self, request: Value) -> Value {
        self.send(&request.to_string()).await;
        loop {
            if let Message::Text(text) = self.message().await.expect("the socket ended") {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if !matches!(frame["type"].as_str(), Some("market_data" | "order_update")) {
                    return frame;
                }
            }
        }
    }
}
