//! Open orders go back to what proves them: the audit log, or two of signal, position, key and entry that agree.

use serde_json::{Value, json};

use super::{AUDIT, Plan, Proposal};
use crate::domain::ids::IntentId;
use crate::domain::order::IntentState;
use crate::ledger::snapshot::{NOTHING, OffOrder, Snapshot};
use crate::recovery::report::Finding;
use crate::recovery::validate::recorded::OVER;

/// M1. What became of orders, and the columns by which whoever leads next knows them.
pub(super) fn follow_records(plan: &mut Plan, after: &mut Snapshot) {
    for intent in &mut after.intents {
        let Some(at) = after.recorded.orders.get(&intent.id) else { continue };
        if let Some(order) = at.order.as_ref().filter(|order| Some(*order) != intent.broker_order_id.as_ref())
        {
            let before = intent.broker_order_id.clone().unwrap_or_else(|| NOTHING.to_owned());
            propose(plan, intent.id, "broker_order_id", (before, order.clone()), json!(order), AUDIT);
            intent.broker_order_id = Some(order.clone());
        }
        // A takeover puts what was left journaled in doubt, and does not tell. What it filled its fills have to agree with.
        let is_left = (at.state, intent.state) == (IntentState::Journaled, IntentState::InDoubt);
        if at.state != intent.state && !is_left && at.filled == intent.filled {
            let shown = (intent.state.to_string(), at.state.to_string());
            propose(plan, intent.id, "state", shown, json!(at.state.as_str()), AUDIT);
            intent.state = at.state;
        }
    }
    let mut left = Vec::new();
    for off in std::mem::take(&mut after.off_orders) {
        let column = COLUMNS.into_iter().find(|column| *column == off.column);
        let (Some(column), Some(value)) = (column, &off.proven) else {
            left.push(off);
            continue;
        };
        let shown = (off.stored.clone(), off.told.clone());
        propose(
            plan,
            off.intent,
            column,
            shown,
            value.clone(),
            "two others of signal, position, key and entry say so",
        );
    }
    // What a tag was made of by a plan that was tampered with says nothing.
    let planned =
        |off: &OffOrder| plan.mending.orders.get(&off.intent).is_some_and(|set| set.contains_key("plan"));
    left.retain(|off| off.column != "strategy_tag" || !planned(off));
    after.off_orders = left;
}

/// What may be set of an order's own columns.
const COLUMNS: [&str; 8] =
    ["strategy_tag", "trading_day", "signal_id", "plan", "instrument", "symbol", "exchange", "product"];

fn propose(
    plan: &mut Plan,
    intent: IntentId,
    field: &'static str,
    (before, after): (String, String),
    value: Value,
    because: &str,
) {
    let (row, because) = (intent.to_string(), because.to_owned());
    plan.proposals.push(Proposal { table: "order_intent", row, field, before, after, because });
    plan.mending.orders.entry(intent).or_default().insert(field.to_owned(), value);
}

/// What an operator can do about an order that nothing proves.
pub(super) fn advised(finding: &Finding) -> String {
    let Finding { table: "order_intent", row, field, stored, .. } = finding else {
        return finding.to_string();
    };
    match (field.as_str(), stored.as_str()) {
        ("state", OVER) => {
            format!(
                "{finding}; it may rest at the broker: see there, and in RUNBOOK.md#validation_failed how its row is put back"
            )
        }
        _ => format!(
            "{finding}; see what the broker's order book shows of it: set that by hand, or, where it was sent, end the order by your \
             word with `baton orders resolve {row} --as STATE --evidence TEXT`"
        ),
    }
}
