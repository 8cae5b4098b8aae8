//! What goes to the broker and what comes back, as types.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::budget::Ahead;
use crate::domain::listing::Listing;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderClass, PriceType, Product, Side, UnknownName, named};

/// The last word before the write: `false` withholds the order ([`NotSentCause::Deadline`]).
pub type MaySend<'a> = dyn Fn() -> bool + Send + Sync + 'a;

/// What accompanies an order request besides the order itself.
pub struct Ticket<'a> {
    /// Why the order exists; decides which part of the rate budget it may use.
    pub class: OrderClass,
    /// The place in the budget that was asked for before, if one was.
    pub ahead: Option<Ahead>,
    /// The name sent as `strategy`, at most 100 characters. Unique per intent: an exact key in analyze mode.
    pub strategy: &'a str,
    /// What remains of the caller's own step; shortens the order timeout, never lengthens it.
    pub within: Option<Duration>,
    /// Evaluated once, after serialisation, immediately before the bytes are written on a warm connection.
    pub may_send: &'a MaySend<'a>,
}

/// What an order request came to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Submission {
    /// The broker gave it this order id. Says nothing about fills.
    Acknowledged {
        /// The broker's order id.
        order_id: String,
    },
    /// Refused in so many words: no order works at the broker.
    Rejected {
        /// What the bridge or the broker said.
        reason: String,
        /// The id under which the books show the refusal, where they do.
        order_id: Option<String>,
    },
    /// Proven never to have reached the broker.
    NotSent {
        /// What happened, for the operator.
        reason: String,
        /// What proves it.
        cause: NotSentCause,
    },
    /// Everything else: the order may exist. Never sent again; the books decide.
    InDoubt {
        /// What happened, for the operator.
        reason: String,
        /// Set when the bridge answered in the other mode, which is an error state of its own.
        wrong_mode: Option<WrongMode>,
    },
}

/// An answer of a bridge that trades in another mode than this agent is armed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrongMode {
    /// The mode it answered in.
    pub found: BridgeMode,
    /// The order that exists there, if it said so.
    pub order_id: Option<String>,
}

/// What proves that an order never reached the broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NotSentCause {
    /// No connection to the bridge could be made.
    Connect,
    /// The connection ended before the request was taken up; the HTTP client handed it back unwritten.
    ConnectionLost,
    /// `may_send` said no, or the time was up before the write.
    Deadline,
    /// The bridge's request limit, or the cluster's own order budget.
    RateLimited,
    /// The bridge refuses the API key: a wrong key or a dead session.
    SessionExpired,
    /// The bridge found the request malformed.
    Validation,
    /// The bridge put it into its approval queue: **a human may still release it.**
    QueuedForHuman,
    /// The bridge has no such route, or no module for the broker.
    UnknownRoute,
}
named!(NotSentCause {
    Connect = "connect",
    ConnectionLost = "connection_lost",
    Deadline = "deadline",
    RateLimited = "rate_limited",
    SessionExpired = "session_expired",
    Validation = "validation",
    QueuedForHuman = "queued_for_human",
    UnknownRoute = "unknown_route",
});

/// Whether the bridge sends orders to the broker or simulates them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BridgeMode {
    /// Real orders.
    Live,
    /// The bridge's sandbox.
    Analyze,
}
named!(BridgeMode { Live = "live", Analyze = "analyze" });

/// A broker order's status. One `Complete` is not to be believed before the trade book confirms it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OrderStatus {
    /// Works at the exchange, perhaps filled in part.
    Open,
    /// Rests until its trigger.
    TriggerPending,
    /// Filled, says the book.
    Complete,
    /// Refused by the broker or the exchange.
    Rejected,
    /// Cancelled, perhaps after partial fills.
    Cancelled,
    /// A word of the broker's own.
    Other(String),
}

/// One row of the order book.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerOrder {
    /// The broker's order id.
    pub order_id: String,
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Buy or sell.
    pub side: Side,
    /// Ordered units.
    pub quantity: Quantity,
    /// Order type.
    pub price_type: PriceType,
    /// Margin product.
    pub product: Product,
    /// Limit price; zero for market orders, whatever they filled at.
    pub price: Price,
    /// Trigger price; zero when there is none.
    pub trigger_price: Price,
    /// The book's word for its state.
    pub status: OrderStatus,
    /// The row before it says the same, so the word may be that row's: some plugins show an order in transit so.
    pub may_inherit: bool,
    /// The `strategy` it was placed with; only in analyze mode.
    pub strategy: Option<String>,
    /// Units filled, where the book says so (analyze mode and two live brokers).
    pub filled_quantity: Option<Quantity>,
    /// Average fill price, where the book says so.
    pub average_price: Option<Price>,
    /// Why it was refused, where the book says so.
    pub rejection_reason: Option<String>,
    /// The broker's own text: its format differs from broker to broker.
    pub timestamp: String,
}

/// One row of the trade book: one fill or partial fill.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerTrade {
    /// The order it belongs to.
    pub order_id: String,
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Buy or sell.
    pub side: Side,
    /// Units filled by this trade.
    pub quantity: Quantity,
    /// The price of this trade.
    pub average_price: Price,
    /// The trade's own id; only in analyze mode.
    pub trade_id: Option<String>,
    /// The broker's own text; may be a time without a date.
    pub timestamp: String,
}

/// An order book row of a kind that this agent never sends (another product or order type).
///
/// While a *new* one of these stands on a symbol, the absence of an own order there is not proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignRow {
    /// The broker's order id.
    pub order_id: String,
    /// Tradable symbol.
    pub symbol: String,
    /// Which word was unknown.
    pub why: String,
}

/// The order book and, read after it, the trade book. Both were verified (`status: success`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Books {
    /// The orders of the day.
    pub orders: Vec<BrokerOrder>,
    /// The trades of the day.
    pub trades: Vec<BrokerTrade>,
    /// Orders of other applications on the account that cannot be expressed in this agent's terms.
    pub foreign: Vec<ForeignRow>,
}

/// One row of the position book.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerPosition {
    /// Tradable symbol.
    pub symbol: String,
    /// Exchange code.
    pub exchange: String,
    /// Margin product; `None` for one that this agent does not trade.
    pub product: Option<Product>,
    /// Net units, negative when short; zero rows are kept.
    pub quantity: Quantity,
    /// Average price; zero when flat.
    pub average_price: Price,
    /// Last price, where the broker gives one.
    pub last_price: Option<Price>,
    /// Profit or loss, where the broker gives one.
    pub pnl: Option<Rupees>,
}

/// A quote without a time: the bridge gives none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Last traded price.
    pub ltp: Price,
    /// Best bid; zero when there is none.
    pub bid: Price,
    /// Best ask; zero when there is none.
    pub ask: Price,
    /// Units traded today; none where the bridge does not say.
    pub volume: Option<Quantity>,
}

/// One of several quotes that were asked for together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Of what.
    pub listing: Listing,
    /// The quote, or why there is none.
    pub quote: Result<Quote, String>,
}

/// The account's money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Funds {
    /// Cash that is free to use.
    pub available_cash: Rupees,
    /// Collateral.
    pub collateral: Rupees,
    /// Realised profit or loss of the day.
    pub realised: Rupees,
    /// Unrealised profit or loss.
    pub unrealised: Rupees,
    /// Margin in use.
    pub utilised: Rupees,
}

/// Why a read failed. None of these says anything about orders or positions.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BrokerError {
    /// No answer came: no connection, or it broke.
    #[error("cannot reach the bridge for {route}: {reason}; check that it runs and that broker.url is right")]
    Unreachable {
        /// The route that was called.
        route: &'static str,
        /// What the HTTP client said.
        reason: String,
    },
    /// No answer came in time.
    #[error("the bridge did not answer {route} within {within_ms} ms; it may be waiting for the broker")]
    TimedOut {
        /// The route that was called.
        route: &'static str,
        /// The time limit in milliseconds.
        within_ms: u128,
    },
    /// The broker session is dead, or the API key is wrong: the bridge does not tell them apart.
    #[error(
        "the broker session is dead or the API key is wrong ({said}); log in to the bridge, then check the key"
    )]
    SessionExpired {
        /// What the bridge said.
        said: String,
    },
    /// The bridge's request limit.
    #[error("the bridge limits requests ({said}); another program may share its limit")]
    RateLimited {
        /// What the bridge said.
        said: String,
    },
    /// The bridge answered with an error.
    #[error("the bridge refused {route} with HTTP {status}: {said}; see its log")]
    Refused {
        /// The route that was called.
        route: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// The bridge answered something that cannot be read as an answer to this route.
    #[error("the bridge's answer to {route} makes no sense: {problem}; is broker.url an OpenAlgo bridge?")]
    Malformed {
        /// The route that was called.
        route: &'static str,
        /// What was wrong with it.
        problem: String,
    },
    /// The bridge answered in the other mode.
    #[error(
        "the bridge is in {found} mode but this agent is armed for {expected}; set the bridge's analyzer mode, or this agent's"
    )]
    WrongMode {
        /// The mode this agent is armed for.
        expected: BridgeMode,
        /// The mode it answered in.
        found: BridgeMode,
    },
}
