//! What a custodian may go by: the positions whose own rows contradict nothing, and the contracts of the others.

use std::collections::HashSet;

use super::{CrashRecoveryManager, Recovered, Severity, validate};
use crate::domain::money::Quantity;
use crate::domain::position::{HoldingKey, Position};
use crate::ledger::LedgerError;

/// A position whose row cannot be believed.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The row's key.
    pub id: String,
    /// Its configured instrument.
    pub instrument: String,
    /// Its contract, as far as the row says.
    pub contract: HoldingKey,
    /// Units that the row holds.
    pub quantity: Quantity,
    /// What is wrong with it.
    pub why: String,
}

/// Damaged state, parted into what a position's stop can be watched by and what it cannot.
#[derive(Debug)]
pub struct Salvaged {
    /// The believable positions, and the orders that are known.
    pub recovered: Recovered,
    /// The others; of a row that is gone, what its orders say.
    pub suspects: Vec<Suspect>,
    /// Not every order of ours is known.
    pub orders_lost: bool,
    /// Not every position is known.
    pub positions_lost: bool,
}

impl CrashRecoveryManager {
    /// Reads what can be read of damaged state. A position is believed when no finding is about its row, and its stop
    /// stands where the audit log put it.
    ///
    /// # Errors
    /// The database is away.
    pub async fn salvage(&self) -> Result<Salvaged, LedgerError> {
        let salvage = self.ledger.salvage().await?;
        let mut snapshot = salvage.snapshot;
        let findings = validate::findings(&snapshot, self.capital, &self.catalog);
        let ids: Vec<_> = snapshot.positions.iter().map(|position| position.id).collect();
        let stops = match self.ledger.recorded_stops(&ids).await {
            Ok(stops) => stops,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "[RECOVERY] the audit log proves no stop: none is watched"
                );
                Default::default()
            }
        };
        let wrong = |position: &Position| {
            let id = position.id.to_string();
            let about = |finding: &&super::Finding| {
                // What a position was charged says nothing of what is held, nor of its stop.
                finding.table == "position"
                    && finding.row == id
                    && finding.field != "charges"
                    && finding.severity == Severity::Critical
            };
            if let Some(finding) = findings.iter().find(about) {
                return Some(finding.to_string());
            }
            match stops.get(&position.id) {
                Some(stop) if *stop == position.current_stop => None,
                Some(stop) => {
                    Some(format!("its stop is {}, the audit log put it at {stop}", position.current_stop))
                }
                None => Some("the audit log knows nothing of its stop".to_owned()),
            }
        };
        let mut suspects = Vec::new();
        let mut believed = HashSet::new();
        for position in &snapshot.positions {
            match wrong(position) {
                None => {
                    believed.insert(position.id);
                }
                Some(why) => suspects.push(Suspect {
                    id: position.id.to_string(),
                    instrument: position.instrument.clone(),
                    contract: HoldingKey {
                        symbol: position.symbol.clone(),
                        exchange: position.exchange.clone(),
                        product: position.product,
                    },
                    quantity: position.quantity,
                    why,
                }),
            }
        }
        // Sums are made over what is believed alone: the other figures may be anything.
        snapshot.positions.retain(|position| believed.contains(&position.id));
        // Nobody may have asked for it: then this row is what is wrong with its position.
        snapshot.wishes.retain(|wish| believed.contains(&wish.position));
        let portfolio = Recovered::portfolio(&mut snapshot, self.capital);
        let recovered = Recovered { snapshot, portfolio, first_time: false, warnings: findings };
        let (orders_lost, positions_lost) = (salvage.orders_lost, salvage.positions_lost);
        Ok(Salvaged { recovered, suspects, orders_lost, positions_lost })
    }
}
