//! What the audit log says of cells that cannot be read. It is walked once for all of them: on its way it tells how positions,
//! orders, figures, movements and the account's day stand, and what it tells of fills is read in one go.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;
use serde_json::{Value, json};
use uuid::Uuid;

use super::LedgerError;
use super::account_day::ToldDay;
use super::audit::{self, AuditReport};
use super::cells::UnreadableCell;
use crate::domain::ids::{IntentId, PositionId};

/// What it says of a row of the account's day, by the row's name.
fn day(told: &ToldDay, row: &str) -> Value {
    let Some(day) = told.day.map(|day| day.to_string()) else { return Value::Null };
    match row.strip_prefix(&day).map(str::trim_start) {
        None => Value::Null,
        Some("") => json!(told.opening),
        Some(code) => json!(told.latches.get(code)),
    }
}

/// The log, as far as it was read.
pub(super) struct Log {
    /// The walk along it.
    pub chain: AuditReport,
    /// By their orders, in the log's order.
    fills: HashMap<String, Vec<Value>>,
}

impl Log {
    /// Walks it.
    pub async fn walk(tx: &Transaction<'_>) -> Result<Self, LedgerError> {
        Ok(Self { chain: audit::verify(tx).await?, fills: HashMap::new() })
    }

    /// Reads what it tells of the fills among `cells`.
    pub async fn read_fills(
        &mut self,
        tx: &Transaction<'_>,
        cells: &[UnreadableCell],
    ) -> Result<(), LedgerError> {
        let fills = cells.iter().filter(|cell| cell.table == "fill").map(|cell| &cell.row);
        let orders: Vec<String> = fills.filter(|order| !self.fills.contains_key(*order)).cloned().collect();
        // Nothing is taken from a log that is not whole, which may not even be read.
        if orders.is_empty() || !self.chain.ok {
            return Ok(());
        }
        let sql = r#"SELECT x ->> 'intent', x FROM audit_log a CROSS JOIN LATERAL jsonb_array_elements(a.payload::jsonb -> 'fills') x
            WHERE a.kind = 'change' AND a.payload LIKE '%"fills":[{%' AND x ->> 'intent' = ANY ($1) ORDER BY a.seq"#;
        let told = tx.query(sql, &[&orders]).await;
        for row in told.map_err(LedgerError::during("read what the audit log tells of fills"))? {
            self.fills.entry(row.get(0)).or_default().push(row.get(1));
        }
        for order in orders {
            self.fills.entry(order).or_default();
        }
        Ok(())
    }

    /// What it says of a row; of cash movements, which a sum does not name, all by their ids.
    pub fn of(&self, table: &str, row: &str) -> Value {
        let recorded = &self.chain.recorded;
        let id = Uuid::parse_str(row).unwrap_or_default();
        match table {
            "position" => json!(recorded.positions.get(&PositionId(id))),
            "order_intent" => json!(recorded.orders.get(&IntentId(id))),
            "portfolio_state" => json!(recorded.figures),
            "fill" => json!(self.fills.get(row).map_or(&[][..], Vec::as_slice)),
            "cash_movement" => {
                let movements = recorded.movements.iter().flat_map(BTreeMap::values);
                json!(movements.map(|moved| (moved.id.to_string(), moved.amount)).collect::<BTreeMap<_, _>>())
            }
            "trading_day" | "limit_latch" => day(&recorded.day, row),
            _ => Value::Null,
        }
    }
}
