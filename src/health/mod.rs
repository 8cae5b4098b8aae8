//! What the operator is told about this instance: its operational state, and whether all it depends on is well.

pub mod checks;
pub mod classify;
pub mod operational;
pub mod rounds;
pub mod warmth;
