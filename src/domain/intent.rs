//! An order intent: the durable decision to send one order, and what became of it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cause::ExitCause;
use super::fill::Opening;
use super::ids::{IntentId, PositionId, SignalId};
use super::label::Label;
use super::money::{Price, Quantity, Rupees};
use super::order::{IntentState, OrderClass, OrderSpec, PriceType, Side};

/// The longest `strategy` the bridge stores, in characters.
const TAG_CHARS: usize = 100;

/// What an entry's first fill makes a position of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EntryPlan {
    /// `Long_1` … `Long_6`.
    pub label: Label,
    /// The strategy that sent the signal.
    pub strategy: String,
    /// Units a lot.
    pub lot_size: Quantity,
    /// Rupees per point per lot.
    pub point_value: Rupees,
    /// Margin a lot.
    pub margin_per_lot: Rupees,
    /// Average true range at the signal, in points.
    pub atr: Price,
    /// The protective stop to open with.
    pub stop: Price,
    /// Where to take the profit, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_profit: Option<Price>,
    /// The signal's price, until fills say better.
    pub planned_price: Price,
    /// The signal's place in the inbox.
    pub signal_seq: i64,
    /// The bar that made the signal.
    pub bar_time: DateTime<Utc>,
}

impl EntryPlan {
    /// What its first fill opens, as `id`, for the entry that `signal` asked for.
    pub fn opening(&self, id: PositionId, signal: SignalId) -> Opening {
        Opening {
            id,
            label: self.label,
            strategy: self.strategy.clone(),
            atr: self.atr,
            stop: self.stop,
            take_profit: self.take_profit,
            entry_signal: signal,
            entry_signal_seq: self.signal_seq,
            entry_bar_time: self.bar_time,
        }
    }
}

/// One order intent as the ledger holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct OrderIntent {
    /// Its identity (UUIDv7).
    pub id: IntentId,
    /// The signal that asked for it; none for an operator's or a stop's order.
    pub signal: Option<SignalId>,
    /// Which leg of the signal.
    pub leg: i32,
    /// Which try at that leg; a new one only after the former is resolved: an exit that has not closed its position, or an
    /// entry that provably never left.
    pub attempt: i32,
    /// The position it opens, adds to or closes.
    pub position: PositionId,
    /// The configured instrument.
    pub instrument: String,
    /// Entry, exit, protective or operator.
    pub class: OrderClass,
    /// Why it closes, if it closes.
    pub cause: Option<ExitCause>,
    /// The order itself.
    pub order: OrderSpec,
    /// For entries: what the position will be.
    pub plan: Option<EntryPlan>,
    /// A sale by the broker's verified book while stored state is damaged: of no position of the ledger.
    pub custody: bool,
    /// An entry whose position should be gone already: its late fill is closed at once.
    pub unwind: bool,
    /// Where it is in its life.
    pub state: IntentState,
    /// Why it is there, when that needs saying.
    pub reason: Option<String>,
    /// The broker's id, once known.
    pub broker_order_id: Option<String>,
    /// Units filled so far.
    pub filled: Quantity,
    /// How long after its journaling its bytes may still be written.
    pub send_window_ms: i32,
    /// Orders at the broker seen up to here cannot be this intent's.
    pub watermark: i64,
    /// The epoch it was journaled under.
    pub epoch: i64,
    /// The process it was journaled by, the only one that may write it; none before.
    pub incarnation: Option<Uuid>,
    /// The day in India in which it was journaled; none before.
    pub day: Option<NaiveDate>,
}

impl OrderIntent {
    /// What is sent as the bridge's `strategy`: unique, at most 100 characters, readable.
    pub fn strategy_tag(&self) -> String {
        let name = self.plan.as_ref().map_or(self.class.as_str(), |plan| plan.strategy.as_str());
        let id = self.id.to_string();
        let room = TAG_CHARS - id.len() - 1;
        let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(room).collect();
        format!("{name}:{id}")
    }

    /// Units not filled yet.
    pub fn remaining(&self) -> Quantity {
        self.order.quantity - self.filled
    }

    /// Units that may still leave the position by this exit: nothing once it is terminal.
    pub fn exit_quantity_out(&self) -> Quantity {
        if self.class == OrderClass::Entry || self.state.is_terminal() {
            Quantity::ZERO
        } else {
            self.remaining()
        }
    }

    /// A stop that rests at the broker until the price comes, rather than an order that sells at once. It is no exit that
    /// is under way: its position stays open, and every other exit has to have it cancelled first.
    pub fn rests(&self) -> bool {
        matches!(self.order.price_type, PriceType::StopLimit | PriceType::StopMarket)
    }

    /// A stop that rests at the broker and of which nothing was sold.
    pub fn rests_untouched(&self) -> bool {
        self.rests() && self.state == IntentState::Acknowledged
    }

    /// Closes what the account holds, rather than opening.
    pub fn is_exit(&self) -> bool {
        self.order.side == Side::Sell
    }
}
