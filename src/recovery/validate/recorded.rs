//! The rows against the audit log, which is the only other trace of some of their columns.

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
    }
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
