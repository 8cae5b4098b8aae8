//! The audit chain: what was decided, in the transaction that decided it.

use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::pin::pin;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::change::Change;
use super::{Ledger, LedgerError};

/// Between the fields that a hash covers; no field but the last can hold it.
const SEPARATOR: &str = "\u{1f}";

/// Appends one row to the chain; `actor` is a member, or an operator's name.
pub(super) async fn append(
    tx: &Transaction<'_>,
    kind: &str,
    actor: &str,
    payload: &Value,
) -> Result<(), LedgerError> {
    tx.execute("SELECT audit_append($1, $2, $3)", &[&kind, &actor, &payload.to_string()])
        .await
        .map_err(LedgerError::during("append to the audit log"))?;
    Ok(())
}

/// What of a state change is for the audit: outcomes, fills, positions that came and went, signals' ends.
pub(super) fn of_change(change: &Change, epoch: i64) -> Option<Value> {
    let intents: Vec<Value> = change
        .intents
        .iter()
        .map(|u| json!({ "id": u.id, "state": u.state, "filled": u.filled, "order": u.broker_order_id, "reason": u.reason }))
        .collect();
    let fills: Vec<Value> = change
        .fills
        .iter()
        .map(|f| json!({ "intent": f.intent, "cumulative": f.cumulative, "quantity": f.quantity, "price": f.price }))
        .collect();
    let held = change.opened.iter().chain(&change.positions);
    let positions: Vec<Value> = held
        .map(|p| json!({ "id": p.id, "status": p.status, "quantity": p.quantity, "stop": p.current_stop }))
        .collect();
    let signals: Vec<Value> = change
        .signals
        .iter()
        .map(|s| json!({ "id": s.id, "status": s.status.as_str(), "reasons": s.reasons }))
        .collect();
    let nothing = intents.is_empty() && fills.is_empty() && positions.is_empty() && signals.is_empty();
    (!nothing).then(|| {
        json!({ "epoch": epoch, "intents": intents, "fills": fills, "positions": positions, "signals": signals })
    })
}

/// What a walk along the chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Nothing was changed, taken out or put in.
    pub ok: bool,
    /// Rows that were walked.
    pub rows: i64,
    /// The newest row's hash: kept elsewhere, it proves that the whole chain was not written anew.
    pub head: String,
    /// What does not fit, the first of each kind.
    pub faults: Vec<String>,
}

impl Ledger {
    /// Walks the whole chain.
    ///
    /// # Errors
    /// Any database error.
    pub async fn verify_audit(&self) -> Result<AuditReport, LedgerError> {
        let failed = LedgerError::during("walk the audit chain");
        let mut client = self.client().await?;
        let tx = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(&failed)?;
        Self::unhurried(&tx).await?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = tx
            .query_raw("SELECT seq, at_us, kind, actor, payload, hash FROM audit_log ORDER BY seq", none)
            .await
            .map_err(&failed)?;
        let mut rows = pin!(rows);
        let mut hash = Sha256::digest(b"baton").to_vec();
        let (mut seq, mut faults) = (0i64, Vec::new());
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let (found, at_us): (i64, i64) = (row.get(0), row.get(1));
            let (kind, actor, payload): (&str, &str, &str) = (row.get(2), row.get(3), row.get(4));
            let stored: Vec<u8> = row.get(5);
            if found != seq + 1 {
                faults.push(format!("rows {} to {} are missing", seq + 1, found - 1));
            }
            let text = [&found.to_string(), &at_us.to_string(), kind, actor, payload].join(SEPARATOR);
            let expected = Sha256::new().chain_update(&hash).chain_update(text.as_bytes()).finalize();
            if stored != expected.as_slice() {
                faults.push(format!(
                    "row {found} ({kind} by {actor}) is not what was written, or the row before it is not"
                ));
            }
            // On from what is stored, so that one changed row is one fault.
            (seq, hash) = (found, stored);
        }
        let head = tx.query_one("SELECT seq, hash FROM audit_head", &[]).await.map_err(&failed)?;
        if (head.get::<_, i64>(0), head.get::<_, Vec<u8>>(1)) != (seq, hash.clone()) {
            faults.push(format!("the chain ends at row {seq}, its head says {}", head.get::<_, i64>(0)));
        }
        tx.commit().await.map_err(&failed)?;
        let head = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(AuditReport { ok: faults.is_empty(), rows: seq, head, faults })
    }
}
