//! Crash recovery through the built binary: whole state, tampered state, a database that is away, and what is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod attempts;
mod bench;
mod codes;
mod custody;
mod damages;
mod drift;
mod emergency;
mod faults;
mod hints;
mod instant;
mod interrupted;
mod mended;
mod movements;
mod orders;
mod repairs;
mod restored;
#[path = "../support/golden.rs"]
mod reviewed;
mod scenarios;
mod seeded;
#[path = "../cluster/signals.rs"]
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod unreadable;
mod unseen;
