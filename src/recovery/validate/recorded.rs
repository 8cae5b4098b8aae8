//! The rows against the audit log, which is the only other trace of some of their columns.

use std::collections::HashSet;

use crate::domain::cash::CashKind;
use crate::domain::ids::IntentId;
use crate::domain::money::Rupees;
use crate::domain::order::IntentState;
use crate::ledger::cash::CashRow;
use crate::ledger::recorded::{Moved, Recorded};
use crate::ledger::snapshot::{NOTHING, Snapshot};
use crate::recovery::report::Finding;

/// V8, first part: where stops and highest closes stand. Of a position that the log does not tell of nothing is known.
pub(super) fn positions(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for position in &snapshot.positions {
        let Some(at) = snapshot.recorded.positions.get(&position.id) else { continue };
        let mut wrong = |field, stored, recorded| {
            findings.push(Finding::mismatch("position", position.id, field, stored, recorded));
        };
        if at.stop != position.current_stop {
            wrong("current_stop", position.current_stop, at.stop);
        }
        if let Some(highest) = at.highest_close.filter(|highest| *highest != position.highest_close) {
            wrong("highest_close", position.highest_close, highest);
        }
        if let Some(charges) = at.charges.filter(|charges| *charges != position.charges) {
            findings.push(Finding::mismatch("position", position.id, "charges", position.charges, charges));
        }
    }
    findings
}

/// What is stored of an order that is not among the open ones.
pub(in crate::recovery) const OVER: &str = "over, or gone";

/// V8, fourth part: what became of orders. One that is called ended would be given up while it rests at the broker; of those of
/// which nothing is read any more the log alone knows.
pub(super) fn orders(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for intent in &snapshot.intents {
        let Some(at) = snapshot.recorded.orders.get(&intent.id) else { continue };
        let mut wrong = |field, stored: &dyn ToString, told: &dyn ToString| {
            findings.push(Finding::mismatch(
                "order_intent",
                intent.id,
                field,
                stored.to_string(),
                told.to_string(),
            ));
        };
        // A takeover puts all that was left journaled in doubt, and does not tell.
        let is_left = (at.state, intent.state) == (IntentState::Journaled, IntentState::InDoubt);
        if at.state != intent.state && !is_left {
            wrong("state", &intent.state, &at.state);
        }
        if at.filled != intent.filled {
            wrong("filled_quantity", &intent.filled, &at.filled);
        }
        if let Some(order) = at.order.as_ref().filter(|order| Some(*order) != intent.broker_order_id.as_ref())
        {
            wrong("broker_order_id", &intent.broker_order_id.as_deref().unwrap_or(NOTHING), order);
        }
    }
    // Whatever is open is read: what is not among it was ended, or taken away, behind the log's back.
    let read: HashSet<IntentId> = snapshot.intents.iter().map(|intent| intent.id).collect();
    let open = snapshot.recorded.orders.iter().filter(|(_, at)| !at.state.is_terminal());
    let missing = open.filter(|(id, _)| !read.contains(id));
    findings.extend(missing.map(|(id, at)| Finding::mismatch("order_intent", id, "state", OVER, at.state)));
    findings
}

/// V8, second part: what operators want closed. One that nobody asked for would sell, and one that is gone would not.
pub(super) fn wishes(snapshot: &Snapshot) -> Vec<Finding> {
    let recorded = &snapshot.recorded;
    if !recorded.complete {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for position in &snapshot.positions {
        let stored = snapshot.wishes.iter().find(|wish| wish.position == position.id);
        let stored = stored.map(|wish| (&wish.by, &wish.why));
        let asked = recorded.wishes.get(&position.id).map(|wanted| (&wanted.by, &wanted.why));
        if stored != asked {
            let shown = |wish: Option<(&String, &String)>| {
                wish.map_or_else(|| NOTHING.to_owned(), |(by, why)| format!("{by}: {why}"))
            };
            findings.push(Finding::mismatch(
                "position",
                position.id,
                "close_at",
                shown(stored),
                shown(asked),
            ));
        }
    }
    findings
}

/// V8, third part: capital and high-water mark.
pub(super) fn figures(snapshot: &Snapshot) -> Vec<Finding> {
    let (Some(stored), Some(recorded)) = (snapshot.portfolio, snapshot.recorded.figures) else {
        return Vec::new();
    };
    [("capital", stored.capital, recorded.capital), ("equity_high", stored.equity_high, recorded.equity_high)]
        .into_iter()
        .filter(|(_, stored, recorded)| stored != recorded)
        .map(|(field, stored, recorded)| Finding::mismatch("portfolio_state", 1, field, stored, recorded))
        .collect()
}

/// A movement's row against what the log tells of it.
#[derive(Debug, PartialEq)]
pub(in crate::recovery) enum OffMovement<'a> {
    /// The log tells it, and there is no row.
    Gone(&'a Moved),
    /// Its row is another.
    Other(&'a CashRow, &'a Moved),
    /// Nobody moved it.
    Untold(&'a CashRow),
    /// What the account was opened with has no row.
    OpeningGone(Rupees),
    /// It was opened with that.
    Opening(&'a CashRow, Rupees),
}

/// What is off in these rows, by a log that was walked from its first row on; the opening is what the capital leaves, which the
/// log tells.
pub(in crate::recovery) fn off_movements<'a>(
    rows: &'a [CashRow],
    recorded: &'a Recorded,
) -> Vec<OffMovement<'a>> {
    let Some(told) = &recorded.movements else { return Vec::new() };
    let (openings, moved): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.kind == CashKind::Opening.as_str());
    let mut off = Vec::new();
    for row in &moved {
        match told.values().find(|told| told.id.0 == row.id) {
            None => off.push(OffMovement::Untold(row)),
            Some(told) => {
                let stored = (&*row.kind, Rupees(row.amount), &row.who, &row.why);
                if stored != (told.kind.as_str(), told.amount, &told.who, &told.why) {
                    off.push(OffMovement::Other(row, told));
                }
            }
        }
    }
    let gone = told.values().filter(|told| !moved.iter().any(|row| row.id == told.id.0));
    off.extend(gone.map(OffMovement::Gone));
    if let Some(figures) = recorded.figures {
        let opened = figures.capital - told.values().map(|told| told.amount).sum();
        match openings.first() {
            Some(row) if Rupees(row.amount) != opened => off.push(OffMovement::Opening(row, opened)),
            Some(_) => {}
            None => off.push(OffMovement::OpeningGone(opened)),
        }
    }
    off
}

/// A movement, for people.
pub(in crate::recovery) fn told(moved: &Moved) -> String {
    format!("{} of {} by {}: {}", moved.kind, moved.amount.0.normalize(), moved.who, moved.why)
}

/// And its row.
pub(in crate::recovery) fn stored(row: &CashRow) -> String {
    format!("{} of {} by {}: {}", row.kind, row.amount.normalize(), row.who, row.why)
}

/// V9, second part: each movement is what the log tells of it. Of sums a tampering with two of them says nothing.
pub(super) fn movements(snapshot: &Snapshot) -> Vec<Finding> {
    let rows = snapshot.movements.as_deref().unwrap_or_default();
    let of = |off| match off {
        OffMovement::Gone(moved) => Finding::mismatch("cash_movement", moved.id, "row", NOTHING, told(moved)),
        OffMovement::Untold(row) => Finding::mismatch("cash_movement", row.id, "row", stored(row), NOTHING),
        OffMovement::OpeningGone(opened) => {
            Finding::mismatch("cash_movement", "(opening)", "row", NOTHING, format!("opening of {opened}"))
        }
        OffMovement::Opening(row, opened) => {
            Finding::mismatch("cash_movement", row.id, "amount", row.amount.normalize(), opened)
        }
        OffMovement::Other(row, moved) => {
            let field = match (&*row.kind, Rupees(row.amount)) {
                (kind, _) if kind != moved.kind.as_str() => "kind",
                (_, amount) if amount != moved.amount => "amount",
                _ => "why",
            };
            Finding::mismatch("cash_movement", row.id, field, stored(row), told(moved))
        }
    };
    match snapshot.movements {
        Some(_) => off_movements(rows, &snapshot.recorded).into_iter().map(of).collect(),
        None => Vec::new(),
    }
}
