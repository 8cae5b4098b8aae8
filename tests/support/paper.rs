//! The paper bridge, as a child process or, where it is a witness, in this one; and its control port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use baton::domain::money::Rupees;
use baton::domain::sessions::trading_day;
use baton::paper::calendar::{Calendar, Holiday};
use baton::paper::{self, BridgeMode, FillModel, RateLimits, SymbolSpec};
use chrono::{DateTime, Days, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::process::{Launch, Process, bare_env};
use super::witness::Witness;

/// The API key it lets in.
pub const KEY: &str = "paper";
/// The account that arms live mode.
pub const ACCOUNT: &str = "PAPER1";

/// A running paper bridge.
pub struct Paper {
    home: Home,
    pub http: String,
    pub ws: String,
    pub control: String,
    /// Every order request, written by the bridge before it looks at it.
    pub log: PathBuf,
    client: reqwest::Client,
}

/// Where it runs.
enum Home {
    Child(Process),
    Here(paper::Paper),
}

/// One order of the bridge's own books, with the request that made it.
#[derive(Clone, Debug, Deserialize)]
pub struct PaperOrder {
    pub orderid: String,
    pub symbol: String,
    pub side: String,
    pub quantity: i64,
    pub price_type: String,
    pub trigger_price: Decimal,
    pub strategy: String,
    pub order_status: String,
    pub filled_quantity: i64,
    pub fills: Vec<PaperFill>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PaperFill {
    pub quantity: i64,
    pub price: Decimal,
    pub at: DateTime<Utc>,
}

impl PaperOrder {
    /// Σ price · quantity of its fills.
    pub fn value(&self) -> Decimal {
        self.fills.iter().map(|fill| fill.price * Decimal::from(fill.quantity)).sum()
    }
}

/// One order request as it arrived.
#[derive(Clone, Debug, Deserialize)]
pub struct Arrival {
    pub arrival: u64,
    pub verb: String,
    pub body: Value,
    pub orderid: Option<String>,
    /// Microseconds since the bridge began.
    pub elapsed_us: u64,
}

impl Paper {
    /// Starts one with its answers in the given shape (`live` or `analyze`), no request limits and no spread.
    pub async fn start(folder: &Path, shape: &str, symbols: Option<&Path>, client: reqwest::Client) -> Self {
        let log = folder.join("paper.jsonl");
        let any = "127.0.0.1:0";
        let mut arguments: Vec<String> =
            ["paper", "-o", "json", "--http", any, "--ws", any, "--control", any]
                .into_iter()
                .chain([
                    "--unlimited",
                    "--mode",
                    shape,
                    "--api-key",
                    KEY,
                    "--capital",
                    "1000000000000",
                    "--log",
                ])
                .map(str::to_owned)
                .collect();
        arguments.push(log.display().to_string());
        if let Some(symbols) = symbols {
            arguments.extend(["--symbols".to_owned(), symbols.display().to_string()]);
        }
        let mut env = bare_env();
        env.insert("RUST_LOG".to_owned(), "warn".to_owned());
        let launch = Launch { arguments, env, folder: folder.to_owned(), log: folder.join("paper.log") };
        let (process, announced) = launch.announced().await;
        let url = |name: &str| announced[name].as_str().expect("the bridge says where it listens").to_owned();
        let home = Home::Child(process);
        let paper = Self { home, http: url("http"), ws: url("ws"), control: url("control"), log, client };
        let no_spread = json!({ "latency_ms": 0, "slices": 1, "slice_delay_ms": 50, "spread_ticks": 0 });
        paper.post("fills", json!({ "model": no_spread })).await;
        paper
    }

    /// The same in this process, so that `witness` sees each order arrive.
    pub async fn watched(
        folder: &Path,
        shape: &str,
        symbols: Option<&Path>,
        client: reqwest::Client,
        witness: &Witness,
    ) -> Self {
        let listed = symbols.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
        let options = paper::Options {
            mode: if shape == "live" { BridgeMode::Live } else { BridgeMode::Analyze },
            symbols: listed.unwrap_or_else(SymbolSpec::defaults),
            on_arrival: Some(witness.hook()),
            ..paper::Options::default()
        };
        Self::here(folder, client, options).await
    }

    /// In this process and with the live shape, on a day on which every exchange rests, as in a night.
    pub async fn at_rest(folder: &Path, client: reqwest::Client) -> Self {
        let today = trading_day(Utc::now());
        let rest = |date| Holiday { date, description: "rest".to_owned() };
        // A test may run across midnight.
        let calendar = Calendar::Exchange(vec![rest(today), rest(today + Days::new(1))]);
        let options = paper::Options { mode: BridgeMode::Live, calendar, ..paper::Options::default() };
        Self::here(folder, client, options).await
    }

    async fn here(folder: &Path, client: reqwest::Client, options: paper::Options) -> Self {
        let log = folder.join("paper.jsonl");
        let here = paper::Paper::start(paper::Options {
            api_key: KEY.to_owned(),
            capital: Rupees(Decimal::from(1_000_000_000_000_i64)),
            limits: RateLimits { orders_per_second: None, api_per_second: None },
            fill: FillModel { spread_ticks: 0, ..FillModel::default() },
            log: Some(log.clone()),
            ..options
        })
        .await
        .expect("the bridge starts");
        let (http, ws, control) = (here.http_url(), here.ws_url(), here.control_url());
        Self { home: Home::Here(here), http, ws, control, log, client }
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}/_ctl/{path}", self.control)).send().await;
        answer
            .and_then(reqwest::Response::error_for_status)
            .expect("the control port answers")
            .json()
            .await
            .unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}/_ctl/{path}", self.control)).json(&body);
        let answer = request.send().await.expect("the control port answers");
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Moves the market.
    pub async fn set_price(&self, symbol: &str, exchange: &str, price: Decimal) {
        let body = json!({ "symbol": symbol, "exchange": exchange, "ltp": price, "spread_ticks": 0 });
        self.post("price", body).await;
    }

    /// Adds a fault rule.
    pub async fn fault(&self, rule: Value) {
        self.post("faults", rule).await;
    }

    /// Takes all fault rules away.
    pub async fn heal(&self) {
        let request = self.client.delete(format!("{}/_ctl/faults", self.control));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Every order it has, hidden ones included.
    pub async fn orders(&self) -> Vec<PaperOrder> {
        let mut answer = self.get("orders").await;
        serde_json::from_value(answer["orders"].take()).expect("the bridge's orders have the known fields")
    }

    /// Every order request, carried out or not.
    pub async fn arrivals(&self) -> Vec<Arrival> {
        let mut answer = self.get("arrivals").await;
        serde_json::from_value(answer["arrivals"].take()).expect("arrivals have the known fields")
    }

    pub async fn stop(self) {
        match self.home {
            Home::Child(mut process) => {
                process.signal(rustix::process::Signal::TERM);
                process.exit(Duration::from_secs(10)).await;
            }
            Home::Here(paper) => paper.stop().await,
        }
    }

    pub fn tail(&self) -> String {
        match &self.home {
            Home::Child(process) => process.tail(),
            Home::Here(_) => String::new(),
        }
    }
}
