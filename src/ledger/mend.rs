//! Rows that a repair puts back, past the guards that keep a running program from going backwards: a stop that was raised
//! by hand comes down again, and a filled quantity that nothing filled.
//!
//! A row is taken out and put in again by one statement, so no trigger of an update sees it, and what refers to it finds it
//! when the statement ends. Under the leadership row's lock, like all of a repair.

use deadpool_postgres::Transaction;
use serde_json::json;

use super::LedgerError;
use super::recorded::Moved;
use super::repair::{CashMend, Mending, WishWrite};
use super::snapshot::ChargedFill;
use super::writes::one_row;
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::{Quantity, Rupees};
use crate::domain::position::Position;

pub(super) async fn write(tx: &Transaction<'_>, mending: &Mending) -> Result<(), LedgerError> {
    for position in &mending.positions {
        put_back(tx, position).await?;
    }
    for position in &mending.made_again {
        make_again(tx, position).await?;
    }
    for (position, realised) in &mending.realised {
        set_realised(tx, *position, *realised).await?;
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
    for wish in &mending.wishes {
        set_wish(tx, wish).await?;
    }
    if !mending.cash.is_empty() {
        set_cash(tx, &mending.cash).await?;
    }
    Ok(())
}

async fn put_back(tx: &Transaction<'_>, position: &Position) -> Result<(), LedgerError> {
    let sql = "WITH gone AS (
            DELETE FROM position p WHERE p.id = $1 AND p.version = $2::bigint - 1 RETURNING p AS held
        )
        INSERT INTO position SELECT put.* FROM gone CROSS JOIN LATERAL jsonb_populate_record(held,
            $3::jsonb || jsonb_build_object('closed_at',
                CASE WHEN $4::text = 'closed' THEN coalesce((held).closed_at, now()) END)) AS put";
    let (columns, status) = (json!(position), position.status.as_str());
    let rows = tx
        .execute(sql, &[&position.id.0, &position.version, &columns, &status])
        .await
        .map_err(LedgerError::during("put a position back"))?;
    one_row(rows, || format!("position {}", position.id))
}

async fn make_again(tx: &Transaction<'_>, position: &Position) -> Result<(), LedgerError> {
    let sql = r#"INSERT INTO position SELECT put.* FROM jsonb_populate_record(CAST(NULL AS "position"),
        $1::jsonb || jsonb_build_object('closed_at', CASE WHEN $2::text = 'closed' THEN now() END)) AS put"#;
    tx.execute(sql, &[&json!(position), &position.status.as_str()])
        .await
        .map_err(LedgerError::during("make a position again"))?;
    Ok(())
}

async fn set_realised(
    tx: &Transaction<'_>,
    position: PositionId,
    realised: Rupees,
) -> Result<(), LedgerError> {
    let rows = tx
        .execute(
            "UPDATE position SET realised = $2, version = version + 1 WHERE id = $1",
            &[&position.0, &realised.0],
        )
        .await
        .map_err(LedgerError::during("put back what a position realised"))?;
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
    let sql = "WITH gone AS (DELETE FROM order_intent o WHERE o.id = $1 RETURNING o AS held)
        INSERT INTO order_intent SELECT put.* FROM gone CROSS JOIN LATERAL
            jsonb_populate_record(held, jsonb_build_object('filled_quantity', $2::bigint)) AS put";
    let rows = tx
        .execute(sql, &[&intent.0, &filled.0])
        .await
        .map_err(LedgerError::during("put an order's filled quantity back"))?;
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
