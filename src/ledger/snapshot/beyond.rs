//! What a leader reads and writes beyond the snapshot, as soon as it leads: requests about orders, and the account's day. A
//! table of these that cannot be read would stop a takeover half-way, so a recovery looks at them, too.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use rust_decimal::Decimal;

use super::{Faults, each};
use crate::ledger::LedgerError;
use crate::ledger::cells::Cells;

/// Sees whether they can be read.
pub(super) async fn beyond(tx: &Transaction<'_>, faults: &Faults) -> Result<(), LedgerError> {
    let sql = "SELECT (SELECT opening_equity FROM trading_day ORDER BY day DESC LIMIT 1) AS opening_equity,
            latch.code, latch.sentence, latch.at,
            EXISTS (SELECT FROM order_cancel) OR EXISTS (SELECT FROM order_modify) AS used
        FROM (SELECT) AS one
        LEFT JOIN LATERAL (SELECT code, sentence, at FROM limit_latch ORDER BY day DESC, at DESC LIMIT 1) AS latch ON true";
    each(tx, sql, "look at requests and at the account's day", faults, |row| {
        let mut cells = Cells::new(row, "trading_day", "(newest)");
        let _: Option<Decimal> = cells.get("opening_equity");
        cells.finish(())?;
        let mut cells = Cells::new(row, "limit_latch", "(newest)");
        let _: (Option<&str>, Option<&str>) = (cells.get("code"), cells.get("sentence"));
        let _: Option<DateTime<Utc>> = cells.get("at");
        cells.finish(())
    })
    .await
    .map(drop)
}
