//! The fence: what authorises a send is one statement that locks the leadership row (HA.md rule 8).
//!
//! `FOR SHARE` on the row, in the same statement as the insert, makes a takeover (which locks it `FOR UPDATE`)
//! and a journaling strictly ordered: an intent of an old epoch is committed before the takeover, where the new
//! leader sees it and treats it as in doubt, or not at all. Without the row lock a stale leader's intent slips in
//! during most takeovers. The switches are columns of the same row, so a halt's commit is a hard line too.
//!
//! The row must name this incarnation, too: a PostgreSQL failover that loses its tail takes the memory of an epoch
//! along, and while Redis is away its number can be minted again for another (`ha/model`, finding 4).
//!
//! What an operator said of a strategy is such a column, too: the statement takes no entry of one that is disabled. And so are
//! the switches of single instruments: whichever is stricter holds.
//!
//! Nor does it take another order of an entry before what it decided on leaves room for it: what its earlier orders bought
//! counts, and all that one of them asked for while its end is not proven.
//!
//! So is the mark that stored state is damaged (rule 14): while it is there, the statement takes an operator's orders, and
//! a stop only if the rows of its contract add up to what the broker's verified book holds. A sale by that book alone, of
//! no position, is never more than the book holds less what may still be sold of the contract.
//!
//! An exit's intent also turns its position to `closing`, in the same statement: whatever happens next, recovery
//! sees that the position was meant to be gone. A stop that will rest at the broker does not, but it counts as out: as long
//! as it may sell, no other exit of its units is taken.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ha::{Fence, Moment};
use serde_json::{Value, json};
use tokio_postgres::{Row, Statement};

use super::LedgerError;
use super::instrument_switches::of_instrument;
use super::strategies::said;
use super::switches::Switches;
use crate::domain::cause::ExitCause;
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::{OrderClass, OrderSpec};
use crate::mutant::Mutant;

/// The statement: `$1` epoch, `$2` the intents as a JSON list, `$3` incarnation, `$4` decisions by signal id. One row
/// (the switches, the ids it committed, whether state is damaged, the day in India, what was said of strategies, and the switches
/// of instruments), or none when the epoch is another.
/// Public for the tests that race it.
pub const JOURNAL: &str = "
WITH l AS (
    SELECT halted, halt_all, reduce_only, custody, strategies, instruments FROM leadership
    WHERE epoch = $1 AND holder_incarnation = $3 FOR SHARE
), u AS (
    SELECT * FROM jsonb_to_recordset($2) AS u (
        id uuid, signal_id uuid, leg int, attempt int, position_id uuid, instrument text, class text, symbol text,
        exchange text, side text, quantity bigint, price_type text, product text, price numeric,
        trigger_price numeric, strategy_tag text, plan jsonb, send_window_ms int, order_watermark bigint,
        cause text, reason text, custody boolean, verified bigint)
), i AS (
    INSERT INTO order_intent (id, signal_id, leg, attempt, position_id, instrument, epoch, incarnation, class, symbol,
        exchange, side, quantity, price_type, product, price, trigger_price, strategy_tag, plan, send_window_ms,
        order_watermark, cause, reason, custody)
    SELECT u.id, u.signal_id, u.leg, u.attempt, u.position_id, u.instrument, $1, $3, u.class, u.symbol,
        u.exchange, u.side, u.quantity, u.price_type, u.product, u.price, u.trigger_price, u.strategy_tag, u.plan,
        u.send_window_ms, u.order_watermark, u.cause, u.reason, coalesce(u.custody, false)
    FROM u, l
    WHERE CASE u.class
            WHEN 'entry' THEN NOT (l.halted OR l.halt_all OR l.reduce_only)
                AND (l.strategies -> (u.plan ->> 'strategy')) IS DISTINCT FROM 'false'::jsonb
                AND NOT coalesce((l.instruments -> u.instrument) ?| ARRAY['halted', 'reduce_only'], false)
            WHEN 'exit' THEN NOT (l.halted OR l.halt_all OR coalesce((l.instruments -> u.instrument) ? 'halted', false))
            WHEN 'protective' THEN NOT l.halt_all
            ELSE true
          END
      AND (l.custody IS NULL OR u.class = 'operator' OR (u.class = 'protective' AND u.verified = (
            SELECT sum(p.quantity) FROM position p WHERE p.status <> 'closed'
              AND (p.symbol, p.exchange, p.product) = (u.symbol, u.exchange, u.product))))
      AND CASE WHEN u.class = 'entry' THEN coalesce((u.plan #>> '{bidding,units}')::bigint, u.quantity) >= u.quantity + (
            SELECT coalesce(sum(CASE WHEN o.state IN ('filled', 'cancelled', 'rejected', 'not_sent')
                THEN o.filled_quantity ELSE o.quantity END), 0)
            FROM order_intent o WHERE o.signal_id = u.signal_id AND o.class = 'entry')
          WHEN u.custody THEN
            l.custody IS NOT NULL AND u.class = 'operator' AND u.side = 'SELL' AND u.verified >= (
                SELECT coalesce(sum(o.quantity - o.filled_quantity), 0) FROM order_intent o
                WHERE (o.symbol, o.exchange, o.product) = (u.symbol, u.exchange, u.product) AND o.side = 'SELL'
                  AND o.state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
              ) + (SELECT sum(u2.quantity) FROM u u2
                WHERE (u2.symbol, u2.exchange, u2.product) = (u.symbol, u.exchange, u.product) AND u2.side = 'SELL')
          ELSE (
            SELECT p.quantity FROM position p WHERE p.id = u.position_id
          ) >= (
            SELECT coalesce(sum(o.quantity - o.filled_quantity), 0) FROM order_intent o
            WHERE o.position_id = u.position_id AND o.class <> 'entry'
              AND o.state IN ('journaled', 'acknowledged', 'partially_filled', 'in_doubt')
          ) + (SELECT sum(u2.quantity) FROM u u2 WHERE u2.position_id = u.position_id AND u2.class <> 'entry')
          END
    ON CONFLICT DO NOTHING
    RETURNING id, signal_id, class, position_id, cause, price_type
), p AS (
    UPDATE position SET status = 'closing', exit_cause = i.cause, version = position.version + 1
    FROM i WHERE position.id = i.position_id AND i.class <> 'entry' AND position.status = 'open'
      AND i.price_type NOT IN ('SL', 'SL-M')
), s AS (
    UPDATE signal SET status = 'working', decided_epoch = $1, decided_at = now(),
        decision = coalesce($4::jsonb -> signal.id::text, decision)
    FROM i WHERE signal.id = i.signal_id
)
SELECT halted, halt_all, reduce_only, (SELECT array_agg(id) FROM i), custody,
    (now() AT TIME ZONE INTERVAL '05:30')::date, strategies, instruments
FROM l";

/// Proof that an order's intent is committed under an epoch; made only here, consumed by the one submission.
#[derive(Debug)]
pub struct JournaledIntent {
    id: IntentId,
    order: OrderSpec,
    strategy_tag: String,
    intent: OrderIntent,
    send_by: Moment,
}

impl JournaledIntent {
    fn new(intent: OrderIntent, send_by: Moment) -> Self {
        let (id, order, strategy_tag) = (intent.id, intent.order.clone(), intent.strategy_tag());
        Self { id, order, strategy_tag, intent, send_by }
    }

    /// The intent's id.
    pub fn id(&self) -> IntentId {
        self.id
    }

    /// The order to send.
    pub fn order(&self) -> &OrderSpec {
        &self.order
    }

    /// What to send as the bridge's `strategy`.
    pub fn strategy_tag(&self) -> &str {
        &self.strategy_tag
    }

    /// The whole intent.
    pub fn intent(&self) -> &OrderIntent {
        &self.intent
    }

    /// No byte of the order may be written after this moment.
    pub fn send_by(&self) -> Moment {
        self.send_by
    }
}

/// What one journaling did.
#[derive(Debug)]
pub struct Journaled {
    /// The intents that were committed, ready to send.
    pub intents: Vec<JournaledIntent>,
    /// The intents that were not, with the reason.
    pub blocked: Vec<(OrderIntent, Blocked)>,
    /// Stored state is marked as damaged.
    pub custody: bool,
}

/// Why the ledger did not take an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// A switch (halt, reduce-only) forbids its class.
    Switch(Switches),
    /// A switch of its instrument forbids its class.
    Instrument(Switches),
    /// Its strategy is disabled.
    Strategy,
    /// Stored state is damaged, and this is nothing that a custodian may order.
    Custody,
    /// More would be out than is held, the leg has its intent already, or an order of the same terms is unresolved.
    Ledger,
}

/// The leader's journal: the prepared statement on its pinned session.
#[derive(Debug, Clone)]
pub struct Journal {
    fence: Fence,
    statement: Statement,
    send_window: Duration,
}

impl Journal {
    /// Prepares the statement on the pinned session of `fence`; an order's bytes may leave for at most
    /// `send_window` after its journaling began.
    ///
    /// # Errors
    /// The failed preparation.
    pub async fn open(fence: Fence, send_window: Duration) -> Result<Self, LedgerError> {
        let statement = fence
            .session()
            .prepare(JOURNAL)
            .await
            .map_err(LedgerError::during("prepare the journal statement"))?;
        Ok(Self { fence, statement, send_window })
    }

    /// The leadership it journals under.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Commits intents and marks their signals as working, in one statement and one fsync.
    ///
    /// `decisions` are stored with the signals (sizing, gates): what an operator reads later. `verified` is what the
    /// broker's verified book holds of an intent's contract, for those that a custodian orders by it.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] when the epoch is no longer the row's or the deadline has passed. Any other error
    /// leaves the outcome unknown: the session is then not to be used again.
    pub async fn commit(
        &self,
        intents: Vec<OrderIntent>,
        decisions: &HashMap<SignalId, Value>,
        verified: &HashMap<IntentId, Quantity>,
    ) -> Result<Journaled, LedgerError> {
        let fenced = |_| LedgerError::Fenced(self.fence.epoch());
        let deadline = self.fence.check().map_err(fenced)?;
        let send_by = deadline.min(self.fence.now().plus(self.send_window));
        let rows = Value::Array(intents.iter().map(|intent| row(intent, verified.get(&intent.id))).collect());
        let decisions: Value =
            decisions.iter().map(|(id, decision)| (id.to_string(), decision.clone())).collect();
        if Mutant::SendsFirst.is_on() {
            tokio::spawn(self.clone().execute(rows, decisions));
            let intents = intents.into_iter().map(|intent| JournaledIntent::new(intent, send_by)).collect();
            return Ok(Journaled { intents, blocked: Vec::new(), custody: false });
        }
        let Some(answer) = self.clone().execute(rows, decisions).await? else {
            self.fence.report_fenced("the journal found another epoch in the leadership row");
            return Err(LedgerError::Fenced(self.fence.epoch()));
        };
        let switches =
            Switches { halted: answer.get(0), halt_all: answer.get(1), reduce_only: answer.get(2) };
        let committed: Option<Vec<uuid::Uuid>> = answer.get(3);
        let committed: HashSet<uuid::Uuid> = committed.unwrap_or_default().into_iter().collect();
        let custody = answer.get::<_, Option<&str>>(4).is_some();
        let said = said(&answer.get(6));
        let instruments: Value = answer.get(7);
        let disabled = |intent: &OrderIntent| {
            let strategy = intent.plan.as_ref().map(|plan| plan.strategy.as_str());
            strategy.is_some_and(|name| said.get(name) == Some(&false))
        };
        let mut journaled = Journaled { intents: Vec::new(), blocked: Vec::new(), custody };
        for mut intent in intents {
            (intent.epoch, intent.day) = (self.fence.epoch().get(), Some(answer.get(5)));
            intent.incarnation = Some(self.fence.instance().incarnation.as_uuid());
            let own = of_instrument(&instruments, &intent.instrument);
            if committed.contains(&intent.id.0) {
                journaled.intents.push(JournaledIntent::new(intent, send_by));
            } else if !switches.allow(intent.class) {
                journaled.blocked.push((intent, Blocked::Switch(switches)));
            } else if !own.allow(intent.class) {
                journaled.blocked.push((intent, Blocked::Instrument(own)));
            } else if custody && intent.class != OrderClass::Operator {
                journaled.blocked.push((intent, Blocked::Custody));
            } else if intent.class == OrderClass::Entry && disabled(&intent) {
                journaled.blocked.push((intent, Blocked::Strategy));
            } else {
                journaled.blocked.push((intent, Blocked::Ledger));
            }
        }
        Ok(journaled)
    }

    async fn execute(self, rows: Value, decisions: Value) -> Result<Option<Row>, LedgerError> {
        let (epoch, incarnation) = (self.fence.epoch().get(), self.fence.instance().incarnation.as_uuid());
        self.fence
            .session()
            .query_opt(&self.statement, &[&epoch, &rows, &incarnation, &decisions])
            .await
            .map_err(LedgerError::during("journal order intents"))
    }
}

fn row(intent: &OrderIntent, verified: Option<&Quantity>) -> Value {
    let order = &intent.order;
    json!({
        "id": intent.id,
        "signal_id": intent.signal,
        "leg": intent.leg,
        "attempt": intent.attempt,
        "position_id": intent.position,
        "instrument": intent.instrument,
        "class": intent.class.as_str(),
        "symbol": order.symbol,
        "exchange": order.exchange,
        "side": order.side.as_str(),
        "quantity": order.quantity.0,
        "price_type": order.price_type.as_str(),
        "product": order.product.as_str(),
        "price": order.price.0.to_string(),
        "trigger_price": order.trigger_price.0.to_string(),
        "strategy_tag": intent.strategy_tag(),
        "plan": intent.plan,
        "send_window_ms": intent.send_window_ms,
        "order_watermark": intent.watermark,
        "cause": intent.cause.map(ExitCause::as_str),
        "reason": intent.reason,
        "custody": intent.custody,
        "verified": verified.map(|units| units.0),
    })
}
