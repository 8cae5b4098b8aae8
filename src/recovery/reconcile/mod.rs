//! The ledger's positions against the broker's position book.
//!
//! Fills make positions, and the order and trade books show fills; but what is traded by hand, squared off by the
//! broker or lost with a day's books shows in the position book alone. The invariants, each with its tests:
//!
//! - R1 What was not verified is unknown, never flat: without a position book *and* a live session there is no
//!   comparison, no drift and no agreement.
//! - R2 Compared is the sum of all positions per symbol, exchange and product; rows of the book that name one key
//!   twice are added up.
//! - R3 A contract with an order under way or in doubt, or that changed while the book was read, is *unsettled*:
//!   neither drift nor agreement. What was known of it stays.
//! - R4 What the book holds and the ledger never traded is *foreign*: told, never touched, no drift.
//! - R5 A difference is *suspected* at first and *confirmed* by a second look with the same figures, later by at least
//!   the settling time: brokers cache their books for a second.
//! - R6 A suspected contract lets entries wait; a confirmed one refuses them. An exit sells at most what the book holds
//!   less what other exits may still sell.
//! - R7 The same inputs give the same rows in the same order.
//! - R8 Orders are compared for people only: nothing follows from it. What moved while the book was read is under way.

mod compare;
mod orders;
mod standing;
mod watch;

#[cfg(test)]
mod tests;

pub use compare::{DiffRow, Verdict, allowance, compare, held_by_broker};
pub use orders::{OrderRow, OrderVerdict};
pub use standing::{Drift, Known, Standing};
pub use watch::{PositionDiff, ReconcileError, Reconciler, Report};
