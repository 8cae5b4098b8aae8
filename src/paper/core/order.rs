//! Orders, trades and the updates that the order stream carries.

use std::time::Duration;

use rust_decimal::Decimal;
use serde::Serialize;

use crate::domain::money::{Price, Quantity};
use crate::domain::order::OrderSpec;
use crate::paper::SymbolKey;

/// An order's status in the bridge's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum OrderStatus {
    /// Rests or works; partly filled orders stay here.
    #[serde(rename = "open")]
    Open,
    /// A stop that was not triggered yet. With a space, as the bridge writes it.
    #[serde(rename = "trigger pending")]
    TriggerPending,
    /// Filled in full.
    #[serde(rename = "complete")]
    Complete,
    /// Refused after it was accepted.
    #[serde(rename = "rejected")]
    Rejected,
    /// Cancelled, perhaps after partial fills.
    #[serde(rename = "cancelled")]
    Cancelled,
}

impl OrderStatus {
    /// The protocol's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::TriggerPending => "trigger pending",
            Self::Complete => "complete",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// Can still fill.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::TriggerPending)
    }
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderRequest {
    /// Symbol, side, quantity, prices.
    pub spec: OrderSpec,
    /// The client's strategy text; analyze shape gives it back.
    pub strategy: String,
}

/// An order that the exchange has accepted (or rejected after accepting it).
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// The bridge's id: `YYMMDD` and 8 digits, not monotonic.
    pub id: String,
    /// Arrival number of the request that made it; `None` for orders that `closeposition` made.
    pub arrival: Option<u64>,
    /// What it says; price and quantity change by modification.
    pub spec: OrderSpec,
    /// The client's strategy text.
    pub strategy: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// Units filled.
    pub filled: Quantity,
    /// Sum of price × units of its fills.
    pub value: Decimal,
    /// Why it was rejected; empty otherwise.
    pub rejection_reason: String,
    /// When it was accepted.
    pub placed_at: Duration,
    /// When it last changed.
    pub updated_at: Duration,
    /// From when on books, streams and matching know it.
    pub visible_at: Duration,
    /// Added to the fill model's latency.
    pub extra_latency: Duration,
    /// How many times each update is sent; 0 loses them.
    pub update_copies: u32,
    /// How late each update is sent.
    pub update_delay: Duration,
    /// A stop whose trigger was reached.
    pub(super) triggered: bool,
    /// Was looked at once and could not fill: from then on a limit order fills at its own price.
    pub(super) rested: bool,
    /// A fill is scheduled.
    pub(super) working: bool,
}

impl Order {
    /// Symbol and exchange.
    pub fn key(&self) -> SymbolKey {
        SymbolKey::new(&self.spec.symbol, &self.spec.exchange)
    }

    /// Units not filled.
    pub fn pending(&self) -> Quantity {
        self.spec.quantity - self.filled
    }

    /// Average price of its fills; zero before the first.
    pub fn average_price(&self) -> Price {
        if self.filled == Quantity::ZERO { Price::ZERO } else { Price(self.value / self.filled.decimal()) }
    }

    /// Books and streams know it at `now`.
    pub fn is_visible(&self, now: Duration) -> bool {
        self.visible_at <= now
    }

    /// What the order stream says about it now.
    pub fn update(&self) -> OrderUpdate {
        OrderUpdate {
            order_id: self.id.clone(),
            spec: self.spec.clone(),
            status: self.status,
            filled: self.filled,
            pending: self.pending(),
            average_price: self.average_price(),
            rejection_reason: self.rejection_reason.clone(),
        }
    }
}

/// One fill.
#[derive(Clone, PartialEq, Debug)]
pub struct Trade {
    /// The trade's own id.
    pub id: String,
    /// Index of its order in the exchange's list.
    pub order: usize,
    /// Units.
    pub quantity: Quantity,
    /// At this price.
    pub price: Price,
    /// When.
    pub at: Duration,
}

/// A frame of the order stream, before it is put into the protocol's words.
#[derive(Clone, PartialEq, Debug)]
pub struct OrderUpdate {
    /// The bridge's order id.
    pub order_id: String,
    /// The order as it stands.
    pub spec: OrderSpec,
    /// Its status.
    pub status: OrderStatus,
    /// Units filled.
    pub filled: Quantity,
    /// Units not filled.
    pub pending: Quantity,
    /// Average of the fills; zero before the first.
    pub average_price: Price,
    /// Why it was rejected; empty otherwise.
    pub rejection_reason: String,
}
