//! Cancels: authorised under the same lock as every order (HA.md rule 8), recorded before their first byte leaves.
//!
//! A cancel changes no state of ours: whether the order ended, and what it had filled by then, the books say.

use ha::{Fence, Moment};
use std::time::Duration;
use uuid::Uuid;

use super::{Ledger, LedgerError};
use crate::domain::ids::IntentId;

const JOURNAL: &str = "
WITH l AS (
    SELECT 1 FROM leadership WHERE epoch = $1 AND holder_incarnation = $3 FOR SHARE
), i AS (
    INSERT INTO order_cancel (id, intent_id, epoch, incarnation, order_id)
    SELECT $2, o.id, $1, $3, o.broker_order_id FROM order_intent o, l
    WHERE o.id = $4 AND o.broker_order_id IS NOT NULL AND o.state IN ('acknowledged', 'partially_filled')
    RETURNING order_id
)
SELECT (SELECT order_id FROM i) FROM l";

/// Proof that a cancel is recorded under an epoch.
#[derive(Debug)]
pub struct JournaledCancel {
    /// Its id.
    pub id: Uuid,
    /// The intent whose order it ends.
    pub intent: IntentId,
    /// The broker's id of that order.
    pub order_id: String,
    /// No byte of it may be written after this moment.
    pub send_by: Moment,
}

impl JournaledCancel {
    /// What to send as the bridge's `strategy`.
    pub fn strategy_tag(&self) -> String {
        format!("cancel:{}", self.id)
    }
}

impl Ledger {
    /// Records that the order of an intent is to be cancelled; none when it does not rest at the broker any more.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] when the epoch is no longer the row's or the deadline has passed, or any database error.
    pub async fn journal_cancel(
        &self,
        fence: &Fence,
        intent: IntentId,
        send_window: Duration,
    ) -> Result<Option<JournaledCancel>, LedgerError> {
        let fenced = |_| LedgerError::Fenced(fence.epoch());
        let deadline = fence.check().map_err(fenced)?;
        let send_by = deadline.min(fence.now().plus(send_window));
        let id = Uuid::now_v7();
        let row = fence
            .session()
            .query_opt(
                JOURNAL,
                &[&fence.epoch().get(), &id, &fence.instance().incarnation.as_uuid(), &intent.0],
            )
            .await
            .map_err(LedgerError::during("journal a cancel"))?;
        let Some(row) = row else {
            fence.report_fenced("a cancel found another epoch in the leadership row");
            return Err(LedgerError::Fenced(fence.epoch()));
        };
        let order_id: Option<String> = row.get(0);
        Ok(order_id.map(|order_id| JournaledCancel { id, intent, order_id, send_by }))
    }

    /// Records what the bridge said to a cancel.
    ///
    /// # Errors
    /// Any database error.
    pub async fn record_cancel(
        &self,
        id: Uuid,
        state: &str,
        reason: Option<&str>,
    ) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute("UPDATE order_cancel SET state = $2, reason = $3 WHERE id = $1", &[&id, &state, &reason])
            .await
            .map_err(LedgerError::during("record a cancel"))?;
        Ok(())
    }
}
