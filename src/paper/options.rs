//! What a paper bridge can be told at its start. The defaults make a usable demo on loopback.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::ticks::Tick;
use super::witness::Arrival;
use crate::domain::money::{Price, Quantity, Rupees};

/// Which of the bridge's two shapes the answers have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BridgeMode {
    /// The bridge's sandbox: answers carry `mode`, books carry `strategy`, fills and averages; it checks lots itself.
    Analyze,
    /// A real broker behind the bridge: no `mode`, no `strategy`, strings for money; the broker rejects later.
    Live,
}

/// A bridge mode that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown bridge mode {0:?}: say analyze or live")]
pub struct UnknownMode(pub String);

impl BridgeMode {
    /// The name the protocol uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Analyze => "analyze",
            Self::Live => "live",
        }
    }

    /// The other one.
    pub fn flipped(self) -> Self {
        match self {
            Self::Analyze => Self::Live,
            Self::Live => Self::Analyze,
        }
    }
}

impl fmt::Display for BridgeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for BridgeMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "analyze" => Ok(Self::Analyze),
            "live" => Ok(Self::Live),
            _ => Err(UnknownMode(text.to_owned())),
        }
    }
}

/// A tradable symbol's name: exact and case-sensitive, as in the bridge's master contract.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SymbolKey {
    /// E.g. `GOLDM05DEC25FUT`.
    pub symbol: String,
    /// E.g. `MCX`.
    pub exchange: String,
}

impl SymbolKey {
    /// Names a symbol on an exchange.
    pub fn new(symbol: impl Into<String>, exchange: impl Into<String>) -> Self {
        Self { symbol: symbol.into(), exchange: exchange.into() }
    }
}

impl fmt::Display for SymbolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.exchange, self.symbol)
    }
}

/// One contract that the paper bridge lists.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SymbolSpec {
    /// Symbol and exchange.
    #[serde(flatten)]
    pub key: SymbolKey,
    /// Units in a lot; orders are in units.
    pub lot_size: Quantity,
    /// Smallest price step in points.
    pub tick_size: Price,
    /// Largest quantity the exchange takes in one order; zero for no limit. Checked in live shape only.
    pub freeze_qty: Quantity,
    /// As the `symbol` route shows it: `DD-MMM-YY`, empty for equities.
    pub expiry: String,
    /// Rupees that one lot gains per point.
    pub point_value: Rupees,
    /// Margin blocked per lot.
    pub margin_per_lot: Rupees,
    /// Last traded price at the start.
    pub ltp: Price,
}

impl SymbolSpec {
    /// The four instruments of the domain, one contract each.
    pub fn defaults() -> Vec<Self> {
        let spec = |symbol: &str, exchange: &str, lot, tick, freeze, expiry: &str, point, margin, ltp| Self {
            key: SymbolKey::new(symbol, exchange),
            lot_size: Quantity(lot),
            tick_size: Price(tick),
            freeze_qty: Quantity(freeze),
            expiry: expiry.to_owned(),
            point_value: Rupees(point),
            margin_per_lot: Rupees(margin),
            ltp: Price(ltp),
        };
        vec![
            spec(
                "BANKNIFTY30DEC25FUT",
                "NFO",
                30,
                dec!(0.05),
                600,
                "30-DEC-25",
                dec!(30),
                dec!(270000),
                dec!(52000),
            ),
            spec(
                "GOLDM05DEC25FUT",
                "MCX",
                100,
                dec!(1),
                10_000,
                "05-DEC-25",
                dec!(10),
                dec!(105000),
                dec!(140000),
            ),
            spec(
                "SILVERM27FEB26FUT",
                "MCX",
                5,
                dec!(1),
                600,
                "27-FEB-26",
                dec!(5),
                dec!(200000),
                dec!(155000),
            ),
            spec(
                "COPPER31DEC25FUT",
                "MCX",
                2500,
                dec!(0.05),
                70_000,
                "31-DEC-25",
                dec!(2500),
                dec!(300000),
                dec!(905),
            ),
        ]
    }

    /// Rupees that one unit gains per point.
    pub fn rupees_per_point_per_unit(&self) -> Decimal {
        self.point_value.0 / self.lot_size.decimal()
    }
}

/// How orders fill.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct FillModel {
    /// From becoming fillable to the first fill, in milliseconds. Zero: within the order's own request.
    pub latency_ms: u64,
    /// In how many parts an order fills (whole lots; fewer if it has fewer lots).
    pub slices: u32,
    /// Between the parts, in milliseconds.
    pub slice_delay_ms: u64,
    /// Distance of bid and of ask from the last price, in ticks.
    pub spread_ticks: u32,
}

impl Default for FillModel {
    fn default() -> Self {
        Self { latency_ms: 0, slices: 1, slice_delay_ms: 50, spread_ticks: 1 }
    }
}

/// Requests a second, per client address and route, in a moving window; `None` lifts the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RateLimits {
    /// For placeorder, modifyorder and cancelorder, each.
    pub orders_per_second: Option<u32>,
    /// For every other route, each.
    pub api_per_second: Option<u32>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { orders_per_second: Some(10), api_per_second: Some(50) }
    }
}

/// What an arrival hook gives back to be awaited.
pub type HookFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Awaited with each order request at its arrival, before anything is done with it.
///
/// For tests that check what must already be true by then, such as "its intent is committed".
#[derive(Clone)]
pub struct ArrivalHook(pub Arc<dyn Fn(Arrival) -> HookFuture + Send + Sync>);

impl fmt::Debug for ArrivalHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArrivalHook")
    }
}

/// Everything a paper bridge is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// REST listener; port 0 takes a free one.
    pub http: SocketAddr,
    /// WebSocket proxy listener.
    pub ws: SocketAddr,
    /// Listener of the `/_ctl/` routes (see the `control` module). No authentication: keep it on loopback.
    pub control: SocketAddr,
    /// The only API key that is let in.
    pub api_key: String,
    /// Shape of the answers at the start; `analyzer/toggle` changes it.
    pub mode: BridgeMode,
    /// Shown as broker name.
    pub broker: String,
    /// Shown as `user_id` in the WebSocket's answers.
    pub user_id: String,
    /// Seeds prices, order ids and fault draws.
    pub seed: u64,
    /// What is listed.
    pub symbols: Vec<SymbolSpec>,
    /// Whether prices walk at random; otherwise they stand still until the control port moves them.
    pub moving: bool,
    /// A recorded market that is played from the start.
    pub ticks: Vec<Tick>,
    /// How many times as fast as it was recorded.
    pub tick_speed: u32,
    /// Between market steps; each step sends a tick for every symbol, moved or not.
    pub tick_interval: Duration,
    /// How orders fill.
    pub fill: FillModel,
    /// Request limits.
    pub limits: RateLimits,
    /// Cash at the start.
    pub capital: Rupees,
    /// What `market/holidays` and `market/timings` say at the start; the control port changes it.
    pub calendar: Calendar,
    /// Idle time after which a kept-alive HTTP connection is closed (the K of the in-doubt rule: B must be larger).
    pub keep_alive_idle: Duration,
    /// Time an unauthenticated WebSocket is given before it is closed with 4401.
    pub ws_auth_grace: Duration,
    /// Between the WebSocket's protocol pings.
    pub ws_ping_interval: Duration,
    /// Orders kept; placing more answers 500. Bounds the memory.
    pub max_orders: usize,
    /// Append-only JSON lines of every order request and what was done with it.
    pub log: Option<PathBuf>,
    /// Awaited with each order request at its arrival.
    pub on_arrival: Option<ArrivalHook>,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            http: any,
            ws: any,
            control: any,
            api_key: "paper".to_owned(),
            mode: BridgeMode::Analyze,
            broker: "paper".to_owned(),
            user_id: "paper".to_owned(),
            seed: 1,
            symbols: SymbolSpec::defaults(),
            moving: false,
            ticks: Vec::new(),
            tick_speed: 1,
            tick_interval: Duration::from_millis(500),
            fill: FillModel::default(),
            limits: RateLimits::default(),
            capital: Rupees(dec!(10000000)),
            calendar: Calendar::default(),
            keep_alive_idle: Duration::from_millis(1500),
            ws_auth_grace: Duration::from_secs(15),
            ws_ping_interval: Duration::from_secs(20),
            max_orders: 100_000,
            log: None,
            on_arrival: None,
        }
    }
}
