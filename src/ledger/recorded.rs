//! What the audit chain says of stored state: the second witness of what no order, plan or fill proves.
//!
//! A stop trails by bars, and above the entry it risks nothing that a sum would miss; a highest close, an operator's wish,
//! the capital, the high-water mark and the account's day have no other trace at all. Each change of them is told to the chain in its own
//! transaction, so whoever walks the chain learns how they stand. The row of every seal tells all of it again, as the chain
//! had it: a recovery, which walks from the last seal on, knows it without looking further back.
//!
//! Rows of older versions tell less: what they leave open is unknown, never wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account_day::{DAY, ToldDay};
use super::change::PortfolioRow;
use crate::domain::cash::CashKind;
use crate::domain::ids::{IntentId, MovementId, PositionId};
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::IntentState;
use crate::domain::position::{Position, PositionStatus};

/// The kind of the row that tells everything again.
pub(super) const HELD: &str = "held";

/// How the chain last had a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Units held.
    pub quantity: Quantity,
    /// Its stop.
    pub stop: Price,
    /// The highest close since its entry, if the row tells it.
    #[serde(rename = "high", default, skip_serializing_if = "Option::is_none")]
    pub highest_close: Option<Price>,
    /// What its fills were charged, if a row tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charges: Option<Rupees>,
}

/// Who wants a position closed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Figures of the portfolio that follow from nothing else, in rupees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The capital.
    pub capital: Rupees,
    /// High-water mark of closed equity.
    pub equity_high: Rupees,
}

/// How the chain last had an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its state.
    pub state: IntentState,
    /// Units filled.
    pub filled: Quantity,
    /// The broker's id, if the chain tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// A deposit or withdrawal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Moved {
    /// Its key.
    pub id: MovementId,
    /// Which way.
    pub kind: CashKind,
    /// Rupees; below zero for a withdrawal.
    pub amount: Rupees,
    /// Who asked for it.
    pub who: String,
    /// Why.
    pub why: String,
}

/// What was charged, as every row of the chain tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charged {
    /// By order, and its filled quantity after the fill; one that is not here was charged nothing that anybody knew.
    pub fills: BTreeMap<(IntentId, Quantity), Rupees>,
    /// By position, closed ones included; one that is not here was charged nothing.
    pub positions: BTreeMap<PositionId, Rupees>,
}

/// What is known from the part of the chain that was walked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// What is not here is not, rather than unknown.
    pub complete: bool,
    /// Positions that hold something.
    pub positions: BTreeMap<PositionId, Standing>,
    /// What operators want closed.
    pub wishes: BTreeMap<PositionId, Wanted>,
    /// The portfolio's figures.
    pub figures: Option<Figures>,
    /// What became of orders; one that is not here is not known.
    pub orders: BTreeMap<IntentId, Outcome>,
    /// The account's day.
    pub day: ToldDay,
    /// Every deposit and withdrawal; known only to whoever has walked the chain from its first row on.
    pub movements: Option<BTreeMap<MovementId, Moved>>,
    /// What was charged; known only to whoever has walked the chain from its first row on.
    pub charged: Option<Charged>,
}

/// What of a payload is of interest here.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    positions: Vec<Held>,
    figures: Option<Figures>,
    #[serde(default)]
    wishes: BTreeMap<PositionId, Wanted>,
    position: Option<PositionId>,
    why: Option<String>,
    cash: Option<Moved>,
    #[serde(default)]
    intents: Vec<Became>,
    #[serde(default)]
    fills: Vec<Filled>,
    /// Of a seal's row.
    #[serde(default)]
    orders: BTreeMap<IntentId, Outcome>,
    /// Of a seal's row that an older version did not write.
    #[serde(default)]
    account_day: ToldDay,
    /// Of an operator's word.
    intent: Option<IntentId>,
    to: Option<IntentState>,
    order: Option<String>,
}

#[derive(Deserialize)]
struct Became {
    id: IntentId,
    state: Option<IntentState>,
    filled: Option<Quantity>,
    order: Option<String>,
}

#[derive(Deserialize)]
struct Filled {
    intent: IntentId,
    cumulative: Quantity,
    charges: Option<Rupees>,
}

#[derive(Deserialize)]
struct Held {
    id: PositionId,
    status: Option<PositionStatus>,
    #[serde(flatten)]
    standing: Standing,
}

impl Recorded {
    /// Nothing was recorded yet, and that is known.
    pub(super) fn from_the_first() -> Self {
        let (day, movements) = (ToldDay::from_the_first(), Some(BTreeMap::new()));
        Self { complete: true, day, movements, charged: Some(Charged::default()), ..Self::default() }
    }

    /// Takes the next row in.
    pub(super) fn take(&mut self, kind: &str, actor: &str, payload: &str) {
        if kind == DAY {
            return self.day.take(payload);
        }
        if !matches!(kind, "change" | "repair" | "adopt" | "emergency" | "close" | "resolve" | HELD) {
            return;
        }
        let Ok(told) = serde_json::from_str::<Told>(payload) else {
            // It may have told anything.
            *self = Self::default();
            return;
        };
        match (kind, told.position) {
            ("close", Some(position)) => {
                let wanted = Wanted { by: actor.to_owned(), why: told.why.unwrap_or_default() };
                self.wishes.insert(position, wanted);
            }
            ("close", None) => {}
            ("resolve", _) => self.resolved(told),
            // Whoever has seen it all needs no summary.
            (HELD, _) if self.complete => {}
            (HELD, _) => {
                let positions = told.positions.into_iter().map(|held| (held.id, held.standing)).collect();
                let Told { wishes, figures, orders, account_day: day, .. } = told;
                *self = Self {
                    complete: true,
                    positions,
                    wishes,
                    figures,
                    orders,
                    day,
                    movements: None,
                    charged: None,
                };
            }
            _ => self.change(told, kind == "change"),
        }
    }

    fn resolved(&mut self, told: Told) {
        if let Some((at, state)) = told.intent.and_then(|id| self.orders.get_mut(&id)).zip(told.to) {
            at.state = state;
            at.order = told.order.or(at.order.take());
        }
    }

    fn change(&mut self, told: Told, is_change: bool) {
        if !is_change {
            // A repair tells in words what it sets of orders.
            self.orders.clear();
        }
        for Became { id, state, filled, order } in told.intents {
            let order = order.or(self.orders.remove(&id).and_then(|before| before.order));
            let outcome = state.zip(filled).map(|(state, filled)| Outcome { state, filled, order });
            self.orders.extend(outcome.map(|outcome| (id, outcome)));
        }
        if let Some((movements, moved)) = self.movements.as_mut().zip(told.cash) {
            movements.insert(moved.id, moved);
        }
        // An older version moves the figures with every position, and by every repair, and does not tell.
        if told.figures.is_some() || !told.positions.is_empty() || !is_change {
            self.figures = told.figures;
        }
        if let Some(charged) = &mut self.charged {
            let fills =
                told.fills.iter().filter_map(|fill| Some(((fill.intent, fill.cumulative), fill.charges?)));
            charged.fills.extend(fills);
            let positions = told.positions.iter().filter_map(|held| Some((held.id, held.standing.charges?)));
            charged.positions.extend(positions);
        }
        for Held { id, status, mut standing } in told.positions {
            // An older version leaves them as they were, and does not tell.
            let before = self.positions.get(&id).and_then(|before| before.charges);
            standing.charges = standing.charges.or(before);
            if status == Some(PositionStatus::Closed) {
                self.positions.remove(&id);
            } else {
                self.positions.insert(id, standing);
            }
        }
    }

    /// All of it, for the row of a seal.
    pub(super) fn told(&self) -> Value {
        let positions: Vec<Value> = self
            .positions
            .iter()
            .map(|(id, at)| {
                json!({
                    "id": id, "quantity": at.quantity, "stop": at.stop, "high": at.highest_close, "charges": at.charges,
                })
            })
            .collect();
        let held = |id: &&PositionId| self.positions.contains_key(id);
        let wishes: BTreeMap<&PositionId, &Wanted> = self.wishes.iter().filter(|(id, _)| held(id)).collect();
        let is_open = |(_, at): &(&IntentId, &Outcome)| !at.state.is_terminal();
        let orders: BTreeMap<&IntentId, &Outcome> = self.orders.iter().filter(is_open).collect();
        json!({
            "positions": positions, "wishes": wishes, "figures": self.figures, "orders": orders, "account_day": self.day,
        })
    }
}

/// A position, as rows of the chain tell it: at the scale of its own row, which it is compared with.
pub(super) fn position(p: &Position) -> Value {
    let (stop, high) = (p.current_stop.rounded(), p.highest_close.rounded());
    json!({
        "id": p.id, "status": p.status, "quantity": p.quantity, "stop": stop, "high": high, "charges": p.charges.rounded(),
    })
}

/// The portfolio's figures, as rows of the chain tell them.
pub(super) fn figures(row: &PortfolioRow) -> Value {
    json!({ "capital": row.capital.rounded(), "equity_high": row.equity_high.rounded() })
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;
    use crate::domain::fixtures;

    fn gold() -> Position {
        fixtures::position("GOLD_MINI", 1, 3, dec!(78000), dec!(77000), 1)
    }

    fn change(position: &Position) -> String {
        let row =
            PortfolioRow { capital: Rupees(dec!(5)), equity_high: Rupees(dec!(7)), ..Default::default() };
        json!({ "positions": [self::position(position)], "figures": figures(&row) }).to_string()
    }

    #[test]
    fn the_row_of_a_seal_tells_all_that_the_rows_before_it_told() {
        let mut walked = Recorded::from_the_first();
        let gold = gold();
        walked.take("change", "b1", &change(&gold));
        walked.take("close", "asha", &json!({ "position": gold.id, "why": "news" }).to_string());
        let mut from_the_seal = Recorded::default();
        from_the_seal.take(HELD, "b1", &walked.told().to_string());
        // Movements and charges of all history are told by their own rows alone.
        (walked.movements, walked.charged) = (None, None);
        assert_eq!(from_the_seal, walked);
        assert_eq!(walked.positions[&gold.id].stop, gold.current_stop);
        assert_eq!(walked.wishes[&gold.id].by, "asha");
        assert_eq!(walked.figures.unwrap().equity_high, Rupees(dec!(7)));

        let closed = Position { status: PositionStatus::Closed, quantity: Quantity::ZERO, ..gold };
        from_the_seal.take("change", "b2", &change(&closed));
        assert!(from_the_seal.positions.is_empty());
        assert_eq!(from_the_seal.told()["wishes"], json!({}));
    }

    #[test]
    fn what_became_of_an_open_order_is_told_again_and_a_repair_leaves_it_open() {
        let mut walked = Recorded::from_the_first();
        let [open, over] = [1, 2].map(|id| IntentId(uuid::Uuid::from_u128(id)));
        let told = |id, state: &str, order: Option<&str>| {
            let became = json!({ "id": id, "state": state, "filled": 0, "order": order, "reason": null });
            json!({ "intents": [became] }).to_string()
        };
        walked.take("change", "b1", &told(open, "acknowledged", Some("77")));
        walked.take("change", "b1", &told(open, "acknowledged", None));
        walked.take("change", "b1", &told(over, "in_doubt", None));
        let word = json!({ "intent": over, "from": "in_doubt", "to": "rejected", "order": null, "evidence": "none" });
        walked.take("resolve", "asha", &word.to_string());
        let at = |order: Option<&str>, state| Outcome {
            state,
            filled: Quantity::ZERO,
            order: order.map(str::to_owned),
        };
        assert_eq!(walked.orders[&open], at(Some("77"), IntentState::Acknowledged));
        assert_eq!(walked.orders[&over], at(None, IntentState::Rejected));
        let mut from_the_seal = Recorded::default();
        from_the_seal.take(HELD, "b1", &walked.told().to_string());
        assert_eq!(from_the_seal.orders.keys().collect::<Vec<_>>(), [&open], "what is over is told no more");
        walked.take("repair", "asha", &json!({ "reason": "drill", "proposals": [] }).to_string());
        assert!(walked.orders.is_empty());
    }

    #[test]
    fn charges_are_told_by_fill_and_position_and_an_older_version_leaves_them_as_they_were() {
        let mut walked = Recorded::from_the_first();
        let gold = Position { charges: Rupees(dec!(87.94)), ..gold() };
        let order = IntentId(uuid::Uuid::from_u128(1));
        let fill = json!({ "intent": order, "cumulative": 30, "quantity": 30, "price": "78000", "charges": "87.94" });
        let of_older = json!({ "intent": order, "cumulative": 60, "quantity": 30, "price": "78000" });
        let told = json!({ "positions": [position(&gold)], "fills": [fill, of_older] });
        walked.take("change", "b1", &told.to_string());
        let older =
            json!({ "positions": [{ "id": gold.id, "status": "open", "quantity": 60, "stop": "77500" }] });
        walked.take("change", "b2", &older.to_string());
        assert_eq!(walked.positions[&gold.id].charges, Some(gold.charges));
        let charged = walked.charged.clone().unwrap();
        assert_eq!(charged.fills, BTreeMap::from([((order, Quantity(30)), gold.charges)]));
        assert_eq!(charged.positions, BTreeMap::from([(gold.id, gold.charges)]));
        let mut from_the_seal = Recorded::default();
        from_the_seal.take(HELD, "b1", &walked.told().to_string());
        assert_eq!(from_the_seal.positions, walked.positions);
    }

    #[test]
    fn what_an_older_versions_row_leaves_open_is_unknown() {
        let mut walked = Recorded::from_the_first();
        let gold = gold();
        walked.take("change", "b1", &change(&gold));
        let older =
            json!({ "positions": [{ "id": gold.id, "status": "open", "quantity": 30, "stop": "77500" }] });
        walked.take("change", "b2", &older.to_string());
        let at = walked.positions[&gold.id];
        assert_eq!((at.stop, at.highest_close, walked.figures), (Price(dec!(77500)), None, None));
        walked.take("change", "b1", &change(&gold));
        walked.take("repair", "asha", &json!({ "reason": "drill", "proposals": [] }).to_string());
        assert_eq!(walked.figures, None);
        // A row of outcomes alone moves no figure.
        walked.take("change", "b1", &change(&gold));
        walked.take("change", "b1", &json!({ "intents": [] }).to_string());
        assert!(walked.figures.is_some());
        walked.take("change", "b1", "{");
        assert_eq!(walked, Recorded::default());
    }
}
