//! What a committed change means, said once: one sentence in the log and the counters moved.

use super::book::Book;
use super::stops::{Hit, Unarmed};
use crate::domain::ids::IntentId;
use crate::domain::money::Quantity;
use crate::domain::order::IntentState;
use crate::domain::position::{Position, PositionStatus};
use crate::ledger::Change;
use crate::ledger::flapping::FlapLimit;
use crate::ledger::inbox::SignalStatus;
use crate::notify::{Event, Key, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

/// Tells of a change that was committed and is not installed yet.
pub(super) fn tell(book: &Book, change: &Change, metrics: &Metrics, notifier: &Notifier) {
    for update in &change.intents {
        let Some(tracked) = book.intents.get(&update.id) else { continue };
        let (before, intent) = (tracked.intent.state, &tracked.intent);
        if before == update.state {
            continue;
        }
        metrics.orders.with_label_values(&[update.state.as_str()]).inc();
        let why = update.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let order_id = update.broker_order_id.as_deref().or(intent.broker_order_id.as_deref());
        tracing::info!(
            intent = %update.id, order_id, from = %before,
            "order {} {} {} {}{why}", intent.order.side, intent.order.quantity, intent.order.symbol, update.state
        );
        let order = format!("{} {} {}{why}", intent.order.side, intent.order.quantity, intent.order.symbol);
        notify(update.id, before, update.state, &order, notifier);
    }
    for p in &change.opened {
        tracing::info!(position = %p.id, "opened {} {}: {} units at {}", p.instrument, p.label, p.quantity, p.entry_price);
    }
    for p in change.positions.iter().filter(|position| position.status == PositionStatus::Closed) {
        tracing::info!(position = %p.id, "closed {} {}: realised ₹{:.2}", p.instrument, p.label, p.realised.0.round_dp(2));
    }
    for update in change.signals.iter().filter(|update| update.status != SignalStatus::Refused) {
        let Some(working) = book.working.get(&update.id) else { continue };
        let outcome = if update.status == SignalStatus::Executed { "acted" } else { "failed" };
        metrics.signals.with_label_values(&[working.kind.as_str(), outcome]).inc();
        tracing::info!(signal = %update.id, "signal {} {}", working.kind, update.status);
    }
}

/// A position's price reached its stop or its take-profit; counted and told the first time.
pub(super) fn hit(position: &Position, hit: &Hit, first: bool, metrics: &Metrics) {
    if first {
        metrics.stop_hits.with_label_values(&[hit.trigger.cause().as_str()]).inc();
        tracing::warn!(
            position = %position.id, instrument = position.instrument, label = position.label, source = %hit.source,
            "[{}] {}: {}", hit.trigger.tag(), position.symbol, hit.trigger.sentence(hit.price)
        );
    }
}

/// Nobody watches a position's stop.
pub(super) fn unarmed(position: &Position, why: Unarmed) {
    tracing::warn!(
        position = %position.id, instrument = position.instrument, label = position.label,
        "[SL] {}: the stop at {} is not watched: {}", position.symbol, position.current_stop, why.as_str()
    );
}

/// A position's stop is watched again.
pub(super) fn armed(position: &Position) {
    tracing::info!(position = %position.id, "[SL] {}: the stop at {} is watched again", position.symbol, position.current_stop);
}

/// Not all of a position has a stop that rests at the broker.
pub(super) fn bare(position: &Position, units: Quantity, why: Option<&str>, notifier: &Notifier) {
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    tracing::warn!(
        position = %position.id, instrument = position.instrument, label = position.label,
        "[SL] {}: {units} of {} units have no stop at the broker{why}; the leader watches", position.symbol, position.quantity
    );
    notifier.raise(Event::about(
        Kind::StopNotResting,
        position.id.to_string(),
        format!(
            "{units} of {} units of {} have no stop at the broker{why}: while nobody leads nothing sells them; see RUNBOOK.md#stop_not_resting",
            position.quantity, position.symbol
        ),
    ));
}

/// All of a position has its stop at the broker.
pub(super) fn rests(position: &Position, notifier: &Notifier) {
    tracing::info!(position = %position.id, "[SL] {}: its stop rests at the broker", position.symbol);
    notifier.resolve(Key::new(Kind::StopNotResting, position.id.to_string()));
}

/// Notifies of an order that is in doubt, of how the doubt ended, and of one given up.
fn notify(id: IntentId, before: IntentState, now: IntentState, order: &str, notifier: &Notifier) {
    if now == IntentState::InDoubt {
        notifier.raise(Event::about(
            Kind::OrderInDoubt,
            id.to_string(),
            format!("whether the broker has it is not known: {order}; see RUNBOOK.md#in-doubt-orders"),
        ));
    } else if before == IntentState::InDoubt {
        notifier.resolve(Key::new(Kind::OrderInDoubt, id.to_string()));
    }
    if now == IntentState::Abandoned {
        notifier.raise(Event::about(
            Kind::OrderAbandoned,
            id.to_string(),
            format!("given up, it did not appear at the broker: {order}; see RUNBOOK.md#in-doubt-orders"),
        ));
    }
}

/// Notifies of an order that has left the books without anybody seeing its end.
pub(super) fn unseen_end(change: &Change, notifier: &Notifier) {
    for update in &change.intents {
        let why = update.reason.clone().unwrap_or_default();
        notifier.raise(Event::about(
            Kind::OrderEndUnseen,
            update.id.to_string(),
            format!("{why}; see RUNBOOK.md#order_end_unseen"),
        ));
    }
}

/// Notifies of orders that a former leader left without an outcome.
pub(super) fn doubted(intents: &[IntentId], notifier: &Notifier) {
    for id in intents {
        notifier.raise(Event::about(
            Kind::OrderInDoubt,
            id.to_string(),
            "the former leader left it without an outcome; see RUNBOOK.md#in-doubt-orders",
        ));
    }
}

/// Leadership flaps, and reduce-only was set for it.
pub(super) fn flapping(times: i64, limit: FlapLimit, notifier: &Notifier) {
    let sentence = format!(
        "leadership was lost against its holder's will {times} times within {} s: reduce-only is set until an operator has looked",
        limit.within.as_secs()
    );
    tracing::error!(times, "[HA] {sentence}");
    notifier.raise(Event::new(Kind::Flapping, format!("{sentence}; see RUNBOOK.md#flapping")));
}

/// Notifies of orders at the broker that are not ours.
pub(super) fn foreign(orders: &[String], notifier: &Notifier) {
    for order in orders {
        notifier.raise(Event::about(Kind::ForeignOrder, order.clone(), format!("order {order} at the broker is not ours: it is reported and never touched; see RUNBOOK.md#foreign-orders")));
    }
}
