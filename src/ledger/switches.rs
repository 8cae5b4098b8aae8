//! The operator's switches: columns of the leadership row, enforced in the journal statement itself.

use serde::Serialize;

use super::planned::Planned;
use super::{Ledger, LedgerError};
use crate::domain::order::OrderClass;

/// What the operator forbids at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Switches {
    /// No entries and no signal exits.
    pub halted: bool,
    /// Halt, and no protective orders either.
    pub halt_all: bool,
    /// No entries.
    pub reduce_only: bool,
}

impl Switches {
    /// Says whether an order of `class` may be journaled. The journal statement holds the same table.
    pub fn allow(self, class: OrderClass) -> bool {
        match class {
            OrderClass::Entry => !(self.halted || self.halt_all || self.reduce_only),
            OrderClass::Exit => !(self.halted || self.halt_all),
            OrderClass::Protective => !self.halt_all,
            OrderClass::Operator => true,
        }
    }

    /// A sentence for people: which switch is on.
    pub fn sentence(self) -> &'static str {
        match (self.halt_all, self.halted, self.reduce_only) {
            (true, _, _) => "trading is halted, protective stops included",
            (false, true, _) => "trading is halted",
            (false, false, true) => "reduce-only: no entries",
            (false, false, false) => "no switch is on",
        }
    }
}

impl Ledger {
    /// Reads the switches.
    ///
    /// # Errors
    /// Any database error.
    pub async fn switches(&self) -> Result<Switches, LedgerError> {
        let row = self
            .client()
            .await?
            .row("SELECT halted, halt_all, reduce_only FROM leadership", &[])
            .await
            .map_err(LedgerError::during("read the switches"))?;
        Ok(Switches { halted: row.get(0), halt_all: row.get(1), reduce_only: row.get(2) })
    }
}
