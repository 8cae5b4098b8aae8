//! What the audit chain says of stored state: the second witness of what no order, plan or fill proves.
//!
//! A stop trails by bars, and above the entry it risks nothing that a sum would miss; a highest close, an operator's wish,
//! the capital and the high-water mark have no other trace at all. Each change of them is told to the chain in its own
//! transaction, so whoever walks the chain learns how they stand. The row of every seal tells all of it again, as the chain
//! had it: a recovery, which walks from the last seal on, knows it without looking further back.
//!
//! Rows of older versions tell less: what they leave open is unknown, never wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::change::PortfolioRow;
use crate::domain::ids::PositionId;
use crate::domain::money::{Price, Quantity, Rupees};
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
        Self { complete: true, ..Self::default() }
    }

    /// Takes the next row in.
    pub(super) fn take(&mut self, kind: &str, actor: &str, payload: &str) {
        if !matches!(kind, "change" | "repair" | "adopt" | "emergency" | "close" | HELD) {
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
            // Whoever has seen it all needs no summary.
            (HELD, _) if self.complete => {}
            (HELD, _) => {
                let positions = told.positions.into_iter().map(|held| (held.id, held.standing)).collect();
                *self = Self { complete: true, positions, wishes: told.wishes, figures: told.figures };
            }
            _ => self.change(told, kind == "change"),
        }
    }

    fn change(&mut self, told: Told, moves_figures_with_positions: bool) {
        // An older version moves the figures with every position, and by every repair, and does not tell.
        if told.figures.is_some() || !told.positions.is_empty() || !moves_figures_with_positions {
            self.figures = told.figures;
        }
        for Held { id, status, standing } in told.positions {
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
                json!({ "id": id, "quantity": at.quantity, "stop": at.stop, "high": at.highest_close })
            })
            .collect();
        let held = |id: &&PositionId| self.positions.contains_key(id);
        let wishes: BTreeMap<&PositionId, &Wanted> = self.wishes.iter().filter(|(id, _)| held(id)).collect();
        json!({ "positions": positions, "wishes": wishes, "figures": self.figures })
    }
}

/// A position, as rows of the chain tell it: at the scale of its own row, which it is compared with.
pub(super) fn position(p: &Position) -> Value {
    let (stop, high) = (p.current_stop.rounded(), p.highest_close.rounded());
    json!({ "id": p.id, "status": p.status, "quantity": p.quantity, "stop": stop, "high": high })
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
