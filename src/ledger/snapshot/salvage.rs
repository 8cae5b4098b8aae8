//! What of damaged state can still be read: each table on its own, so that one that cannot be read takes no other along.
//!
//! Not a snapshot of one instant, and not whole: nobody trades by it. A custodian learns from it which positions the
//! broker's book can be held against, and which orders are known.

use super::{Depth, Faults, Snapshot, charges, entries, proofs, realised, state};
use crate::ledger::{Ledger, LedgerError};

/// Damaged state, as far as it can be read.
#[derive(Debug)]
pub struct Salvage {
    /// What was read; nothing of a table that cannot be.
    pub snapshot: Snapshot,
    /// Not every order of ours is known: what the broker has may be ours all the same.
    pub orders_lost: bool,
    /// Not every position is known.
    pub positions_lost: bool,
}

/// Runs one read in a transaction of its own; gives what it found, and whether that is all of it.
macro_rules! apart {
    ($client:expr, $read:expr) => {{
        let faults = Faults::default();
        let begin = $client.build_transaction().read_only(true).start().await;
        let tx = begin.map_err(LedgerError::during("begin to read what is left"))?;
        let found = $read(&tx, &faults).await;
        // Read only: what a failed one leaves behind is rolled back with it.
        drop(tx);
        match found {
            Ok(found) => (found, faults.none().is_ok()),
            Err(error) => match faults.cause().unwrap_or(error) {
                error if error.is_transient() => return Err(error),
                error => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "[RECOVERY] a table cannot be read"
                    );
                    (Default::default(), false)
                }
            },
        }
    }};
}

impl Ledger {
    /// Reads what can be read of damaged state.
    ///
    /// # Errors
    /// The database is away.
    pub async fn salvage(&self) -> Result<Salvage, LedgerError> {
        let mut client = self.client().await?;
        let (positions, all_positions) = apart!(client, state::positions);
        let (intents, all_intents) = apart!(client, state::intents);
        let (filled, all_fills) = apart!(client, |tx, faults| state::fills(tx, &intents, faults));
        let (portfolio, _) = apart!(client, state::stored_portfolio);
        let (moved, _) = apart!(client, state::moved);
        let (closed, _) = apart!(client, state::closed);
        let (pyramids, _) = apart!(client, state::pyramids);
        let (switches, _) = apart!(client, state::switches);
        let (claimed_orders, all_claims) = apart!(client, state::claimed);
        let (foreign_orders, all_foreign) = apart!(client, state::foreign);
        let (orders, _) = apart!(client, proofs::orders);
        let (unasked, _) = apart!(client, proofs::unasked);
        let (orphans, _) = apart!(client, |tx, faults| proofs::orphans(tx, Depth::Open, faults));
        let (wishes, _) = apart!(client, state::wishes);
        let ((_, recorded), _) = apart!(client, |tx, faults| proofs::audit(tx, Depth::Open, faults));
        let mut strayed = entries::strayed(&positions, &orders.entries);
        strayed.extend(unasked);
        let snapshot = Snapshot {
            realised: closed.realised + realised(&positions),
            charges: closed.charges + charges(&positions),
            positions,
            intents,
            filled: filled.into_iter().collect(),
            portfolio,
            moved,
            movements: None,
            days: Default::default(),
            charged: None,
            pyramids,
            switches,
            claimed_orders,
            foreign_orders: foreign_orders.into_iter().collect(),
            position_fills: orders.fills,
            strayed,
            off_orders: Vec::new(),
            lifted: Vec::new(),
            orphans,
            wishes,
            // Whoever salvages has found worse.
            audit: Vec::new(),
            recorded,
        };
        let orders_lost = !(all_intents && all_fills && all_claims && all_foreign);
        Ok(Salvage { snapshot, orders_lost, positions_lost: !all_positions })
    }
}
