//! What is known of each contract from look to look: suspected, confirmed, cleared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::compare::{DiffRow, Verdict};
use crate::domain::money::Quantity;
use crate::domain::position::HoldingKey;

/// How sure a difference is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Seen once: entries wait for the second look.
    Suspected,
    /// Seen twice: entries are refused until it is gone.
    Confirmed,
}

/// One difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// How sure it is.
    pub standing: Standing,
    /// Units that the ledger holds.
    pub ledger: Quantity,
    /// Units that the broker holds.
    pub broker: Quantity,
    first_seen: Instant,
}

/// All differences that are known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drift(BTreeMap<HoldingKey, Known>);

impl Drift {
    /// What is known after another look at `now`; a difference is confirmed when it lasted for `settle` (R3, R5).
    pub fn next(&self, rows: &[DiffRow], now: Instant, settle: Duration) -> Self {
        let mut next = BTreeMap::new();
        for row in rows {
            let Some(key) = row.key() else { continue };
            let before = self.0.get(&key).copied();
            let known = match row.verdict {
                Verdict::Unsettled => before,
                verdict if verdict.is_drift() => {
                    let same =
                        before.filter(|known| (known.ledger, known.broker) == (row.ledger, row.broker));
                    let first_seen = same.map_or(now, |known| known.first_seen);
                    let lasted = now.saturating_duration_since(first_seen) >= settle && same.is_some();
                    // Other figures on a contract that drifts already are no better news.
                    let stays = before.is_some_and(|known| known.standing == Standing::Confirmed);
                    let standing = if lasted || stays { Standing::Confirmed } else { Standing::Suspected };
                    Some(Known { standing, ledger: row.ledger, broker: row.broker, first_seen })
                }
                _ => None,
            };
            if let Some(known) = known {
                next.insert(key, known);
            }
        }
        Self(next)
    }

    /// What is known of a contract.
    pub fn of(&self, key: &HoldingKey) -> Option<Known> {
        self.0.get(key).copied()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&HoldingKey, &Known)> {
        self.0.iter()
    }

    /// The confirmed ones.
    pub fn confirmed(&self) -> impl Iterator<Item = (&HoldingKey, &Known)> {
        self.0.iter().filter(|(_, known)| known.standing == Standing::Confirmed)
    }

    /// True while something waits for its second look.
    pub fn has_suspects(&self) -> bool {
        self.0.values().any(|known| known.standing == Standing::Suspected)
    }
}
