//! What a leader reads and writes beyond the snapshot, as soon as it leads: requests about orders, and the account's day. A
//! table of these that cannot be read would stop a takeover half-way, so a recovery looks at them, too.

use deadpool_postgres::Transaction;
use rust_decimal::Decimal;

use super::{Faults, each};
use crate::ledger::LedgerError;
use crate::ledger::cells::Cells;

/// Sees whether they can be read.
pub(super) async fn beyond(tx: &Transaction<'_>, faults: &Faults) -> Result<(), LedgerError> {
    let sql = "SELECT (SELECT opening_equity FROM trading_day ORDER BY day DESC LIMIT 1) AS opening_equity,
        EXISTS (SELECT FROM limit_latch) OR EXISTS (SELECT FROM order_cancel) OR EXISTS (SELECT FROM order_modify) AS used";
    each(tx, sql, "look at requests and at the account's day", faults, |row| {
        let mut cells = Cells::new(row, "trading_day", "(newest)");
        let _: Option<Decimal> = cells.get("opening_equity");
        cells.finish(())
    })
    .await
    .map(drop)
}
