//! What fills and closed positions were charged, one by one, to be held against the audit log, which tells each of them.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{Depth, Faults, each};
use crate::domain::ids::{IntentId, PositionId};
use crate::domain::money::{Quantity, Rupees};
use crate::ledger::LedgerError;
use crate::ledger::cells::Cells;

/// A fill, and what its row says that it was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargedFill {
    /// Its order.
    pub intent: IntentId,
    /// The position that its order names.
    pub position: PositionId,
    /// The order's filled quantity after it.
    pub cumulative: Quantity,
    /// Rupees; none where that was not known.
    pub charges: Option<Rupees>,
}

/// A closed position, and what its row says that it was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargedPosition {
    /// The position.
    pub id: PositionId,
    /// Rupees.
    pub charges: Rupees,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChargedRows {
    /// Every fill.
    pub fills: Vec<ChargedFill>,
    /// Every position that is closed.
    pub closed: Vec<ChargedPosition>,
}

/// Reads them; none of a takeover, which has time for the sums of what is held alone.
pub(super) async fn charged(
    tx: &Transaction<'_>,
    depth: Depth,
    faults: &Faults,
) -> Result<Option<ChargedRows>, LedgerError> {
    if depth == Depth::Open {
        return Ok(None);
    }
    let sql = "SELECT f.intent_id, f.cumulative, f.charges, o.position_id FROM fill f
        JOIN order_intent o ON o.id = f.intent_id ORDER BY f.intent_id, f.cumulative";
    let fills = each(tx, sql, "fetch what fills were charged", faults, |row| {
        let mut cells = Cells::keyed(row, "fill");
        let fill = ChargedFill {
            intent: IntentId(cells.get::<Uuid>("intent_id")),
            cumulative: Quantity(cells.get("cumulative")),
            charges: cells.get("charges"),
            position: PositionId(cells.get::<Uuid>("position_id")),
        };
        cells.finish(fill)
    })
    .await?;
    let sql = "SELECT id, charges FROM position WHERE status = 'closed' ORDER BY id";
    let closed = each(tx, sql, "fetch what closed positions were charged", faults, |row| {
        let mut cells = Cells::keyed(row, "position");
        let id = PositionId(cells.get::<Uuid>("id"));
        let position = ChargedPosition { id, charges: cells.get("charges") };
        cells.finish(position)
    })
    .await?;
    Ok(Some(ChargedRows { fills, closed }))
}
