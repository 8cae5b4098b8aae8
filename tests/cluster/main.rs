//! Whole clusters of real processes: the built binary thrice, real stores, the paper bridge, kills and pauses.
//!
//! Each test ends with the checker: the ledger against the bridge's own log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod books;
mod budget;
mod cash;
mod catalogue;
mod clock;
mod closing;
mod debugging;
mod deliveries;
mod doubt;
mod dry_run;
mod embedded;
mod errors;
mod failed_over;
mod failover;
mod faults;
mod feed;
mod halves;
mod handed;
mod idle_bench;
mod limits;
mod load;
mod metrics;
mod openapi;
mod operators;
mod outages;
mod overdue;
mod paused;
mod plans;
mod pool;
mod refused;
mod releases;
mod replay;
mod replayed;
mod resting;
mod rolling;
mod schema;
mod secured;
mod signals;
mod soak;
mod square_off;
mod stopping;
mod stops;
mod story;
mod strategies;
#[path = "../support/mod.rs"]
mod support;
mod switches;
mod takeover;
mod told_to_stop;
mod traces;
mod unsent;
mod upgrade;
mod vitals;
mod warm;
mod witness;
mod words;
