//! Rows that a repair puts back, past the guards that keep a running program from going backwards: a stop that was raised
//! by hand comes down again, and a filled quantity that nothing filled.
//!
//! A row is taken out and put in again by one statement, so no trigger of an update sees it, and what refers to it finds it
//! when the statement ends. Under the leadership row's lock, like all of a repair.

use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Transaction;
use serde_json::{Map, Value, json};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::LedgerError;
use super::account_day::{Latched, Opened};
use super::recorded::Moved;
use super::repair::Mending;
use super::snapshot::ChargedFill;
use super::wishes::Wish;
use super::writes::one_row;
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::{Quantity, Rupees};
use crate::domain::position::Position;

/// An operator's wish as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum WishWrite {
    /// It was said.
    Keep(Wish),
    /// Nobody said it.
    Forget(PositionId),
}

/// A deposit or withdrawal as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum CashMend {
    /// It was booked so.
    Put(Moved),
    /// Nobody booked it.
    Remove(Uuid),
}

/// A column of a closed position as it is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClosedMend {
    /// What it realised, in rupees.
    Realised(Rupees),
    /// Why it was closed.
    ExitCause(Option<ExitCause>),
    /// When, in UTC.
    ClosedAt(DateTime<Utc>),
}

/// A row of the account's day as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum DayMend {
    /// The day began with that.
    Open(NaiveDate, Opened),
    /// Nobody opened it.
    Forget(NaiveDate),
    /// A limit was hit.
    Latch(NaiveDate, String, Latched),
    /// It was not, or its latch was lifted.
    Lift(NaiveDate, String),
}

pub(super) async fn write(tx: &Transaction<'_>, mending: &Mending) -> Result<(), LedgerError> {
    for position in &mending.positions {
        put_back(tx, position).await?;
    }
    for position in &mending.made_again {
        make_again(tx, position).await?;
    }
    for (position, column) in &mending.closed {
        set_closed(tx, *position, *column).await?;
    }
    for (position, charges) in &mending.charges {
        set_charges(tx, *position, *charges).await?;
    }
    for fill in &mending.charged {
        set_fills_charges(tx, fill).await?;
    }
    for (intent, filled) in &mending.filled {
        set_filled(tx, *intent, *filled).await?;
    }
    for (intent, columns) in &mending.orders {
        set_order(tx, *intent, columns).await?;
    }
    for wish in &mending.wishes {
        set_wish(tx, wish).await?;
    }
    if !mending.cash.is_empty() {
        set_cash(tx, &mending.cash).await?;
    }
    for day in &mending.days {
        set_day(tx, day).await?;
    }
    Ok(())
}

/// When the last of what a position held was sold.
const SOLD: &str = "(SELECT max(f.recorded_at) FROM fill f JOIN order_intent o ON o.id = f.intent_id
    WHERE o.position_id = $1 AND o.class <> 'entry')";

async fn put_back(tx: &Transaction<'_>, position: &Position) -> Result<(), LedgerError> {
    let sql = format!(
        "WITH gone AS (
            DELETE FROM position p WHERE p.id = $1 AND p.version = $2::bigint - 1 RETURNING p AS held
        )
        INSERT INTO position SELECT put.* FROM gone CROSS JOIN LATERAL jsonb_populate_record(held,
            $3::jsonb || jsonb_build_object('closed_at',
                CASE WHEN $4::text = 'closed' THEN coalesce((held).closed_at, {SOLD}, now()) END)) AS put"
    );
    let (columns, status) = (json!(position), position.status.as_str());
    let rows = tx
        .execute(&sql, &[&position.id.0, &position.version, &columns, &status])
        .await
        .map_err(LedgerError::during("put a position back"))?;
    one_row(rows, || format!("position {}", position.id))
}

async fn make_again(tx: &Transaction<'_>, position: &Position) -> Result<(), LedgerError> {
    let sql = format!(
        r#"INSERT INTO position SELECT put.* FROM jsonb_populate_record(CAST(NULL AS "position"), $2::jsonb ||
            jsonb_build_object('closed_at', CASE WHEN $3::text = 'closed' THEN coalesce({SOLD}, now()) END)) AS put"#
    );
    tx.execute(&sql, &[&position.id.0, &json!(position), &position.status.as_str()])
        .await
        .map_err(LedgerError::during("make a position again"))?;
    Ok(())
}

async fn set_closed(
    tx: &Transaction<'_>,
    position: PositionId,
    column: ClosedMend,
) -> Result<(), LedgerError> {
    let (name, value): (_, Box<dyn ToSql + Sync + Send>) = match column {
        ClosedMend::Realised(realised) => ("realised", Box::new(realised.0)),
        ClosedMend::ExitCause(cause) => ("exit_cause", Box::new(cause.map(ExitCause::as_str))),
        ClosedMend::ClosedAt(at) => ("closed_at", Box::new(at)),
    };
    let sql = format!("UPDATE position SET {name} = $2, version = version + 1 WHERE id = $1");
    let rows = tx
        .execute(&sql, &[&position.0, &*value])
        .await
        .map_err(LedgerError::during("put back what is known of a closed position"))?;
    one_row(rows, || format!("position {position}"))
}

async fn set_charges(tx: &Transaction<'_>, position: PositionId, charges: Rupees) -> Result<(), LedgerError> {
    let sql = "UPDATE position SET charges = $2, version = version + 1 WHERE id = $1";
    let rows = tx
        .execute(sql, &[&position.0, &charges.0])
        .await
        .map_err(LedgerError::during("put back what a position was charged"))?;
    one_row(rows, || format!("position {position}"))
}

async fn set_fills_charges(tx: &Transaction<'_>, fill: &ChargedFill) -> Result<(), LedgerError> {
    let charges = fill.charges.map(|charges| charges.0);
    let rows = tx
        .execute(
            "UPDATE fill SET charges = $3 WHERE intent_id = $1 AND cumulative = $2",
            &[&fill.intent.0, &fill.cumulative.0, &charges],
        )
        .await
        .map_err(LedgerError::during("put back what a fill was charged"))?;
    one_row(rows, || format!("fill of order intent {}", fill.intent))
}

async fn set_filled(tx: &Transaction<'_>, intent: IntentId, filled: Quantity) -> Result<(), LedgerError> {
    set_order(tx, intent, &Map::from_iter([("filled_quantity".to_owned(), json!(filled.0))])).await
}

async fn set_order(
    tx: &Transaction<'_>,
    intent: IntentId,
    columns: &Map<String, Value>,
) -> Result<(), LedgerError> {
    let sql = "WITH gone AS (DELETE FROM order_intent o WHERE o.id = $1 RETURNING o AS held)
        INSERT INTO order_intent SELECT put.* FROM gone CROSS JOIN LATERAL jsonb_populate_record(held, $2::jsonb) AS put";
    let rows = tx
        .execute(sql, &[&intent.0, &json!(columns)])
        .await
        .map_err(LedgerError::during("put an order back"))?;
    one_row(rows, || format!("order intent {intent}"))
}

async fn set_wish(tx: &Transaction<'_>, wish: &WishWrite) -> Result<(), LedgerError> {
    let (position, by, why) = match wish {
        WishWrite::Keep(wish) => (wish.position, Some(&wish.by), Some(&wish.why)),
        WishWrite::Forget(position) => (*position, None, None),
    };
    let rows = tx
        .execute(
            "UPDATE position SET close_by = $2, close_why = $3, close_at = CASE WHEN $2::text IS NOT NULL THEN now() END
             WHERE id = $1",
            &[&position.0, &by, &why],
        )
        .await
        .map_err(LedgerError::during("put back what an operator wants closed"))?;
    one_row(rows, || format!("position {position}"))
}

/// Their rows are only ever added; the table's owner may do what a running program never does. A row that was gone was booked
/// when the audit log told it.
async fn set_cash(tx: &Transaction<'_>, cash: &[CashMend]) -> Result<(), LedgerError> {
    let during = LedgerError::during("put back what was paid in and out");
    let [free, keep] = ["DISABLE", "ENABLE"]
        .map(|able| format!("ALTER TABLE cash_movement {able} TRIGGER cash_movement_rows"));
    tx.batch_execute(&free).await.map_err(&during)?;
    for mend in cash {
        let done = match mend {
            CashMend::Remove(id) => tx.execute("DELETE FROM cash_movement WHERE id = $1", &[id]).await,
            CashMend::Put(moved) => {
                let sql = "WITH told AS (SELECT at_us, payload::jsonb ->> 'epoch' AS epoch FROM audit_log
                        WHERE kind = 'change' AND payload LIKE '%' || $1::uuid || '%' ORDER BY seq LIMIT 1),
                    first AS (SELECT at_us FROM audit_log ORDER BY seq LIMIT 1)
                    INSERT INTO cash_movement (id, kind, amount, who, why, epoch, at)
                    SELECT $1, $2, $3, $4, $5, (SELECT epoch::bigint FROM told), coalesce(to_timestamp(
                        (SELECT at_us / 1000000.0 FROM told)), to_timestamp((SELECT at_us / 1000000.0 FROM first)), now())
                    ON CONFLICT (id) DO UPDATE
                    SET kind = excluded.kind, amount = excluded.amount, who = excluded.who, why = excluded.why";
                let Moved { id, kind, amount, who, why } = moved;
                tx.execute(sql, &[&id.0, &kind.as_str(), &amount.0, who, why]).await
            }
        };
        one_row(done.map_err(&during)?, || "a deposit or withdrawal".to_owned())?;
    }
    tx.batch_execute(&keep).await.map_err(&during)
}

/// The database tells the audit log once more of what is put in, and of what is taken out.
async fn set_day(tx: &Transaction<'_>, mend: &DayMend) -> Result<(), LedgerError> {
    let done = match mend {
        DayMend::Open(day, opened) => {
            let sql = "INSERT INTO trading_day (day, opening_equity, opened_at) VALUES ($1, $2, $3)
                ON CONFLICT (day) DO UPDATE SET opening_equity = excluded.opening_equity, opened_at = excluded.opened_at";
            tx.execute(sql, &[day, &opened.equity.0, &opened.at.and_utc()]).await
        }
        DayMend::Forget(day) => tx.execute("DELETE FROM trading_day WHERE day = $1", &[day]).await,
        DayMend::Latch(day, code, latched) => {
            let sql = "INSERT INTO limit_latch (day, code, sentence, at) VALUES ($1, $2, $3, $4)
                ON CONFLICT (day, code) DO UPDATE SET sentence = excluded.sentence, at = excluded.at";
            tx.execute(sql, &[day, code, &latched.sentence, &latched.at.and_utc()]).await
        }
        DayMend::Lift(day, code) => {
            tx.execute("DELETE FROM limit_latch WHERE (day, code) = ($1, $2)", &[day, code]).await
        }
    };
    one_row(done.map_err(LedgerError::during("put back the account's day"))?, || {
        "the account's day".to_owned()
    })
}
