//! Which new broker order belongs to which in-doubt intent.
//!
//! Pure and one to one. Where the book carries `strategy` (analyze mode) it is the exact key; elsewhere the whole
//! of (symbol, exchange, side, product, price type, quantity, price, trigger price) is, among orders that were
//! not known before the send. Several intents that say the same are interchangeable at the broker, so they take
//! the orders in turn. More orders than intents means that some are not ours: nothing is assigned then.

use std::collections::{BTreeMap, HashSet};

use super::types::BrokerOrder;
use crate::domain::ids::IntentId;
use crate::domain::money::Price;
use crate::domain::order::{OrderSpec, PriceType, Product, Side};

/// An intent whose outcome is not known.
#[derive(Clone, Debug)]
pub struct Unresolved {
    /// The intent.
    pub intent: IntentId,
    /// What was sent, if it was.
    pub spec: OrderSpec,
    /// The `strategy` it was sent with, unique per intent.
    pub strategy: String,
}

/// What the books say about the unresolved intents. Every intent appears exactly once.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Matching {
    /// Intents with their orders.
    pub found: Vec<Found>,
    /// Intents of which the books have too many candidates: the operator's word is needed.
    pub ambiguous: Vec<Ambiguous>,
    /// Intents without a candidate. That proves nothing before the settle time has passed.
    pub absent: Vec<IntentId>,
}

/// An intent's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The intent.
    pub intent: IntentId,
    /// The broker's order id.
    pub order_id: String,
}

/// Intents that say the same, and more orders than there are intents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ambiguous {
    /// The intents.
    pub intents: Vec<IntentId>,
    /// The candidates, in the book's order.
    pub order_ids: Vec<String>,
}

/// Everything that an order says, made comparable.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    symbol: &'a str,
    exchange: &'a str,
    side: &'static str,
    product: &'static str,
    price_type: &'static str,
    quantity: i64,
    price: Price,
    trigger_price: Price,
    /// Set when the row carries one; then only this intent can own it.
    strategy: Option<&'a str>,
}

/// Matches `unresolved` (oldest first) to the orders that are not in `known`.
///
/// `known` holds every order id that belongs to another intent or was in the books before the oldest of
/// `unresolved` was sent.
pub fn match_orders(unresolved: &[Unresolved], orders: &[BrokerOrder], known: &HashSet<String>) -> Matching {
    let mut fresh: Vec<&BrokerOrder> = Vec::new();
    let mut seen = HashSet::new();
    for order in orders {
        if !known.contains(&order.order_id) && seen.insert(order.order_id.as_str()) {
            fresh.push(order);
        }
    }
    let mut by_key: BTreeMap<Key<'_>, Vec<&BrokerOrder>> = BTreeMap::new();
    for order in fresh {
        by_key.entry(Key::of_order(order)).or_default().push(order);
    }
    // Intents by what they say; a map keeps the result independent of hashing.
    let mut groups: BTreeMap<Key<'_>, Vec<&Unresolved>> = BTreeMap::new();
    let mut result = Matching::default();
    for intent in unresolved {
        let exact = by_key.get(&Key::of_intent(intent, Some(&intent.strategy)));
        match exact.map(Vec::as_slice) {
            Some([order]) => result.found.push(found(intent, order)),
            Some(several) => result.ambiguous.push(ambiguous(&[intent], several)),
            None => groups.entry(Key::of_intent(intent, None)).or_default().push(intent),
        }
    }
    for (key, intents) in groups {
        let candidates = by_key.get(&key).map(Vec::as_slice).unwrap_or_default();
        if candidates.len() > intents.len() {
            result.ambiguous.push(ambiguous(&intents, candidates));
            continue;
        }
        result.found.extend(intents.iter().zip(candidates).map(|(intent, order)| found(intent, order)));
        result.absent.extend(intents.iter().skip(candidates.len()).map(|intent| intent.intent));
    }
    result
}

fn found(intent: &Unresolved, order: &BrokerOrder) -> Found {
    Found { intent: intent.intent, order_id: order.order_id.clone() }
}

fn ambiguous(intents: &[&Unresolved], orders: &[&BrokerOrder]) -> Ambiguous {
    Ambiguous {
        intents: intents.iter().map(|intent| intent.intent).collect(),
        order_ids: orders.iter().map(|order| order.order_id.clone()).collect(),
    }
}

// === impl Key ===

impl<'a> Key<'a> {
    fn of_order(order: &'a BrokerOrder) -> Self {
        Self {
            symbol: &order.symbol,
            exchange: &order.exchange,
            side: Side::as_str(order.side),
            product: Product::as_str(order.product),
            price_type: order.price_type.as_str(),
            quantity: order.quantity.0,
            price: price(order.price_type, order.price),
            trigger_price: trigger(order.price_type, order.trigger_price),
            strategy: order.strategy.as_deref(),
        }
    }

    fn of_intent(intent: &'a Unresolved, strategy: Option<&'a str>) -> Self {
        let spec = &intent.spec;
        Self {
            symbol: &spec.symbol,
            exchange: &spec.exchange,
            side: Side::as_str(spec.side),
            product: Product::as_str(spec.product),
            price_type: spec.price_type.as_str(),
            quantity: spec.quantity.0,
            price: price(spec.price_type, spec.price),
            trigger_price: trigger(spec.price_type, spec.trigger_price),
            strategy,
        }
    }
}

/// Market orders stand in the books with price zero, whatever they were sent with.
fn price(kind: PriceType, price: Price) -> Price {
    match kind {
        PriceType::Market | PriceType::StopMarket => Price::ZERO,
        PriceType::Limit | PriceType::StopLimit => price,
    }
}

fn trigger(kind: PriceType, trigger: Price) -> Price {
    match kind {
        PriceType::Market | PriceType::Limit => Price::ZERO,
        PriceType::StopLimit | PriceType::StopMarket => trigger,
    }
}
