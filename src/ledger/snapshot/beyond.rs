//! What a leader reads and writes beyond the snapshot, as soon as it leads: requests about orders, and the account's day. A
//! table of these that cannot be read would stop a takeover half-way, so a recovery looks at them, too; and it holds the newest day
//! against what the audit log tells of it.

use chrono::{NaiveDate, NaiveDateTime};
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::{Faults, each};
use crate::domain::money::Rupees;
use crate::ledger::LedgerError;
use crate::ledger::account_day::{Latched, Opened, StoredDays};
use crate::ledger::cells::{Cells, UnreadableCell};

/// Of two days, so that a row which was put on another one shows; the account has six limits.
const SQL: &str = "
    SELECT 'opening' AS source, day, NULL AS code, NULL AS sentence, opening_equity, opened_at AT TIME ZONE 'UTC' AS at
        FROM (SELECT day, opening_equity, opened_at FROM trading_day ORDER BY day DESC LIMIT 2) AS openings
    UNION ALL SELECT 'latch', day, code, sentence, NULL, at AT TIME ZONE 'UTC'
        FROM (SELECT day, code, sentence, at FROM limit_latch ORDER BY day DESC, code LIMIT 100) AS latches
    UNION ALL SELECT 'requests', NULL, NULL, NULL, NULL, NULL
        WHERE EXISTS (SELECT FROM order_cancel) OR EXISTS (SELECT FROM order_modify)";

/// Reads the newest days, and sees whether the others can be read.
pub(super) async fn beyond(tx: &Transaction<'_>, faults: &Faults) -> Result<StoredDays, LedgerError> {
    let mut days = StoredDays::default();
    each(tx, SQL, "look at requests and at the account's day", faults, |row| match row.try_get("source") {
        Ok("opening") => {
            let (day, opened) = opening(row)?;
            days.openings.insert(day, opened);
            Ok(())
        }
        Ok("latch") => {
            let (key, latched) = latch(row)?;
            days.latches.insert(key, latched);
            Ok(())
        }
        _ => Ok(()),
    })
    .await?;
    Ok(days)
}

fn opening(row: &Row) -> Result<(NaiveDate, Opened), Vec<UnreadableCell>> {
    let mut cells = Cells::new(row, "trading_day", day(row));
    let opened = Opened { equity: cells.get::<Rupees>("opening_equity"), at: time(&mut cells, "opened_at") };
    let day = cells.get("day");
    cells.finish((day, opened))
}

fn latch(row: &Row) -> Result<((NaiveDate, String), Latched), Vec<UnreadableCell>> {
    let code: String = row.try_get("code").unwrap_or_else(|_| "?".to_owned());
    let mut cells = Cells::new(row, "limit_latch", format!("{} {code}", day(row)));
    let latched = Latched { sentence: cells.get("sentence"), at: time(&mut cells, "at") };
    let key = (cells.get("day"), cells.get("code"));
    cells.finish((key, latched))
}

fn day(row: &Row) -> String {
    row.try_get::<_, NaiveDate>("day").map_or_else(|_| "(newest)".to_owned(), |day| day.to_string())
}

/// Both tables have one, by names of their own.
fn time(cells: &mut Cells<'_>, column: &'static str) -> NaiveDateTime {
    cells.get_as("at", column)
}
