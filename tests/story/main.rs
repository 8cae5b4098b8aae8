//! `baton replay` and `baton demo`: the driver against a cluster of doubles, then the built binary against the
//! private cluster that it starts.

// Helpers of tests, where a panic is a failure told with its place.
#![allow(clippy::unwrap_used)]

mod binary;
mod double;
mod driver;
#[path = "../support/family.rs"]
mod family;
