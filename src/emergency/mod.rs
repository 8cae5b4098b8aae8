//! An operator's emergency close while PostgreSQL is gone: the one order that no epoch authorises (HA.md rule 16, S2's
//! exception).
//!
//! What stands in for the ledger, in this order:
//!
//! 1. A mark in Redis per symbol ([`mark`]): one host at a time, and a leader that comes back leaves the symbol alone.
//! 2. Evidence that nobody trades ([`evidence`]): PostgreSQL does not answer, no leader's lease was seen for longer than
//!    one lives, and every instance that is registered says that it does not lead. Gathered after the mark was set, so a
//!    leader that led at that moment shows itself.
//! 3. The broker's book, verified ([`books`]): the order is never more than it holds less every sale that still works.
//! 4. A line in a local journal ([`journal`]), on the disk before the first byte leaves. A line without an end is in
//!    doubt: the symbol is not sold again from here before the broker's books have told.
//!
//! [`all`] goes through everything that is held. When PostgreSQL is back, the instance that owns the journal file imports it ([`import`]).

pub mod all;
pub mod books;
pub mod close;
pub mod evidence;
pub mod import;
pub mod journal;
pub mod mark;
