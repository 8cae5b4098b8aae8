//! Whole clusters of real processes: the built binary thrice, real stores, the paper bridge, kills and pauses.
//!
//! Each test ends with the checker: the ledger against the bridge's own log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;
mod deliveries;
mod doubt;
mod failover;
mod faults;
mod metrics;
mod paused;
mod replay;
mod signals;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod warm;
mod witness;
