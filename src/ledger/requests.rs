//! Cancels and modifies: authorised under the same lock as every order (HA.md rule 8), recorded before their first byte
//! leaves.
//!
//! A request changes no order of ours: whether it ended, and what it had filled by then, the books say. It has the class
//! of the order that it makes room for, so that a switch which holds an exit back does not have its stop taken away. A stop
//! is only moved up: not above its position's, not below what was asked before, one move at a time. So is a bid, not above
//! the last price that was decided on, and only while nothing of it is filled: what a broker makes of the quantity of a
//! modify is then the same for all.

use std::collections::BTreeSet;
use std::time::Duration;

use ha::{Fence, Moment};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::planned::Planned;
use super::switches::Switches;
use super::{Ledger, LedgerError};
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::money::Price;
use crate::domain::order::OrderClass;
use crate::domain::request::{Ask, RequestState};

/// `$1` epoch, `$2` the request's id, `$3` incarnation, `$4` the order's intent, `$5` the class. Gives the switches, a halt
/// and reduce-only of the order's instrument as those of all, and the broker's id of the order where the request was taken.
/// Public for the tests.
pub const CANCEL: &str = "
WITH l AS (
    SELECT halted OR coalesce((instruments -> (SELECT instrument FROM order_intent WHERE id = $4)) ? 'halted', false) AS halted,
        halt_all,
        reduce_only OR coalesce((instruments -> (SELECT instrument FROM order_intent WHERE id = $4)) ? 'reduce_only', false)
            AS reduce_only
    FROM leadership WHERE epoch = $1 AND holder_incarnation = $3 FOR SHARE
), i AS (
    INSERT INTO order_cancel (id, intent_id, epoch, incarnation, order_id, class)
    SELECT $2, o.id, $1, $3, o.broker_order_id, $5 FROM order_intent o, l
    WHERE o.id = $4 AND o.broker_order_id IS NOT NULL AND o.state IN ('acknowledged', 'partially_filled')
      AND CASE $5
            WHEN 'operator' THEN true
            WHEN 'protective' THEN NOT l.halt_all
            WHEN 'entry' THEN NOT (l.halted OR l.halt_all OR l.reduce_only)
            ELSE NOT (l.halted OR l.halt_all)
          END
    RETURNING order_id
)
SELECT halted, halt_all, reduce_only, (SELECT order_id FROM i) FROM l";

/// As [`CANCEL`], and `$6` the limit price, `$7` the trigger price. Public for the tests.
pub const MODIFY: &str = "
WITH l AS (
    SELECT halted, halt_all, reduce_only, custody FROM leadership
    WHERE epoch = $1 AND holder_incarnation = $3 FOR SHARE
), i AS (
    INSERT INTO order_modify (id, intent_id, epoch, incarnation, order_id, price, trigger_price)
    SELECT $2, o.id, $1, $3, o.broker_order_id, $6, $7
    FROM order_intent o JOIN position p ON p.id = o.position_id, l
    WHERE o.id = $4 AND o.class = $5 AND o.state = 'acknowledged' AND o.price_type IN ('SL', 'SL-M')
      AND NOT l.halt_all AND l.custody IS NULL
      AND $7 > o.trigger_price AND $7 <= p.current_stop
      AND NOT EXISTS (SELECT 1 FROM order_cancel c WHERE c.intent_id = o.id
                        AND c.state IN ('journaled', 'acknowledged', 'in_doubt'))
      AND NOT EXISTS (SELECT 1 FROM order_modify m WHERE m.intent_id = o.id
                        AND (m.state IN ('journaled', 'in_doubt')
                             OR m.state IN ('acknowledged', 'applied') AND m.trigger_price > $7))
    ON CONFLICT DO NOTHING RETURNING order_id
)
SELECT halted, halt_all, reduce_only, (SELECT order_id FROM i) FROM l";

/// The same for a bid. A switch of its instrument holds it back like reduce-only of all.
pub const RAISE_BID: &str = "
WITH l AS (
    SELECT halted, halt_all, reduce_only OR coalesce(
            (instruments -> (SELECT instrument FROM order_intent WHERE id = $4)) ?| ARRAY['halted', 'reduce_only'], false
        ) AS reduce_only, custody, strategies
    FROM leadership WHERE epoch = $1 AND holder_incarnation = $3 FOR SHARE
), i AS (
    INSERT INTO order_modify (id, intent_id, epoch, incarnation, order_id, price, trigger_price)
    SELECT $2, o.id, $1, $3, o.broker_order_id, $6, $7
    FROM order_intent o, l
    WHERE o.id = $4 AND o.class = $5 AND o.state = 'acknowledged' AND o.price_type = 'LIMIT' AND NOT o.unwind
      AND NOT (l.halted OR l.halt_all OR l.reduce_only) AND l.custody IS NULL
      AND (l.strategies -> (o.plan ->> 'strategy')) IS DISTINCT FROM 'false'::jsonb
      AND $6 > o.price AND $6 <= (o.plan #>> '{bidding,prices,-1}')::numeric
      AND NOT EXISTS (SELECT 1 FROM order_cancel c WHERE c.intent_id = o.id
                        AND c.state IN ('journaled', 'acknowledged', 'in_doubt'))
      AND NOT EXISTS (SELECT 1 FROM order_modify m WHERE m.intent_id = o.id
                        AND (m.state IN ('journaled', 'in_doubt')
                             OR m.state IN ('acknowledged', 'applied') AND m.price >= $6))
    ON CONFLICT DO NOTHING RETURNING order_id
)
SELECT halted, halt_all, reduce_only, (SELECT order_id FROM i) FROM l";

/// Proof that a request is recorded under an epoch.
#[derive(Debug)]
pub struct JournaledRequest {
    /// Its id.
    pub id: Uuid,
    /// The intent whose order it is about.
    pub intent: IntentId,
    /// The broker's id of that order.
    pub order_id: String,
    /// What is asked.
    pub ask: Ask,
    /// The class of what it makes room for.
    pub class: OrderClass,
    /// No byte of it may be written after this moment.
    pub send_by: Moment,
}

impl JournaledRequest {
    /// What to send as the bridge's `strategy`.
    pub fn strategy_tag(&self) -> String {
        let verb = match self.ask {
            Ask::Cancel => "cancel",
            Ask::Modify(_) => "modify",
        };
        format!("{verb}:{}", self.id)
    }
}

/// What the ledger made of a request.
#[derive(Debug)]
pub enum Asked {
    /// Recorded: to be sent.
    Journaled(JournaledRequest),
    /// A switch forbids its class.
    Blocked(Switches),
    /// Nothing to ask: the order does not rest at the broker any more, or another request about it is under way.
    Needless,
}

/// A modify of which the books have not shown yet whether the broker made it.
#[derive(Debug)]
pub struct MoveUnderWay {
    /// The request's id.
    pub id: Uuid,
    /// The intent of the stop or the bid.
    pub intent: IntentId,
    /// The limit price that it asks for.
    pub price: Price,
    /// The trigger price that it asks for.
    pub trigger_price: Price,
    /// The bridge said that it took it.
    pub acknowledged: bool,
}

impl Ledger {
    /// Modifies that an earlier term left before the books showed them, the newest last. One may have been answered long ago:
    /// it keeps that state when its order ends.
    ///
    /// # Errors
    /// Any database error.
    pub async fn moves_under_way(&self) -> Result<Vec<MoveUnderWay>, LedgerError> {
        let sql = "SELECT m.id, m.intent_id, m.price, m.trigger_price, m.state = 'acknowledged'
             FROM order_modify m JOIN order_intent o ON o.id = m.intent_id
             WHERE m.state IN ('journaled', 'acknowledged', 'in_doubt')
                AND o.state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
             ORDER BY m.journaled_at, m.id";
        let rows = self.client().await?.rows(sql, &[]).await;
        let rows = rows.map_err(LedgerError::during("read modifies under way"))?;
        let moved = |row: &tokio_postgres::Row| MoveUnderWay {
            id: row.get(0),
            intent: IntentId(row.get(1)),
            price: Price(row.get(2)),
            trigger_price: Price(row.get(3)),
            acknowledged: row.get(4),
        };
        Ok(rows.iter().map(moved).collect())
    }

    /// True where the last order of an entry ended by a cancel that made room for another one of it, and by no other: not an
    /// operator's, the exchange's, or one that follows from an EXIT.
    ///
    /// # Errors
    /// Any database error.
    pub async fn was_cancelled_for_more(&self, signal: SignalId) -> Result<bool, LedgerError> {
        let sql = "SELECT count(*) > 0 AND bool_and(c.class = 'entry') FROM order_cancel c
             JOIN order_intent o ON o.id = c.intent_id
             WHERE o.signal_id = $1 AND o.class = 'entry' AND c.state = 'applied'";
        let row = self.client().await?.row(sql, &[&signal.0]).await;
        Ok(row.map_err(LedgerError::during("read why an entry's order was cancelled"))?.get(0))
    }

    /// Says which of these entries' orders a switch would hold back now: the cluster's, their strategy's or their instrument's.
    ///
    /// # Errors
    /// Any database error.
    pub async fn entries_held_back(&self, entries: &[IntentId]) -> Result<BTreeSet<IntentId>, LedgerError> {
        let ids: Vec<Uuid> = entries.iter().map(|id| id.0).collect();
        let sql = "SELECT o.id FROM order_intent o, leadership l WHERE o.id = ANY ($1) AND o.class = 'entry'
             AND (l.halted OR l.halt_all OR l.reduce_only
                OR (l.strategies -> (o.plan ->> 'strategy')) IS NOT DISTINCT FROM 'false'::jsonb
                OR coalesce((l.instruments -> o.instrument) ?| ARRAY['halted', 'reduce_only'], false))";
        let rows = self.client().await?.rows(sql, &[&ids]).await;
        let rows = rows.map_err(LedgerError::during("read which bids the switches hold back"))?;
        Ok(rows.iter().map(|row| IntentId(row.get(0))).collect())
    }

    /// Records what is to be asked about the order of an intent, for the sake of an order of `class`.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] when the epoch is no longer the row's or the deadline has passed, or any database error.
    pub async fn journal_request(
        &self,
        fence: &Fence,
        intent: IntentId,
        ask: Ask,
        class: OrderClass,
        send_window: Duration,
    ) -> Result<Asked, LedgerError> {
        let fenced = |_| LedgerError::Fenced(fence.epoch());
        let deadline = fence.check().map_err(fenced)?;
        let send_by = deadline.min(fence.now().plus(send_window));
        let (id, epoch, me) = (Uuid::now_v7(), fence.epoch().get(), fence.instance().incarnation.as_uuid());
        let class_name = class.as_str();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&epoch, &id, &me, &intent.0, &class_name];
        let statement = match &ask {
            Ask::Cancel => CANCEL,
            Ask::Modify(order) => {
                values.extend([&order.price.0 as &(dyn ToSql + Sync), &order.trigger_price.0]);
                if class == OrderClass::Entry { RAISE_BID } else { MODIFY }
            }
        };
        let row = fence.session().query_opt(statement, &values).await;
        let Some(row) = row.map_err(LedgerError::during("journal a cancel or a modify"))? else {
            fence.report_fenced("a request about an order found another epoch in the leadership row");
            return Err(LedgerError::Fenced(fence.epoch()));
        };
        let switches = Switches { halted: row.get(0), halt_all: row.get(1), reduce_only: row.get(2) };
        let order_id: Option<String> = row.get(3);
        let held_back = !switches.allow(class);
        Ok(match order_id {
            Some(order_id) => {
                Asked::Journaled(JournaledRequest { id, intent, order_id, ask, class, send_by })
            }
            None if held_back => Asked::Blocked(switches),
            None => Asked::Needless,
        })
    }

    /// Records what became of a request, unless the books said more already.
    ///
    /// # Errors
    /// Any database error.
    pub async fn record_request(
        &self,
        id: Uuid,
        ask: &Ask,
        state: RequestState,
        reason: Option<&str>,
    ) -> Result<(), LedgerError> {
        let table = match ask {
            Ask::Cancel => "order_cancel",
            Ask::Modify(_) => "order_modify",
        };
        let sql = format!(
            "UPDATE {table} SET state = $2, reason = coalesce($3, reason)
             WHERE id = $1 AND order_request_may_become(state, $2)"
        );
        let client = self.client().await?;
        let recorded = client.run(&sql, &[&id, &state.as_str(), &reason]).await;
        recorded.map_err(LedgerError::during("record what became of a request"))?;
        Ok(())
    }
}
