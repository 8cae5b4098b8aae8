//! Which new broker order belongs to which in-doubt intent.
//!
//! Pure and one to one. Where the book carries `strategy` (analyze mode) it is the exact key; elsewhere all of (symbol, exchange, side, product, price type, quantity, price, trigger price) is, among orders that were
//! not known before the send. Several intents that say the same are interchangeable at the broker, so they take
//! the orders in turn. More orders than intents means that some are not ours: nothing is assigned then.

use std::collections::{BTreeMap, HashSet};

use super::types::BrokerOrder;
use crate::domain::ids::IntentId;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderSpec, PriceType};

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

/// Matches `unresolved` (oldest first) to the orders that are not in `known`.
///
/// `known` holds every order id that belongs to another intent or was in the books before the oldest of
/// `unresolved` was sent.
pub fn match_orders(unresolved: &[Unresolved], orders: &[BrokerOrder], known: &HashSet<String>) -> Matching {
    let mut seen = HashSet::new();
    let new: Vec<&BrokerOrder> =
        orders.iter().filter(|o| !known.contains(&o.order_id) && seen.insert(o.order_id.as_str())).collect();
    let mut result = Matching::default();
    let all: Vec<&Unresolved> = unresolved.iter().collect();
    let left = assign(&all, &new, Key::by_name_of_intent, Key::by_name_of_order, &mut result);
    let left = assign(&left, &new, Key::by_terms_of_intent, Key::by_terms_of_order, &mut result);
    result.absent = left.iter().map(|intent| intent.intent).collect();
    result
}

/// One pass: assigns what shares a key and returns the intents that found nothing.
fn assign<'a>(
    intents: &[&'a Unresolved],
    orders: &[&'a BrokerOrder],
    intent_key: fn(&'a Unresolved) -> Key<'a>,
    order_key: fn(&'a BrokerOrder) -> Option<Key<'a>>,
    result: &mut Matching,
) -> Vec<&'a Unresolved> {
    let mut candidates: BTreeMap<Key<'_>, Vec<&BrokerOrder>> = BTreeMap::new();
    for order in orders {
        if let Some(key) = order_key(order) {
            candidates.entry(key).or_default().push(order);
        }
    }
    let mut groups: BTreeMap<Key<'_>, Vec<&Unresolved>> = BTreeMap::new();
    for intent in intents {
        groups.entry(intent_key(intent)).or_default().push(intent);
    }
    let mut left = Vec::new();
    for (key, intents) in groups {
        let candidates = candidates.get(&key).map(Vec::as_slice).unwrap_or_default();
        if candidates.len() > intents.len() {
            result.ambiguous.push(ambiguous(&intents, candidates));
            continue;
        }
        result.found.extend(intents.iter().zip(candidates).map(|(intent, order)| found(intent, order)));
        left.extend_from_slice(&intents[candidates.len()..]);
    }
    left
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

/// What intent and order must have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    /// The row carries the intent's own name; symbol and side guard against a name used twice. Quantity and
    /// prices may have been modified since.
    Name { strategy: &'a str, symbol: &'a str, exchange: &'a str, side: &'static str },
    /// The row carries no name: everything that was said must agree.
    Terms {
        symbol: &'a str,
        exchange: &'a str,
        side: &'static str,
        product: &'static str,
        price_type: &'static str,
        quantity: Quantity,
        price: Price,
        trigger_price: Price,
    },
}

// === impl Key ===

impl<'a> Key<'a> {
    fn by_name_of_intent(intent: &'a Unresolved) -> Self {
        let OrderSpec { symbol, exchange, side, .. } = &intent.spec;
        Self::Name { strategy: &intent.strategy, symbol, exchange, side: side.as_str() }
    }

    fn by_name_of_order(order: &'a BrokerOrder) -> Option<Self> {
        let BrokerOrder { symbol, exchange, side, .. } = order;
        let strategy = order.strategy.as_deref()?;
        Some(Self::Name { strategy, symbol, exchange, side: side.as_str() })
    }

    fn by_terms_of_intent(intent: &'a Unresolved) -> Self {
        let spec = &intent.spec;
        Self::Terms {
            symbol: &spec.symbol,
            exchange: &spec.exchange,
            side: spec.side.as_str(),
            product: spec.product.as_str(),
            price_type: spec.price_type.as_str(),
            quantity: spec.quantity,
            price: price(spec.price_type, spec.price),
            trigger_price: trigger(spec.price_type, spec.trigger_price),
        }
    }

    /// `None` for a row that carries a name: it belongs to that name and to nobody else.
    fn by_terms_of_order(order: &'a BrokerOrder) -> Option<Self> {
        order.strategy.is_none().then(|| Self::Terms {
            symbol: &order.symbol,
            exchange: &order.exchange,
            side: order.side.as_str(),
            product: order.product.as_str(),
            price_type: order.price_type.as_str(),
            quantity: order.quantity,
            price: price(order.price_type, order.price),
            trigger_price: trigger(order.price_type, order.trigger_price),
        })
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

#[cfg(test)]
mod tests;
