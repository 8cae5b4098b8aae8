//! An operator's word of how an order ended, that nothing else tells.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::repair::{Operator, have_leader_reread, locked};
use super::snapshot::Depth;
use super::{Ledger, LedgerError, audit};
use crate::domain::ids::IntentId;

impl Ledger {
    /// Ends an order by the operator's word. One in doubt was `abandoned`, `rejected`, `cancelled` or `not_sent`; or its
    /// order at the broker is named (`acknowledged`), whose fills the books then tell. One that is known to have been at
    /// the broker can only have been `cancelled` (which an order that expires is, too) or `rejected`, and keeps the fills
    /// that are known. False for no such order.
    ///
    /// # Errors
    /// [`LedgerError::Unresolvable`] when its end is known already, or cannot be this one; any database error.
    pub async fn resolve_intent(
        &self,
        intent: Uuid,
        state: &str,
        broker_order_id: Option<&str>,
        operator: Operator<'_>,
    ) -> Result<bool, LedgerError> {
        let during = LedgerError::during("resolve an order in doubt");
        let mut client = self.client().await?;
        let tx = locked(&mut client, Depth::Open).await?;
        let row = tx
            .query_opt(
                "SELECT state, class, signal_id FROM order_intent WHERE id = $1 FOR UPDATE",
                &[&intent],
            )
            .await
            .map_err(&during)?;
        let Some(row) = row else { return Ok(false) };
        let (found, class): (String, String) = (row.get(0), row.get(1));
        let takes: &[&str] = match found.as_str() {
            "in_doubt" => &["abandoned", "acknowledged", "cancelled", "not_sent", "rejected"],
            "acknowledged" | "partially_filled" => &["cancelled", "rejected"],
            _ => &[],
        };
        if !takes.contains(&state) {
            return Err(LedgerError::Unresolvable { intent, found, wanted: state.to_owned() });
        }
        let reason = format!("{} by {}'s word: {}", state, operator.name, operator.reason);
        tx.execute(
            "UPDATE order_intent SET state = $2, reason = $3, broker_order_id = coalesce($4, broker_order_id)
             WHERE id = $1",
            &[&intent, &state, &reason, &broker_order_id],
        )
        .await
        .map_err(&during)?;
        let signal: Option<Uuid> = row.get(2);
        if let (Some(signal), true) = (signal, class == "entry" && state != "acknowledged") {
            end_entry_signal(&tx, signal, state, &reason).await?;
        }
        let told = serde_json::json!({
            "intent": intent, "from": found, "to": state, "order": broker_order_id, "evidence": operator.reason,
        });
        audit::append(&tx, "resolve", operator.name, &told).await?;
        have_leader_reread(&tx).await?;
        tx.commit().await.map_err(&during)?;
        Ok(true)
    }

    /// Says whether an intent is there.
    ///
    /// # Errors
    /// Any database error.
    pub async fn knows_intent(&self, intent: IntentId) -> Result<bool, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one("SELECT EXISTS (SELECT 1 FROM order_intent WHERE id = $1)", &[&intent.0])
            .await
            .map_err(LedgerError::during("look for an order"))?;
        Ok(row.get(0))
    }
}

/// An entry's signal ends with the last of its orders.
async fn end_entry_signal(
    tx: &Transaction<'_>,
    signal: Uuid,
    state: &str,
    reason: &str,
) -> Result<(), LedgerError> {
    // A signal's orders are cancelled, the signal itself is rejected: as when the books tell it.
    let state = if state == "cancelled" { "rejected" } else { state };
    let reasons = serde_json::json!([{ "code": state.to_uppercase(), "sentence": reason }]);
    tx.execute(
        "UPDATE signal SET finished_at = now(), reasons = $3,
            status = CASE WHEN EXISTS (SELECT 1 FROM order_intent WHERE signal_id = $1 AND filled_quantity > 0)
                THEN 'executed' ELSE $2 END
         WHERE id = $1 AND status = 'working' AND NOT EXISTS (SELECT 1 FROM order_intent WHERE signal_id = $1
            AND state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt'))",
        &[&signal, &state, &reasons],
    )
    .await
    .map_err(LedgerError::during("end a signal"))?;
    Ok(())
}
