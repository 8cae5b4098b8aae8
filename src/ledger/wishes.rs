//! What operators want closed: stored before they are answered, read back by whoever leads next.
//!
//! A wish is no order. Its exit may have to wait for the broker's position book, and a leader that waits has journaled
//! nothing; without the wish in the ledger, a close that was taken would end with the term that took it. It does not
//! touch the position's version: the journal and the fills move that, a wish moves nothing.

use deadpool_postgres::Transaction;
use serde_json::json;

use super::planned::Planned;
use super::{LedgerError, audit};
use crate::domain::ids::PositionId;

/// An operator's wish to have a position closed; it holds until the position is flat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Which.
    pub position: PositionId,
    /// Who wants it.
    pub by: String,
    /// Why, as the exit's order will tell it.
    pub why: String,
}

pub(super) const WISH: &str = "UPDATE position SET close_by = $2, close_why = $3, close_at = now() WHERE id = $1 AND status <> 'closed'";

/// Stores a wish over any older one of its position. One whose position was closed meanwhile has come true.
pub(super) async fn write(tx: &Transaction<'_>, wish: &Wish) -> Result<(), LedgerError> {
    tx.run(WISH, &[&wish.position.0, &wish.by, &wish.why])
        .await
        .map_err(LedgerError::during("store what an operator wants closed"))?;
    let told = json!({ "position": wish.position, "why": wish.why });
    audit::append(tx, "close", &wish.by, &told).await
}
