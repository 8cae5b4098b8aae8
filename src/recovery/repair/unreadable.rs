//! Cells that could not be read: what was put back for the others to be looked at, and what an operator can do about the rest.

use super::{Plan, Proposal};
use crate::ledger::cells::UnreadableCell;
use crate::ledger::reread::{Readable, Restored};

/// M0.
impl Plan {
    /// What would be set of state that stays unreadable, and what can be done about that.
    pub fn of_unreadable(readable: &Readable) -> Self {
        let mut unsolved: Vec<String> = readable.left.iter().map(told).collect();
        unsolved.extend(readable.forbidden.iter().map(forbidden));
        // A column of another type is told once, not for each of its rows.
        unsolved.dedup();
        Self { unsolved, ..Self::default() }.after(&readable.restored)
    }

    /// This plan is for state of which these cells were put back: they are set with it.
    pub fn after(mut self, restored: &[Restored]) -> Self {
        let mut first = Vec::new();
        for Restored { table, row, column, before, after, because } in restored {
            let same = |p: &&mut Proposal| (p.table, &p.row, p.field) == (table, row, *column);
            // The others know it better than its witness: a sum that is made once more.
            if let Some(proposal) = self.proposals.iter_mut().find(same) {
                proposal.before.clone_from(before);
                continue;
            }
            first.push(Proposal {
                table,
                row: row.clone(),
                field: column,
                before: before.clone(),
                after: after.clone(),
                because: (*because).to_owned(),
            });
        }
        first.append(&mut self.proposals);
        self.proposals = first;
        self
    }
}

/// A cell that is known, and only another role may set.
fn forbidden(UnreadableCell { table, row, column, why, .. }: &UnreadableCell) -> String {
    format!(
        "{table} {row}: column {column} cannot be read ({why}); what it was is known, but setting it needs the table's owner: repair \
         with a [postgres] url of the role that owns {table} (\\dt {table} shows it)"
    )
}

/// A cell that nobody else knows, and what an operator can do.
fn told(cell: &UnreadableCell) -> String {
    let UnreadableCell { table, row, column, why, is_of_another_type } = cell;
    if *is_of_another_type {
        return format!(
            "{table}: column {column} is of another type than this version writes ({why}): give it back its type (\\d {table} in \
             an older backup shows it) with ALTER TABLE {table} ALTER COLUMN {column} TYPE …"
        );
    }
    let advice = match (*table, *column) {
        ("order_intent", "plan") => {
            "payload and decision of its signal show what it was to be: write the plan as other entries have it, or restore the row \
             from a backup"
        }
        ("order_intent", _) => {
            "the broker's order book shows the order by its broker_order_id: set what it shows"
        }
        ("fill", _) => "the broker's trade book and contract note show it: set what they show",
        ("position", "current_stop" | "highest_close") => {
            "the audit log does not tell it, or is not whole: set a stop that you want, not below initial_stop"
        }
        ("position", _) => "its entry's order and the broker's contract note show it: set what they show",
        ("cash_movement", _) => "the account's statement shows it: set what it shows",
        ("trading_day", _) => {
            "the audit log does not tell it, or is not whole: delete the day's row; the leader opens the day anew, and its limits count \
             from then on"
        }
        ("limit_latch", _) => {
            "set it by hand, a time of its day where that is what is lost: without the row entries go on that day"
        }
        _ => "restore the row from a backup",
    };
    format!("{table} {row}: column {column} cannot be read ({why}), and nothing else tells it: {advice}")
}
