//! The operational state of this process: what an operator is told it is doing, and why.

pub mod operational;
