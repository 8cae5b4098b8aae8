//! What black-box tests share: private stores, real processes of the built binary, and the checker.
//!
//! Nothing here waits by the clock alone: a wait names the condition it wants, looks again every few milliseconds and
//! panics with what it last saw when its deadline has passed. What is drawn at random comes from a printed seed.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod charges;
pub mod checker;
pub mod cluster;
pub mod collector;
pub mod database;
pub mod faketime;
pub mod family;
pub mod member;
pub mod names;
pub mod paper;
pub mod process;
pub mod proxy;
pub mod seed;
pub mod stalls;
pub mod wait;
pub mod witness;
