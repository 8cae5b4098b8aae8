//! Which order in the books is an intent's whose order id nobody knows.

use std::collections::{BTreeMap, HashSet};

use super::book::{Book, Tracked};
use crate::broker::BrokerOrder;
use crate::broker::matching::{Unresolved, match_orders};
use crate::domain::ids::IntentId;
use crate::domain::order::{IntentState, OrderSpec};
use crate::mutant::Mutant;

/// Intents of the same terms, and more orders than there are intents.
pub type Ambiguity = (Vec<IntentId>, Vec<String>);

/// The orders that were found, by intent, and what cannot be told apart.
pub(super) type Adopted = (BTreeMap<IntentId, String>, Vec<Ambiguity>);

/// Matches the intents whose order id is not known, those of the same terms together: an order that was seen before
/// the oldest of them was journaled is none of theirs, whatever older intents of other terms are still looked for.
pub(super) fn adopt(book: &Book, orders: &[BrokerOrder]) -> Adopted {
    if Mutant::AdoptsNothing.is_on() {
        return Adopted::default();
    }
    let mut groups: Vec<(&OrderSpec, Vec<&Tracked>)> = Vec::new();
    for tracked in book.intents.values().filter(|t| is_lost(t) && !is_shadowed(t, book)) {
        match groups.iter_mut().find(|(terms, _)| **terms == tracked.intent.order) {
            Some((_, group)) => group.push(tracked),
            None => groups.push((&tracked.intent.order, vec![tracked])),
        }
    }
    let (mut adopted, mut ambiguous) = Adopted::default();
    for (_, group) in groups {
        let oldest = group.iter().map(|t| t.intent.watermark).min().unwrap_or(i64::MAX);
        let foreign = book.foreign.iter().filter(|(_, seen)| **seen <= oldest).map(|(id, _)| id);
        let known: HashSet<String> =
            book.claimed.iter().chain(foreign).chain(adopted.values()).cloned().collect();
        let unresolved: Vec<Unresolved> = group
            .iter()
            .map(|tracked| Unresolved {
                intent: tracked.intent.id,
                spec: tracked.intent.order.clone(),
                strategy: tracked.intent.strategy_tag(),
            })
            .collect();
        let matching = match_orders(&unresolved, orders, &known);
        adopted.extend(matching.found.into_iter().map(|found| (found.intent, found.order_id)));
        ambiguous.extend(matching.ambiguous.into_iter().map(|a| (a.intents, a.order_ids)));
    }
    (adopted, ambiguous)
}

/// An abandoned intent takes no order that may belong to one of the same terms which is under way or in doubt.
fn is_shadowed(tracked: &Tracked, book: &Book) -> bool {
    tracked.intent.state == IntentState::Abandoned
        && book
            .intents
            .values()
            .any(|other| other.intent.state.is_unresolved() && other.intent.order == tracked.intent.order)
}

/// Its order, if there is one, has to be found by its terms.
fn is_lost(tracked: &Tracked) -> bool {
    matches!(tracked.intent.state, IntentState::InDoubt | IntentState::Abandoned)
        && tracked.intent.broker_order_id.is_none()
}
