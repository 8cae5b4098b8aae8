//! Damaged state made readable: each cell that cannot be read goes back to what a witness says it was
//! ([`super::witness`]), in a transaction that whoever asked commits once the whole is proven, or rolls back.
//!
//! What nobody else knows stays unreadable, and is told.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use serde_json::Value;
use tokio_postgres::IsolationLevel;

use super::cells::UnreadableCell;
use super::snapshot::{self, Depth, NOTHING, Snapshot};
use super::witness::{self, Witness};
use super::{Ledger, LedgerError, audit};

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
#[derive(Debug)]
pub struct Readable {
    /// All of it; none while a cell is left.
    pub snapshot: Option<Snapshot>,
    /// What was put back for it.
    pub restored: Vec<Restored>,
    /// What nobody else knows.
    pub left: Vec<UnreadableCell>,
}

impl Readable {
    fn whole(snapshot: Snapshot) -> Self {
        Self { snapshot: Some(snapshot), restored: Vec::new(), left: Vec::new() }
    }
}

impl Ledger {
    /// Reads all state, damaged state as it would be with its unreadable cells put back; writes nothing.
    ///
    /// # Errors
    /// Any database error: a table that is missing has no other witness.
    pub async fn readable(&self) -> Result<Readable, LedgerError> {
        match self.snapshot(Depth::Whole, &Arc::default()).await {
            Ok(snapshot) => return Ok(Readable::whole(snapshot)),
            Err(LedgerError::Unreadable(_)) => {}
            Err(error) => return Err(error),
        }
        let mut client = self.client().await?;
        let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let tx = begin.start().await.map_err(LedgerError::during("begin to read damaged state"))?;
        Self::unhurried(&tx).await?;
        let readable = readable(&tx).await;
        tx.rollback().await.map_err(LedgerError::during("end the reading of damaged state"))?;
        readable
    }
}

/// Puts back what can be, and reads it.
pub(super) async fn readable(tx: &Transaction<'_>) -> Result<Readable, LedgerError> {
    let (mut restored, mut left) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        match snapshot::read(tx, Depth::Whole, &Arc::default()).await {
            Ok(snapshot) => return Ok(Readable { restored, ..Readable::whole(snapshot) }),
            Err(LedgerError::Unreadable(cells)) => {
                let before = restored.len();
                left = restore(tx, cells, &mut restored).await?;
                if restored.len() == before {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Readable { snapshot: None, restored, left })
}

/// What others are held against comes first.
const TABLES: [&str; 6] =
    ["order_intent", "fill", "cash_movement", "position", "portfolio_state", "pyramiding_state"];

async fn restore(
    tx: &Transaction<'_>,
    mut cells: Vec<UnreadableCell>,
    restored: &mut Vec<Restored>,
) -> Result<Vec<UnreadableCell>, LedgerError> {
    cells.sort_by_key(|cell| TABLES.iter().position(|table| *table == cell.table));
    let is_audit_whole = audit::verify(tx).await?.ok;
    let mut left: Vec<UnreadableCell> = Vec::new();
    for cell in cells {
        let same = |other: &UnreadableCell| {
            (other.table, &other.row, other.column) == (cell.table, &cell.row, cell.column)
        };
        let told =
            restored.iter().any(|r| (r.table, &r.row, r.column) == (cell.table, &cell.row, cell.column));
        if told || left.iter().any(same) {
            continue;
        }
        let witness = witness::of(cell.table, cell.column);
        let witness =
            witness.filter(|witness| !cell.is_of_another_type() && (is_audit_whole || !witness.is_audit));
        match witness {
            Some(witness) => put_all(tx, &cell, witness, restored, &mut left).await?,
            None => left.push(cell),
        }
    }
    Ok(left)
}

/// Puts the cell back in each row that is meant: a sum names none, an order's fills are several.
async fn put_all(
    tx: &Transaction<'_>,
    cell: &UnreadableCell,
    witness: Witness,
    restored: &mut Vec<Restored>,
    left: &mut Vec<UnreadableCell>,
) -> Result<(), LedgerError> {
    let UnreadableCell { table, row, column, .. } = cell;
    let key = match *table {
        "pyramiding_state" => "instrument",
        "fill" => "intent_id",
        _ => "id",
    };
    let is_one = row != "(all)" && *table != "fill";
    // Of the cells of a sum only a number can be what is not readable.
    let which = if is_one { "true" } else { &format!("coalesce(t.{column}::text, 'NaN') = 'NaN'") };
    let sql = format!(
        "SELECT t.ctid::text, t.{key}::text, t.{column}::text, nullif(({}), '\"NaN\"') FROM {table} t
         WHERE ($1 = '(all)' OR t.{key}::text = $1) AND {which} ORDER BY 2, 1",
        witness.value
    );
    let during = LedgerError::during("ask a witness of a cell that cannot be read");
    for found in tx.query(&sql, &[row]).await.map_err(&during)? {
        let (place, row): (String, String) = (found.get(0), found.get(1));
        let (before, value): (Option<String>, Option<Value>) = (found.get(2), found.get(3));
        let is_put = match &value {
            Some(value) => put(tx, table, column, &place, value).await?,
            None => false,
        };
        if !is_put {
            left.push(UnreadableCell { row, ..cell.clone() });
            continue;
        }
        let after = match value.unwrap_or_default() {
            Value::Null => NOTHING.to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        let before = before.unwrap_or_else(|| NOTHING.to_owned());
        restored.push(Restored { table, row, column, before, after, because: witness.because });
    }
    Ok(())
}

/// False when the table does not take the value. A row is taken out and put in again by one statement, as in
/// [`super::mend`].
async fn put(
    tx: &Transaction<'_>,
    table: &str,
    column: &str,
    place: &str,
    value: &Value,
) -> Result<bool, LedgerError> {
    let during = LedgerError::during("put back a cell that cannot be read");
    // Its rows are only ever added; its owner may.
    let (before, after) = match table {
        "cash_movement" => (
            "ALTER TABLE cash_movement DISABLE TRIGGER cash_movement_rows",
            "ALTER TABLE cash_movement ENABLE TRIGGER cash_movement_rows",
        ),
        _ => ("", ""),
    };
    let sql = format!(
        "WITH gone AS (DELETE FROM {table} t WHERE t.ctid = $1::text::tid RETURNING t AS held)
        INSERT INTO {table} SELECT put.* FROM gone CROSS JOIN LATERAL
            jsonb_populate_record(held, jsonb_build_object('{column}', $2::jsonb)) AS put"
    );
    tx.batch_execute(&format!("SAVEPOINT cell; {before}")).await.map_err(&during)?;
    let set = tx.execute(&sql, &[&place, value]).await;
    let end = match &set {
        Ok(_) => format!("{after}; RELEASE SAVEPOINT cell"),
        Err(_) => "ROLLBACK TO SAVEPOINT cell".to_owned(),
    };
    if let Err(error) = &set {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            table,
            column,
            "the table does not take what a witness says"
        );
    }
    tx.batch_execute(&end).await.map_err(&during)?;
    Ok(set.is_ok())
}
