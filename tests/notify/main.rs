//! Notifications against real stores, the built binary, and doubles of what they are sent to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod away;
mod channels;
mod cluster;
mod commands;
mod cost;
mod double;
mod instance;
mod left;
mod outbox;
mod property;
mod refused;
mod returns;
mod running;
#[path = "../support/mod.rs"]
mod support;
mod throttle;
mod watched;
mod words;
