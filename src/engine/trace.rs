//! The steps that a committed change is, written down in the traces of its signals and orders.

use std::time::SystemTime;

use super::book::Book;
use crate::domain::ids::IntentId;
use crate::domain::order::IntentState;
use crate::ledger::Change;
use crate::ledger::inbox::SignalStatus;
use crate::telemetry::Traces;
use crate::telemetry::traces::Step;

/// Writes down a change that was committed, which took since `begun`, and is not installed yet.
pub(super) fn trace(book: &Book, change: &Change, traces: &Traces, begun: SystemTime) {
    for update in &change.intents {
        let Some(tracked) = book.intents.get(&update.id) else { continue };
        let intent = &tracked.intent;
        if (intent.state, intent.filled) == (update.state, update.filled) {
            continue;
        }
        traces.record(|| {
            let mut step = Step::of_order(intent, update.state.as_str())
                .since(begun)
                .with("baton.from", intent.state.as_str())
                .with("baton.filled", update.filled.0);
            let order_id = update.broker_order_id.as_ref().or(intent.broker_order_id.as_ref());
            if let Some(order_id) = order_id {
                step = step.with("baton.order_id", order_id.clone());
            }
            let why = update.reason.clone().unwrap_or_default();
            match update.state {
                IntentState::Rejected
                | IntentState::NotSent
                | IntentState::InDoubt
                | IntentState::Abandoned => step.failed(why),
                _ => step,
            }
        });
    }
    for update in change.signals.iter().filter(|update| update.status != SignalStatus::Refused) {
        traces.record(|| Step::of_signal(update.id, update.status.as_str()).since(begun));
    }
}

/// Writes down that a former leader left orders without an outcome.
pub(super) fn doubted(book: &Book, intents: &[IntentId], traces: &Traces) {
    for tracked in intents.iter().filter_map(|id| book.intents.get(id)) {
        traces.record(|| {
            let step = Step::of_order(&tracked.intent, IntentState::InDoubt.as_str());
            step.failed("the former leader left it without an outcome".to_owned())
        });
    }
}
