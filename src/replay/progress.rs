//! What a replay tells while it runs.

use super::report::Leg;

/// Watches a replay; every method may be left out. `()` watches nothing.
pub trait Progress: Send + Sync {
    /// It begins with so many rows.
    fn begins(&self, _rows: usize) {}

    /// A row's signal is final; `done` of the rows are.
    fn leg(&self, _done: usize, _leg: &Leg) {}

    /// An instance did not do; the next address is tried.
    fn moves_on(&self, _address: &str, _why: &str) {}
}

impl Progress for () {}
