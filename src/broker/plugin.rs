//! How the bridge's broker plugins differ from each other, as data.
//!
//! The bridge has a plugin a broker, and each lets something of its broker through. [`PLUGINS`] says for each what its words
//! mean; `broker.plugin` chooses one. The default, [`Plugin::ANY`], understands every word whose meaning is the same
//! wherever it is used. **A word that a plugin's row does not name ends nothing**: an unknown state is a state of its own, in
//! which an order may still fill; a row with an unknown product, type or side is set aside by name, and while it is there the
//! absence of an own order on its symbol is not proven.
//!
//! | what differs | where | what is made of it |
//! |---|---|---|
//! | spelling of a state: case, `_` and `-` for a space, the broker's own word | `states` | one of five states; anything else is none of them |
//! | product, order type and side in the broker's words | `products`, `types`, `sides` | ours; anything else sets the row aside |
//! | "success" with `orderid: null` | `null_id_refuses` | the broker's refusal where that is how the plugin refuses; else in doubt |
//! | last price of a position: `ltp`, `last_price`, none | `last_price` | the first that is there; none is none |
//! | a modify's quantity: the whole order's, or what is left of it | `modifies_whole` | a bid is raised in place only where it is known to be the whole order's |
//! | the broker makes a reference of its own from the first characters of `strategy` | `reference_chars` | they are the intent's own, so that no two orders share a reference |
//!
//! The same for all, because no plugin is known to be free of it: an order in transit may show the state of the row before it
//! (`BrokerOrder::may_inherit`); an order id may be a number; money may be text; an average price may be missing or zero, and a
//! trade's is then its value by its quantity; times are the broker's own text, and nothing is decided by them; order books
//! with and without `filled_quantity` and `average_price`, which are never evidence of a fill.

use super::types::OrderStatus;
use crate::domain::order::{PriceType, Product, Side};

/// One plugin's ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plugin {
    /// As `broker.plugin` names it, which is how the bridge does.
    pub name: &'static str,
    states: &'static [(&'static str, State)],
    products: &'static [(&'static str, Product)],
    types: &'static [(&'static str, PriceType)],
    sides: &'static [(&'static str, Side)],
    /// "success" without an order id is the broker's refusal.
    pub(super) null_id_refuses: bool,
    /// Fields of a position row that hold the last price.
    pub(super) last_price: &'static [&'static str],
    /// The first characters of `strategy` become the broker's own reference, which must be unique.
    pub(super) reference_chars: Option<usize>,
    /// The broker says in writing that the quantity of a modify is the whole order's, what has filled of it included. False
    /// also where nobody knows: there a modify that meets a partial fill may buy more than was ordered.
    pub modifies_whole: bool,
}

/// A state that a word may mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    TriggerPending,
    Complete,
    Rejected,
    Cancelled,
}

/// The bridge's own words and their spellings, which every plugin has.
const STATES: &[(&str, State)] = &[
    ("open", State::Open),
    ("trigger pending", State::TriggerPending),
    ("complete", State::Complete),
    ("rejected", State::Rejected),
    ("cancelled", State::Cancelled),
    ("canceled", State::Cancelled),
];
const PRODUCTS: &[(&str, Product)] = &[("mis", Product::Mis), ("nrml", Product::Nrml), ("cnc", Product::Cnc)];
const TYPES: &[(&str, PriceType)] = &[
    ("market", PriceType::Market),
    ("limit", PriceType::Limit),
    ("sl", PriceType::StopLimit),
    ("sl m", PriceType::StopMarket),
];
const SIDES: &[(&str, Side)] = &[("buy", Side::Buy), ("sell", Side::Sell)];

/// What the tolerant plugin knows besides: words that mean the same at every broker that has them.
const ANY_STATES: &[(&str, State)] = &[
    ("completed", State::Complete),
    ("executed", State::Complete),
    ("filled", State::Complete),
    ("traded", State::Complete),
    ("cancelled amo", State::Cancelled),
    ("cancelled after market order", State::Cancelled),
    ("expired", State::Cancelled),
    ("partially filled", State::Open),
    ("part traded", State::Open),
];
const ANY_PRODUCTS: &[(&str, Product)] =
    &[("intraday", Product::Mis), ("carryforward", Product::Nrml), ("delivery", Product::Cnc)];
const ANY_TYPES: &[(&str, PriceType)] = &[
    ("mkt", PriceType::Market),
    ("lmt", PriceType::Limit),
    ("sl lmt", PriceType::StopLimit),
    ("stoploss limit", PriceType::StopLimit),
    ("sl mkt", PriceType::StopMarket),
    ("stoploss market", PriceType::StopMarket),
    ("stop loss market", PriceType::StopMarket),
];
const ANY_SIDES: &[(&str, Side)] = &[("b", Side::Buy), ("s", Side::Sell)];

/// The brokers of one system share its letters; elsewhere they mean other products.
const NOREN: Plugin = Plugin {
    products: &[("c", Product::Cnc), ("m", Product::Nrml), ("i", Product::Mis)],
    types: &[
        ("mkt", PriceType::Market),
        ("lmt", PriceType::Limit),
        ("sl lmt", PriceType::StopLimit),
        ("sl mkt", PriceType::StopMarket),
    ],
    sides: ANY_SIDES,
    null_id_refuses: true,
    ..PLAIN
};

/// A plugin that speaks the bridge's own words throughout.
const PLAIN: Plugin = Plugin {
    name: "",
    states: &[],
    products: &[],
    types: &[],
    sides: &[],
    null_id_refuses: false,
    last_price: &["ltp"],
    reference_chars: None,
    modifies_whole: false,
};

/// Every plugin with ways of its own, the tolerant one first.
pub const PLUGINS: &[Plugin] = &[
    Plugin::ANY,
    Plugin {
        name: "angel",
        states: &[("cancelled after market order", State::Cancelled)],
        products: ANY_PRODUCTS,
        types: &[("stoploss limit", PriceType::StopLimit), ("stoploss market", PriceType::StopMarket)],
        null_id_refuses: true,
        ..PLAIN
    },
    Plugin { name: "arrow", reference_chars: Some(16), ..PLAIN },
    Plugin {
        name: "dhan",
        states: &[
            ("pending", State::Open),
            ("part traded", State::Open),
            ("traded", State::Complete),
            ("expired", State::Cancelled),
        ],
        products: &[("intraday", Product::Mis), ("margin", Product::Nrml)],
        types: &[("stop loss", PriceType::StopLimit), ("stop loss market", PriceType::StopMarket)],
        // Its API's version 2: "placed order quantity instead of pending order quantity".
        modifies_whole: true,
        ..PLAIN
    },
    Plugin { name: "firstock", last_price: &["last_price", "ltp"], ..NOREN },
    Plugin { name: "flattrade", ..NOREN },
    Plugin {
        name: "groww",
        states: &[
            ("new", State::Open),
            ("acked", State::Open),
            ("approved", State::Open),
            ("executed", State::Complete),
            ("delivery awaited", State::Complete),
            ("completed", State::Complete),
            ("failed", State::Rejected),
        ],
        last_price: &["last_price", "ltp"],
        reference_chars: Some(8),
        ..PLAIN
    },
    Plugin { name: "hdfcsky", reference_chars: Some(32), ..PLAIN },
    Plugin { name: "iiflcapital", reference_chars: Some(50), ..PLAIN },
    Plugin { name: "kotak", null_id_refuses: true, ..PLAIN },
    Plugin { name: "paytm", ..PLAIN },
    Plugin { name: "pocketful", ..PLAIN },
    Plugin { name: "samco", ..PLAIN },
    Plugin { name: "shoonya", ..NOREN },
    Plugin {
        name: "upstox",
        states: &[("cancelled after market order", State::Cancelled)],
        null_id_refuses: true,
        // "Quantity with which the order was placed".
        modifies_whole: true,
        ..PLAIN
    },
    Plugin { name: "zerodha", states: &[("cancelled amo", State::Cancelled)], ..PLAIN },
];

// === impl Plugin ===

impl Plugin {
    /// The one that understands all.
    pub const ANY: Self = Self {
        name: "any",
        states: ANY_STATES,
        products: ANY_PRODUCTS,
        types: ANY_TYPES,
        sides: ANY_SIDES,
        null_id_refuses: true,
        last_price: &["ltp", "last_price"],
        ..PLAIN
    };

    /// What a state's word means; one that is not known is kept as it is, and is no end.
    pub(super) fn status(&self, word: &str) -> OrderStatus {
        match look_up(word, STATES, self.states) {
            Some(State::Open) => OrderStatus::Open,
            Some(State::TriggerPending) => OrderStatus::TriggerPending,
            Some(State::Complete) => OrderStatus::Complete,
            Some(State::Rejected) => OrderStatus::Rejected,
            Some(State::Cancelled) => OrderStatus::Cancelled,
            None => OrderStatus::Other(word.to_owned()),
        }
    }

    /// What a product's word means.
    pub(super) fn product(&self, word: &str) -> Option<Product> {
        look_up(word, PRODUCTS, self.products)
    }

    /// What an order type's word means.
    pub(super) fn price_type(&self, word: &str) -> Option<PriceType> {
        look_up(word, TYPES, self.types)
    }

    /// What a side's word means.
    pub(super) fn side(&self, word: &str) -> Option<Side> {
        look_up(word, SIDES, self.sides)
    }

    /// What is sent as `strategy` to a live bridge, for an order named `tag`: with the tag's own end before it where the broker
    /// takes its reference from the beginning, which is the same in the tags of one strategy. No live book gives it back.
    pub(super) fn strategy(&self, tag: &str, limit_chars: usize) -> String {
        let Some(chars) = self.reference_chars else { return tag.to_owned() };
        let own: Vec<char> = tag.chars().rev().filter(char::is_ascii_alphanumeric).take(chars).collect();
        own.into_iter().rev().chain(":".chars()).chain(tag.chars()).take(limit_chars).collect()
    }
}

/// Finds a word whatever its case, and whether its parts stand apart by spaces, `_` or `-`.
fn look_up<T: Copy>(word: &str, common: &[(&str, T)], own: &[(&str, T)]) -> Option<T> {
    let parts =
        word.split(|c: char| c.is_whitespace() || c == '_' || c == '-').filter(|part| !part.is_empty());
    let plain = parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().join(" ");
    common.iter().chain(own).find(|(known, _)| *known == plain).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests;
