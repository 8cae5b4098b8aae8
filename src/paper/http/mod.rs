//! The REST routes: path to verb, and the life of one request.
//!
//! ```text
//! read → witness (order routes) → limiter → content type → JSON → draw faults → validate → API key
//!      → [hang before] → session → carry out in the core → [hang after] → answer, or cut the line
//! ```
//! The order of the checks is the real bridge's: the limiter counts invalid requests too, and a bad body is told
//! from a bad key.
//!
//! Not played: orders that are good till triggered, greeks, charts, messengers, and what else has nothing to do with trading.

mod books;
mod command;
mod contracts;
mod data;
mod dead_session;
mod form;
mod many;
mod options;
mod orders;
mod pipeline;
mod reply;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hub::Hub;
use crate::domain::order::{UnknownName, named};
use reply::Reply;

/// Largest body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A POST route, named by its path below `/api/v1/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verb {
    /// Places an order.
    PlaceOrder,
    /// Places what leads to a position.
    PlaceSmartOrder,
    /// Places several orders.
    BasketOrder,
    /// Places an order in parts.
    SplitOrder,
    /// Places an order for an option by its distance from the money.
    OptionsOrder,
    /// The same for several.
    OptionsMultiOrder,
    /// Changes a live order.
    ModifyOrder,
    /// Cancels an order.
    CancelOrder,
    /// Cancels all orders of the account.
    CancelAllOrder,
    /// Closes all positions of the account.
    ClosePosition,
    /// One order.
    OrderStatus,
    /// One net position.
    OpenPosition,
    /// All orders of the day.
    OrderBook,
    /// All fills of the day.
    TradeBook,
    /// All positions.
    PositionBook,
    /// Delivery holdings.
    Holdings,
    /// The account.
    Funds,
    /// One quote.
    Quotes,
    /// Several quotes.
    MultiQuotes,
    /// Five levels of bids and asks.
    Depth,
    /// What was traded at, in bars.
    History,
    /// The widths of those bars.
    Intervals,
    /// A contract.
    Symbol,
    /// Contracts by a part of their name.
    Search,
    /// The days on which contracts expire.
    Expiry,
    /// An option by its distance from the money.
    OptionSymbol,
    /// The options of a day, with their quotes.
    OptionChain,
    /// What the options say that their underlying is worth.
    SyntheticFuture,
    /// What orders would block.
    Margin,
    /// Answers without touching the broker.
    Ping,
    /// The mode.
    Analyzer,
    /// Changes the mode.
    AnalyzerToggle,
    /// Holidays of a year.
    MarketHolidays,
    /// Sessions of a day.
    MarketTimings,
}
named!(Verb {
    PlaceOrder = "placeorder",
    PlaceSmartOrder = "placesmartorder",
    BasketOrder = "basketorder",
    SplitOrder = "splitorder",
    OptionsOrder = "optionsorder",
    OptionsMultiOrder = "optionsmultiorder",
    ModifyOrder = "modifyorder",
    CancelOrder = "cancelorder",
    CancelAllOrder = "cancelallorder",
    ClosePosition = "closeposition",
    OrderStatus = "orderstatus",
    OpenPosition = "openposition",
    OrderBook = "orderbook",
    TradeBook = "tradebook",
    PositionBook = "positionbook",
    Holdings = "holdings",
    Funds = "funds",
    Quotes = "quotes",
    MultiQuotes = "multiquotes",
    Depth = "depth",
    History = "history",
    Intervals = "intervals",
    Symbol = "symbol",
    Search = "search",
    Expiry = "expiry",
    OptionSymbol = "optionsymbol",
    OptionChain = "optionchain",
    SyntheticFuture = "syntheticfuture",
    Margin = "margin",
    Ping = "ping",
    Analyzer = "analyzer",
    AnalyzerToggle = "analyzer/toggle",
    MarketHolidays = "market/holidays",
    MarketTimings = "market/timings",
});

impl Verb {
    /// Routes that change orders: the witness records them.
    pub fn changes_orders(self) -> bool {
        matches!(
            self,
            Self::PlaceOrder
                | Self::PlaceSmartOrder
                | Self::BasketOrder
                | Self::SplitOrder
                | Self::OptionsOrder
                | Self::OptionsMultiOrder
                | Self::ModifyOrder
                | Self::CancelOrder
                | Self::CancelAllOrder
                | Self::ClosePosition
        )
    }

    /// Routes under the order rate limit; `basketorder`, `splitorder`, `cancelallorder` and `closeposition` are under the
    /// general one.
    pub fn is_order_route(self) -> bool {
        matches!(
            self,
            Self::PlaceOrder
                | Self::PlaceSmartOrder
                | Self::OptionsOrder
                | Self::OptionsMultiOrder
                | Self::ModifyOrder
                | Self::CancelOrder
        )
    }
}

impl Serialize for Verb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One request to a verb, as read off the line.
#[derive(Debug)]
struct Call {
    verb: Verb,
    client: IpAddr,
    is_json: bool,
    body: Bytes,
}

/// The REST API.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new().fallback(handle).with_state(hub)
}

async fn handle(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let name = path.trim_end_matches('/');
    if name == "/health/status" && request.method() == Method::GET {
        return Reply::health().into_response();
    }
    if name == "/api/v1/instruments" && request.method() == Method::GET {
        return pipeline::instruments(&hub, request.uri().query().unwrap_or_default()).into_response();
    }
    let verb = name.strip_prefix("/api/v1/").and_then(|verb| Verb::from_str(verb).ok());
    let Some(verb) = verb.filter(|_| request.method() == Method::POST) else {
        return Reply::not_found(&path).into_response();
    };
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await else {
        return Reply::malformed().into_response();
    };
    let call = Call { verb, client: peer.ip(), is_json, body };
    // A task of its own: hyper drops this future when the client hangs up, and an order must not go with it.
    let cancel = hub.cancel.clone();
    let work = pipeline::work(Arc::clone(&hub), call);
    let answered = hub.tasks.spawn(async move {
        tokio::select! {
            reply = work => reply,
            () = cancel.cancelled() => Reply::Cut,
        }
    });
    match answered.await {
        Ok(reply) => reply.into_response(),
        Err(_) => Reply::internal("An unexpected error occurred").into_response(),
    }
}
