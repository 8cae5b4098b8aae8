//! The bridge client against a raw TCP double (transport faults) and against the paper bridge (behaviour).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod dns;
mod double;
mod ear;
mod faults;
mod feed_matrix;
mod matrix;
#[path = "../support/names.rs"]
mod names;
mod paper;
mod reads;
mod reads_matrix;
mod stream_matrix;
mod support;
mod tls;
