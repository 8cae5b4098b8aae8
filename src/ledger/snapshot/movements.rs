//! Deposits and withdrawals one by one, to be held against the audit log, which tells each of them.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{Depth, Faults, each};
use crate::ledger::LedgerError;
use crate::ledger::cash::CashRow;
use crate::ledger::cells::Cells;

/// All of them, the oldest first; none of a takeover, which has time for their sum alone.
pub(super) async fn movements(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<Option<Vec<CashRow>>, LedgerError> {
    if depth == Depth::Open {
        return Ok(None);
    }
    let sql = "SELECT id, kind, amount, who, why, at FROM cash_movement ORDER BY at, id";
    let rows = each(tx, sql, "fetch deposits and withdrawals", faults, |row| {
        let mut cells = Cells::keyed(row, "cash_movement");
        let moved = CashRow {
            id: cells.get::<Uuid>("id"),
            kind: cells.get("kind"),
            amount: cells.get("amount"),
            who: cells.get("who"),
            why: cells.get("why"),
            at: cells.get::<DateTime<Utc>>("at"),
        };
        cells.finish(moved)
    })
    .await?;
    Ok(Some(rows))
}
