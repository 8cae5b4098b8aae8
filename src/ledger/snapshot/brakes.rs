//! Switches that their history has on and the row that is obeyed has not.
//!
//! Whoever lifts one writes its history in the same statement, and whoever writes the column alone is written down by a trigger
//! (V16, V26): a brake that is off while the newest row of its history says on was lifted with triggers off, or its history was
//! written anew. One that is on without a history only forbids, and is left alone.

use deadpool_postgres::Transaction;

use super::{Faults, each};
use crate::ledger::LedgerError;
use crate::ledger::cells::Cells;

/// A switch that is looser than its history says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// The column of `leadership`; of an instrument's switch with the instrument's name.
    pub column: String,
    /// What is stored.
    pub stored: String,
    /// What the history's newest row says.
    pub told: String,
}

/// Values as text: a column of another type is told by whoever reads it. Ends are compared of halts alone: a takeover that sets
/// reduce-only where it is on already leaves its end as it is.
const SQL: &str = "WITH newest AS (
        SELECT DISTINCT ON (switch) switch, value, who, until FROM switch_history ORDER BY switch, id DESC
    ), of_instruments AS (
        SELECT DISTINCT ON (instrument, switch) instrument, switch, value, who FROM instrument_switch_history
        ORDER BY instrument, switch, id DESC
    )
    SELECT c.name AS column_name, 'off' AS stored, 'on, set by ' || n.who AS told
    FROM leadership l CROSS JOIN LATERAL (VALUES
        ('halted', l.halted::text), ('halt_all', l.halt_all::text), ('reduce_only', l.reduce_only::text),
        ('paused', l.paused::text)
    ) AS c (name, now_on) JOIN newest n ON n.switch = c.name WHERE n.value AND c.now_on = 'false'
    UNION ALL
    SELECT c.name || '_until', c.ends::text, coalesce(n.until::text, 'nothing') || ', set by ' || n.who
    FROM leadership l CROSS JOIN LATERAL (VALUES
        ('halted', l.halted::text, l.halted_until), ('halt_all', l.halt_all::text, l.halt_all_until)
    ) AS c (name, now_on, ends) JOIN newest n ON n.switch = c.name
    WHERE n.value AND c.now_on = 'true' AND c.ends < coalesce(n.until, 'infinity')
    UNION ALL
    SELECT 'instruments.' || n.instrument || '.' || n.switch, 'off', 'on, set by ' || n.who
    FROM leadership l JOIN of_instruments n ON n.value AND l.instruments -> n.instrument ->> n.switch IS NULL
    ORDER BY 1";

/// Reads them.
pub(super) async fn lifted(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<Lifted>, LedgerError> {
    each(tx, SQL, "compare the switches with their history", faults, |row| {
        let mut cells = Cells::new(row, "leadership", 1);
        let lifted =
            Lifted { column: cells.get("column_name"), stored: cells.get("stored"), told: cells.get("told") };
        cells.finish(lifted)
    })
    .await
}
