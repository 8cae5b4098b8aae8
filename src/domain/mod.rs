//! The trading domain, pure: no I/O, no async, no clock, no SQL.
//!
//! Callers pass in what they read (signals, quotes, the portfolio, the time) and get decisions back.

pub mod ids;
pub mod money;
pub mod order;
pub mod position;
