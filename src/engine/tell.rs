//! What a committed change means, said once: one sentence in the log and the counters moved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{NaiveDate, Utc};
use tracing::field::display;

use super::book::Book;
use super::stops::{Hit, Unarmed};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::limits::{CODES, Day};
use crate::domain::money::Quantity;
use crate::domain::order::IntentState;
use crate::domain::position::{HoldingKey, Position, PositionStatus};
use crate::domain::refusal::Refusal;
use crate::ledger::Change;
use crate::ledger::flapping::FlapLimit;
use crate::ledger::inbox::SignalStatus;
use crate::notify::{Census, Event, Key, Kind, Notifier};
use crate::recovery::reconcile::{Drift, Known};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{self, TraceId};

/// Shows since when an EXIT waits, of which the longest has waited for this time.
pub(super) fn exit_waiting(waited: Option<Duration>, metrics: &Metrics) {
    let now = Utc::now().timestamp_millis() as f64 / 1000.0;
    metrics.exit_waiting_since.set(waited.map_or(0.0, |waited| now - waited.as_secs_f64()));
}

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
            intent = %update.id, trace_id = %traces::of_order(intent), order_id, from = %before,
            "order {} {} {} {}{why}", intent.order.side, intent.order.quantity, intent.order.symbol, update.state
        );
        let order = format!("{}{why}", named(intent));
        notify(update.id, before, update.state, &order, notifier);
    }
    for p in &change.opened {
        let trace_id = trace_of(book, change, p).map(display);
        tracing::info!(position = %p.id, trace_id, "opened {} {}: {} units at {}", p.instrument, p.label, p.quantity, p.entry_price);
    }
    for p in change.positions.iter().filter(|position| position.status == PositionStatus::Closed) {
        let trace_id = trace_of(book, change, p).map(display);
        tracing::info!(position = %p.id, trace_id, "closed {} {}: realised ₹{:.2}", p.instrument, p.label, p.realised.0.round_dp(2));
    }
    for p in change.positions.iter().filter(|position| position.status == PositionStatus::Closing) {
        if book.position(p.id).is_some_and(|before| before.quantity > p.quantity) {
            tracing::info!(position = %p.id, "sold a part of {} {}: {} of {} units are left to sell", p.instrument, p.label, p.quantity, p.entry_quantity);
        }
    }
    for update in change.signals.iter().filter(|update| update.status != SignalStatus::Refused) {
        let Some(working) = book.working.get(&update.id) else { continue };
        let outcome = if update.status == SignalStatus::Executed { "acted" } else { "failed" };
        metrics.signals.with_label_values(&[working.kind.as_str(), outcome]).inc();
        let trace_id = traces::of_signal(update.id);
        tracing::info!(signal = %update.id, %trace_id, "signal {} {}", working.kind, update.status);
    }
}

/// The trace of the order that moved a position.
fn trace_of(book: &Book, change: &Change, position: &Position) -> Option<TraceId> {
    let moved = change.intents.iter().filter_map(|update| book.intents.get(&update.id));
    let mut moved = moved.filter(|tracked| tracked.intent.position == position.id);
    moved.next().map(|tracked| traces::of_order(&tracked.intent))
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
        notifier.raise(Event::about(Kind::OrderInDoubt, id.to_string(), doubt(order)));
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

fn named(intent: &OrderIntent) -> String {
    format!("{} {} {}", intent.order.side, intent.order.quantity, intent.order.symbol)
}

fn doubt(order: &str) -> String {
    format!("whether the broker has it is not known: {order}; see RUNBOOK.md#in-doubt-orders")
}

/// Notifies of contracts that drift from now on, and of those that agree again, were they known to drift or suspected.
pub(super) fn drift(before: &Drift, now: &Drift, notifier: &Notifier) {
    let confirmed = |drift: &Drift, key: &HoldingKey| drift.confirmed().any(|(other, _)| other == key);
    for (key, known) in now.confirmed().filter(|(key, _)| !confirmed(before, key)) {
        notifier.raise(Event::about(Kind::PositionDrift, key.to_string(), drift_sentence(key, known)));
    }
    for (key, _) in before.all().filter(|(key, _)| now.of(key).is_none()) {
        notifier.resolve(Key::new(Kind::PositionDrift, key.to_string()));
    }
}

fn drift_sentence(key: &HoldingKey, known: &Known) -> String {
    format!(
        "the ledger holds {} units of {key}, the broker's verified book {}: entries are refused, exits sell no more than that; see RUNBOOK.md#position_drift",
        known.ledger, known.broker
    )
}

/// Notifies of a limit of the account that was latched now, and counts it.
pub(super) fn latched(date: NaiveDate, limit: &Refusal, metrics: &Metrics, notifier: &Notifier) {
    metrics.limit_hits.with_label_values(&[limit.code]).inc();
    tracing::warn!(code = limit.code, "[STATE] no entries for the rest of {date}: {}", limit.sentence);
    notifier.raise(Event::about(Kind::LimitHit, limit.code, latch_sentence(date, limit)));
}

fn latch_sentence(date: NaiveDate, limit: &Refusal) -> String {
    format!("no entries for the rest of {date} in India: {}; see RUNBOOK.md#limit-hit", limit.sentence)
}

/// The day is over, and its latches with it.
pub(super) fn latches_end(day: &Day, notifier: &Notifier) {
    for limit in &day.latched {
        tracing::info!(code = limit.code, "[STATE] the limit of {} is over", day.date);
        notifier.resolve(Key::new(Kind::LimitHit, limit.code));
    }
}

/// The limits that are latched today; what nobody has read is not over.
pub(super) fn limits(epoch: i64, day: Option<&Day>) -> Census {
    let Some(day) = day else {
        return Census { epoch, unsure: CODES.into_iter().map(str::to_owned).collect(), ..Census::default() };
    };
    let holds = day.latched.iter().map(|limit| (limit.code.to_owned(), latch_sentence(day.date, limit)));
    Census { epoch, holds: holds.collect(), unsure: BTreeSet::new() }
}

/// Says all that is in doubt and all that drifts: the leader before may have died between a change and its telling.
pub(super) fn census(
    epoch: i64,
    book: &Book,
    rest: bool,
    late: &BTreeMap<PositionId, String>,
    notifier: &Notifier,
) {
    let doubted = book.in_doubt().map(|t| (t.intent.id.to_string(), doubt(&named(&t.intent))));
    let doubted = Census { epoch, holds: doubted.collect(), unsure: BTreeSet::new() };
    notifier.census(Kind::OrderInDoubt, doubted);
    let drifting = book.drift.confirmed().map(|(key, known)| (key.to_string(), drift_sentence(key, known)));
    // What was seen once is neither begun nor over.
    let unsure = book.drift.all().map(|(key, _)| key.to_string());
    let drifting = Census { epoch, holds: drifting.collect(), unsure: unsure.collect() };
    notifier.census(Kind::PositionDrift, drifting);
    // Of what is held the looks at the stops tell; what is not held any more nobody would end.
    let held = book.portfolio.held().filter(|_| rest).map(|position| position.id.to_string());
    let bare = Census { epoch, unsure: held.collect(), ..Census::default() };
    notifier.census(Kind::StopNotResting, bare);
    notifier.census(Kind::SquareOffLate, squared_off(epoch, book, late));
    notifier.census(Kind::LimitHit, limits(epoch, book.day.as_ref()));
}

/// What is late of the day's square-off. While nobody was asked for the hours, no look has judged what is held.
pub(super) fn squared_off(epoch: i64, book: &Book, late: &BTreeMap<PositionId, String>) -> Census {
    let holds = late.iter().map(|(id, sentence)| (id.to_string(), sentence.clone()));
    let unsure = book.portfolio.held().filter(|_| !book.market_asked).map(|position| position.id.to_string());
    Census { epoch, holds: holds.collect(), unsure: unsure.collect() }
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
