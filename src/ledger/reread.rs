//! Damaged state made readable: each cell that cannot be read goes back to what a witness says it was
//! (`witness.rs`), in a transaction that whoever asked commits once the whole is proven, or rolls back.
//!
//! What nobody else knows stays unreadable, and is told.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use serde_json::Value;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;

use super::cells::UnreadableCell;
use super::snapshot::{self, Depth, NOTHING, Snapshot};
use super::told::Log;
use super::witness::{self, Witness};
use super::writes::one_row;
use super::{Ledger, LedgerError};

/// From the first cell that is put back on, others wait for its row: neither a leader's commit nor a halt does for long.
const HOLD: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'";

/// One look may find what another hid: a row is read with its neighbours.
const ROUNDS: usize = 4;

/// A cell that could not be read, and was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
    /// The column.
    pub column: &'static str,
    /// What is stored, as PostgreSQL spells it.
    pub before: String,
    /// What it was.
    pub after: String,
    /// Who says so.
    pub because: &'static str,
}

/// Damaged state, as far as witnesses make it readable.
#[derive(Debug, Default)]
pub struct Readable {
    /// All of it; none while a cell is left.
    pub snapshot: Option<Snapshot>,
    /// What was put back for it.
    pub restored: Vec<Restored>,
    /// What nobody else knows.
    pub left: Vec<UnreadableCell>,
    /// What is known, and this role of the database may not set.
    pub forbidden: Vec<UnreadableCell>,
}

impl Ledger {
    /// Reads all state, damaged state as it would be with its unreadable cells put back; writes nothing.
    ///
    /// # Errors
    /// Any database error: a table that is missing has no other witness.
    pub async fn readable(&self) -> Result<Readable, LedgerError> {
        match self.snapshot(Depth::Whole, &Arc::default()).await {
            Ok(snapshot) => return Ok(Readable { snapshot: Some(snapshot), ..Readable::default() }),
            Err(LedgerError::Unreadable(_)) => {}
            Err(error) => return Err(error),
        }
        match self.look().await {
            Err(error) if error.is_overtaken() => self.look().await,
            readable => readable,
        }
    }

    /// Puts cells back to see what becomes of the whole, and takes it back.
    async fn look(&self) -> Result<Readable, LedgerError> {
        let mut client = self.client().await?;
        let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let tx = begin.start().await.map_err(LedgerError::during("begin to read damaged state"))?;
        Self::unhurried(&tx).await?;
        let readable = readable(&tx, Some(HOLD)).await;
        let ended = tx.rollback().await.map_err(LedgerError::during("end the reading of damaged state"));
        let readable = readable?;
        ended.map(|()| readable)
    }
}

/// Puts back what can be, and reads it; `hold` bounds how long, from the first cell on.
pub(super) async fn readable(tx: &Transaction<'_>, hold: Option<&str>) -> Result<Readable, LedgerError> {
    // Once, before anything is held: no cell that is put back changes it.
    let mut log = Log::walk(tx).await?;
    let mut readable = Readable::default();
    for _ in 0..ROUNDS {
        match snapshot::read_behind(tx, &log.chain).await {
            Ok(snapshot) => {
                let Readable { restored, .. } = readable;
                return Ok(Readable { snapshot: Some(snapshot), restored, ..Readable::default() });
            }
            Err(LedgerError::Unreadable(cells)) => {
                let before = readable.restored.len();
                log.read_fills(tx, &cells).await?;
                if let Some(hold) = hold {
                    tx.batch_execute(hold)
                        .await
                        .map_err(LedgerError::during("bound how long rows are held"))?;
                }
                restore(tx, cells, &log, &mut readable).await?;
                if readable.restored.len() == before {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(readable)
}

/// What others are held against comes first.
const TABLES: [&str; 8] = [
    "order_intent",
    "fill",
    "cash_movement",
    "position",
    "portfolio_state",
    "pyramiding_state",
    "trading_day",
    "limit_latch",
];

async fn restore(
    tx: &Transaction<'_>,
    mut cells: Vec<UnreadableCell>,
    log: &Log,
    readable: &mut Readable,
) -> Result<(), LedgerError> {
    cells.sort_by_key(|cell| TABLES.iter().position(|table| *table == cell.table));
    readable.left.clear();
    readable.forbidden.clear();
    for cell in cells {
        let same = |other: &UnreadableCell| {
            (other.table, &other.row, other.column) == (cell.table, &cell.row, cell.column)
        };
        let Readable { restored, left, forbidden, .. } = &*readable;
        let told =
            restored.iter().any(|r| (r.table, &r.row, r.column) == (cell.table, &cell.row, cell.column));
        if told || left.iter().chain(forbidden).any(same) {
            continue;
        }
        let witness = witness::of(cell.table, cell.column);
        let witness =
            witness.filter(|witness| !cell.is_of_another_type && (log.chain.ok || !witness.is_audit));
        match witness {
            Some(witness) => put_all(tx, &cell, witness, log, readable).await?,
            None => readable.left.push(cell),
        }
    }
    Ok(())
}

/// Puts the cell back in each row that is meant: a sum names none, an order's fills are several.
async fn put_all(
    tx: &Transaction<'_>,
    cell: &UnreadableCell,
    witness: Witness,
    log: &Log,
    readable: &mut Readable,
) -> Result<(), LedgerError> {
    let UnreadableCell { table, row, column, .. } = cell;
    let key = match *table {
        "pyramiding_state" => "t.instrument::text",
        "fill" => "t.intent_id::text",
        "trading_day" => "t.day::text",
        "limit_latch" => "t.day || ' ' || t.code",
        _ => "t.id::text",
    };
    let is_one = row != "(all)" && *table != "fill";
    // Of the cells of a sum only a number can be what is not readable.
    let which = if is_one { "true" } else { &format!("coalesce(t.{column}::text, 'NaN') = 'NaN'") };
    let sql = format!(
        "SELECT t.ctid::text, {key}, t.{column}::text, nullif(({}), '\"NaN\"')
         FROM {table} t CROSS JOIN (SELECT $2::jsonb AS log) AS told
         WHERE ($1 = '(all)' OR {key} = $1) AND {which} ORDER BY 2, 1",
        witness.value
    );
    let during = LedgerError::during("ask a witness of a cell that cannot be read");
    for found in tx.query(&sql, &[row, &log.of(table, row)]).await.map_err(&during)? {
        let (place, row): (String, String) = (found.get(0), found.get(1));
        let (before, value): (Option<String>, Option<Value>) = (found.get(2), found.get(3));
        let cell = UnreadableCell { row, ..cell.clone() };
        let Some(value) = value else {
            readable.left.push(cell);
            continue;
        };
        match put(tx, &cell, &place, &value).await? {
            Put::Refused => readable.left.push(cell),
            Put::Forbidden => readable.forbidden.push(cell),
            Put::Done => {
                let after = match value {
                    Value::Null => NOTHING.to_owned(),
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                let before = before.unwrap_or_else(|| NOTHING.to_owned());
                let (row, because) = (cell.row, witness.because);
                readable.restored.push(Restored { table, row, column, before, after, because });
            }
        }
    }
    Ok(())
}

/// What came of a cell that was to be put back.
enum Put {
    Done,
    /// The table does not take the value.
    Refused,
    /// This role may not set it.
    Forbidden,
}

async fn put(
    tx: &Transaction<'_>,
    cell: &UnreadableCell,
    place: &str,
    value: &Value,
) -> Result<Put, LedgerError> {
    let during = LedgerError::during("put back a cell that cannot be read");
    tx.batch_execute("SAVEPOINT cell").await.map_err(&during)?;
    let error = match exchange(tx, cell, place, value).await {
        Ok(rows) => {
            one_row(rows, || format!("{} {}", cell.table, cell.row))?;
            tx.batch_execute("RELEASE SAVEPOINT cell").await.map_err(&during)?;
            return Ok(Put::Done);
        }
        Err(error) => error,
    };
    let put = match error.code().map_or("", SqlState::code) {
        // Data exceptions and constraints.
        code if code.starts_with("22") || code.starts_with("23") => Put::Refused,
        "42501" => Put::Forbidden,
        // Of anything else the cell is not to blame.
        _ => return Err(during(error)),
    };
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        table = cell.table,
        column = cell.column,
        "what a witness says cannot be put back"
    );
    tx.batch_execute("ROLLBACK TO SAVEPOINT cell").await.map_err(&during)?;
    Ok(put)
}

/// A row is taken out and put in again by one statement, as in [`super::mend`].
async fn exchange(
    tx: &Transaction<'_>,
    cell: &UnreadableCell,
    place: &str,
    value: &Value,
) -> Result<u64, tokio_postgres::Error> {
    let UnreadableCell { table, column, .. } = cell;
    if matches!(*table, "trading_day" | "limit_latch") {
        // A row of the account's day that is put in again would be told to the audit log, while whoever looks writes nothing.
        let sql = format!(
            "UPDATE {table} t SET {column} = (jsonb_populate_record(t, jsonb_build_object('{column}', $2::jsonb))).{column}
             WHERE t.ctid = $1::text::tid"
        );
        return tx.execute(&sql, &[&place, value]).await;
    }
    let sql = format!(
        "WITH gone AS (DELETE FROM {table} t WHERE t.ctid = $1::text::tid RETURNING t AS held)
        INSERT INTO {table} SELECT put.* FROM gone CROSS JOIN LATERAL
            jsonb_populate_record(held, jsonb_build_object('{column}', $2::jsonb)) AS put"
    );
    // Its rows are only ever added; its owner may.
    let is_kept = *table == "cash_movement";
    if is_kept {
        tx.batch_execute("ALTER TABLE cash_movement DISABLE TRIGGER cash_movement_rows").await?;
    }
    let rows = tx.execute(&sql, &[&place, value]).await?;
    if is_kept {
        tx.batch_execute("ALTER TABLE cash_movement ENABLE TRIGGER cash_movement_rows").await?;
    }
    Ok(rows)
}
