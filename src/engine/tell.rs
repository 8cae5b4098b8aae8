//! What a committed change means, said once: one sentence in the log and the counters moved.

use super::book::Book;
use crate::domain::position::PositionStatus;
use crate::ledger::Change;
use crate::ledger::inbox::SignalStatus;
use crate::telemetry::metrics::Metrics;

/// Tells of a change that was committed and is not installed yet.
pub(super) fn tell(book: &Book, change: &Change, metrics: &Metrics) {
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
