//! Orders and the life of an order intent: one transition table, the same in the database.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::money::{Price, Quantity};

/// Gives an enum its stable names: as text in the database, the API and the metrics.
macro_rules! named {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, as the database, the API and the metrics write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownName { kind: stringify!($name), text: text.to_owned() }),
                }
            }
        }
    };
}
pub(crate) use named;

/// A stored name that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {text:?}")]
pub struct UnknownName {
    /// The type that was expected.
    pub kind: &'static str,
    /// What was found.
    pub text: String,
}

/// Buy or sell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// Buy.
    Buy,
    /// Sell.
    Sell,
}
named!(Side { Buy = "BUY", Sell = "SELL" });

/// The order type, in the bridge's words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PriceType {
    /// At the market.
    #[serde(rename = "MARKET")]
    Market,
    /// At a limit price or better.
    #[serde(rename = "LIMIT")]
    Limit,
    /// A stop that becomes a limit order at its trigger.
    #[serde(rename = "SL")]
    StopLimit,
    /// A stop that becomes a market order at its trigger.
    #[serde(rename = "SL-M")]
    StopMarket,
}
named!(PriceType { Market = "MARKET", Limit = "LIMIT", StopLimit = "SL", StopMarket = "SL-M" });

/// The margin product.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Product {
    /// Intraday, squared off by the broker.
    Mis,
    /// Carried forward (derivatives).
    Nrml,
    /// Delivery (equity).
    Cnc,
}
named!(Product { Mis = "MIS", Nrml = "NRML", Cnc = "CNC" });

/// Why an order exists; the switches (halt, reduce-only) allow or block by class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderClass {
    /// Opens or adds to a position.
    Entry,
    /// A signal's or strategy's exit.
    Exit,
    /// A protective stop.
    Protective,
    /// An operator's explicit close or flatten; nothing blocks it.
    Operator,
}
named!(OrderClass { Entry = "entry", Exit = "exit", Protective = "protective", Operator = "operator" });

/// What an order says to the broker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderSpec {
    /// Tradable symbol, e.g. `GOLDM05DEC25FUT`.
    pub symbol: String,
    /// Exchange code, e.g. `MCX`.
    pub exchange: String,
    /// Buy or sell.
    pub side: Side,
    /// Units, not lots.
    pub quantity: Quantity,
    /// Order type.
    pub price_type: PriceType,
    /// Margin product.
    pub product: Product,
    /// Limit price; zero for market orders.
    pub price: Price,
    /// Trigger price; zero when there is none.
    pub trigger_price: Price,
}

impl OrderSpec {
    /// The price that it stands at: a stop's trigger, a limit; zero at the market.
    pub fn stands_at(&self) -> Price {
        match self.price_type {
            PriceType::StopLimit | PriceType::StopMarket => self.trigger_price,
            PriceType::Limit | PriceType::Market => self.price,
        }
    }
}

/// Where an order intent is in its life.
///
/// ```text
/// journaled ─▶ acknowledged ─▶ partially_filled ─▶ filled
///     │              └──────────────┴─▶ cancelled | rejected
///     ├─▶ not_sent (proven)  ├─▶ rejected (explicit refusal)
///     └─▶ in_doubt ─▶ acknowledged | partially_filled | filled | cancelled | rejected | abandoned
/// abandoned ─▶ acknowledged | partially_filled | filled   (it appeared after all)
/// cancelled | rejected ─▶ filled   (a fill crossed the cancel, or the books had called it rejected while in transit)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentState {
    /// Committed to the ledger; its bytes may or may not have left.
    Journaled,
    /// The broker gave it an order id.
    Acknowledged,
    /// Some of it is filled.
    PartiallyFilled,
    /// All of it is filled.
    Filled,
    /// Ended at the broker by a cancel, perhaps after partial fills.
    Cancelled,
    /// Refused by the bridge or the broker.
    Rejected,
    /// Proven never to have reached the broker.
    NotSent,
    /// The outcome is not known; never sent again, resolved by the broker's books only.
    InDoubt,
    /// In doubt for so long that it is proven absent, or ended by the operator's word.
    Abandoned,
}
named!(IntentState {
    Journaled = "journaled",
    Acknowledged = "acknowledged",
    PartiallyFilled = "partially_filled",
    Filled = "filled",
    Cancelled = "cancelled",
    Rejected = "rejected",
    NotSent = "not_sent",
    InDoubt = "in_doubt",
    Abandoned = "abandoned",
});

impl IntentState {
    /// Says whether an intent may go from `self` to `next`. The database holds the same table.
    pub fn may_become(self, next: Self) -> bool {
        use IntentState::*;
        matches!(
            (self, next),
            (Journaled, Acknowledged | PartiallyFilled | Filled | Cancelled | Rejected | NotSent | InDoubt)
                | (Acknowledged, PartiallyFilled | Filled | Cancelled | Rejected)
                | (PartiallyFilled, Filled | Cancelled | Rejected)
                | (InDoubt, Acknowledged | PartiallyFilled | Filled | Cancelled | Rejected | NotSent | Abandoned)
                | (Abandoned, Acknowledged | PartiallyFilled | Filled)
                // A cancel that crossed a fill, a transit that the books called rejected: the fill is a fact.
                | (Cancelled | Rejected, Filled)
        )
    }

    /// Nothing more is expected of it.
    pub fn is_terminal(self) -> bool {
        use IntentState::*;
        matches!(self, Filled | Cancelled | Rejected | NotSent | Abandoned)
    }

    /// Known to rest or work at the broker.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Acknowledged | Self::PartiallyFilled)
    }

    /// Its outcome is not known yet.
    pub fn is_unresolved(self) -> bool {
        matches!(self, Self::Journaled | Self::InDoubt)
    }
}
