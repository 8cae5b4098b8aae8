//! What watches Baton, for real: Prometheus and Alertmanager as child processes beside a cluster of real agents.
//!
//! `ops/setup --ops` fetches the programs; without them these tests say so and end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerts;
mod drills;
mod panels;
mod receiver;
#[path = "../cluster/signals.rs"]
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod watch;
