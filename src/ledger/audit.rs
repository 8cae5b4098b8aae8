//! The audit chain: what was decided, in the transaction that decided it.
//!
//! State changes and operators' words append to it here; switches and commands about leadership are appended by triggers
//! (V16), so that no door is forgotten. [`verify_audit`](Ledger::verify_audit) walks all of it, a recovery what came after
//! the last seal ([`super::seals`]).

use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::pin::pin;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::change::Change;
use super::planned::Planned;
use super::recorded::{self, Recorded};
use super::{Ledger, LedgerError, cash};

/// Between the fields that a hash covers; no field but the last can hold it.
const SEPARATOR: &str = "\u{1f}";

pub(super) const APPEND: &str = "SELECT audit_append($1, $2, $3)";

/// Appends one row to the chain; `actor` is a member, or an operator's name.
pub(super) async fn append(
    tx: &deadpool_postgres::Transaction<'_>,
    kind: &str,
    actor: &str,
    payload: &Value,
) -> Result<(), LedgerError> {
    tx.run(APPEND, &[&kind, &actor, &payload.to_string()])
        .await
        .map_err(LedgerError::during("append to the audit log"))?;
    Ok(())
}

/// What of a state change is for the audit: outcomes, fills, positions that came and went, signals' ends, money that moved.
pub(super) fn of_change(change: &Change, epoch: i64) -> Option<Value> {
    let intents: Vec<Value> = change
        .intents
        .iter()
        .map(|u| json!({ "id": u.id, "state": u.state, "filled": u.filled, "order": u.broker_order_id, "reason": u.reason }))
        .collect();
    let fills: Vec<Value> = change
        .fills
        .iter()
        .map(|f| json!({ "intent": f.intent, "cumulative": f.cumulative, "quantity": f.quantity, "price": f.price, "charges": f.charges }))
        .collect();
    let positions: Vec<Value> =
        change.opened.iter().chain(&change.positions).map(recorded::position).collect();
    let figures = change.portfolio.as_ref().map(recorded::figures);
    let signals: Vec<Value> = change
        .signals
        .iter()
        .map(|s| json!({ "id": s.id, "status": s.status.as_str(), "reasons": s.reasons }))
        .collect();
    let nothing = [&intents, &fills, &positions, &signals].iter().all(|told| told.is_empty());
    (!nothing || figures.is_some()).then(|| {
        let mut told = json!({
            "epoch": epoch, "intents": intents, "fills": fills, "positions": positions, "figures": figures,
            "signals": signals,
        });
        if let Some(moved) = &change.cash {
            told["cash"] = cash::told(moved);
        }
        told
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
    /// The last row that was sealed; 0 for none.
    pub sealed: i64,
    /// What does not fit, the first of each kind.
    pub faults: Vec<String>,
    /// What the chain says of stored state.
    #[serde(skip)]
    pub recorded: Recorded,
}

/// A link of the chain as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub seq: i64,
    pub at_us: i64,
    pub kind: String,
    pub actor: String,
    pub payload: String,
    pub hash: Vec<u8>,
}

/// The columns of a [`Link`], in its order.
pub(super) const LINK: &str = "seq, at_us, kind, actor, payload, hash";

/// A walk along the chain, link by link.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// The last link's number and hash, as stored.
    pub seq: i64,
    pub hash: Vec<u8>,
    /// What did not fit.
    pub faults: Vec<String>,
    /// What the links say of stored state.
    pub recorded: Recorded,
}

impl Walk {
    /// From the chain's beginning.
    pub fn from_the_first() -> Self {
        let recorded = Recorded::from_the_first();
        Self { recorded, ..Self::after(0, Sha256::digest(b"baton").to_vec()) }
    }

    /// From behind a link that is known.
    pub fn after(seq: i64, hash: Vec<u8>) -> Self {
        Self { seq, hash, faults: Vec::new(), recorded: Recorded::default() }
    }

    /// Looks at the next link.
    pub fn step(&mut self, link: &Link) {
        let Link { seq: found, at_us, kind, actor, payload, hash: stored } = link;
        if *found != self.seq + 1 {
            self.faults.push(format!("rows {} to {} are missing", self.seq + 1, found - 1));
        }
        let text = [&found.to_string(), &at_us.to_string(), kind, actor, payload]
            .map(String::as_str)
            .join(SEPARATOR);
        let expected = Sha256::new().chain_update(&self.hash).chain_update(text.as_bytes()).finalize();
        if stored.as_slice() != expected.as_slice() {
            self.faults.push(format!(
                "row {found} ({kind} by {actor}) is not what was written, or the row before it is not"
            ));
        }
        self.recorded.take(kind, actor, payload);
        // On from what is stored, so that one changed row is one fault.
        (self.seq, self.hash) = (*found, stored.clone());
    }

    /// Looks whether the chain ends where its head says.
    pub fn end(&mut self, head_seq: i64, head_hash: &[u8]) {
        if (head_seq, head_hash) != (self.seq, self.hash.as_slice()) {
            self.faults.push(format!("the chain ends at row {}, its head says {head_seq}", self.seq));
        }
    }
}

/// Hexadecimal digits, as heads are shown.
pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A row of [`LINK`]'s columns.
pub(super) fn link(row: &Row) -> Result<Link, tokio_postgres::Error> {
    Ok(Link {
        seq: row.try_get(0)?,
        at_us: row.try_get(1)?,
        kind: row.try_get(2)?,
        actor: row.try_get(3)?,
        payload: row.try_get(4)?,
        hash: row.try_get(5)?,
    })
}

/// Walks what comes behind `walk`, to the chain's head.
pub(super) async fn walk(tx: &Transaction<'_>, mut walk: Walk) -> Result<Walk, LedgerError> {
    let failed = LedgerError::during("walk the audit chain");
    let rows = format!("SELECT {LINK} FROM audit_log WHERE seq > $1 ORDER BY seq");
    let behind: [&(dyn ToSql + Sync); 1] = [&walk.seq];
    let rows = tx.query_raw(rows.as_str(), behind).await.map_err(&failed)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(&failed)? {
        walk.step(&link(&row).map_err(&failed)?);
    }
    let head = tx.query_one("SELECT seq, hash FROM audit_head", &[]).await.map_err(&failed)?;
    walk.end(head.get(0), head.get(1));
    Ok(walk)
}

/// Walks the whole chain and looks at every seal.
pub(super) async fn verify(tx: &Transaction<'_>) -> Result<AuditReport, LedgerError> {
    let Walk { seq: rows, hash, mut faults, recorded } = walk(tx, Walk::from_the_first()).await?;
    let seals = "SELECT (SELECT coalesce(max(seq), 0) FROM audit_seal),
        (SELECT array_agg(s.seq ORDER BY s.seq) FROM audit_seal s LEFT JOIN audit_log a USING (seq)
          WHERE a.hash IS DISTINCT FROM s.hash)";
    let seals = tx.query_one(seals, &[]).await.map_err(LedgerError::during("look at the seals"))?;
    let broken: Option<Vec<i64>> = seals.get(1);
    faults.extend(broken.unwrap_or_default().iter().map(|seq| format!("row {seq} is not what was sealed")));
    Ok(AuditReport { ok: faults.is_empty(), rows, head: hex(&hash), sealed: seals.get(0), faults, recorded })
}

impl Ledger {
    /// Walks the whole chain.
    ///
    /// # Errors
    /// Any database error.
    pub async fn verify_audit(&self) -> Result<AuditReport, LedgerError> {
        let failed = LedgerError::during("walk the audit chain");
        let mut client = self.client().await?;
        let begin =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let tx = begin.start().await.map_err(&failed)?;
        Self::unhurried(&tx).await?;
        let report = verify(&tx).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(report)
    }
}
