//! The command line, driven as operators and scripts drive it: the built binary, its output and its exit codes.

// Helpers of tests, where a panic is a failure told with its place.
#![allow(clippy::unwrap_used)]

mod books;
mod config;
mod desk;
mod doctor;
mod drill;
mod errors;
mod events;
mod golden;
mod pages;
mod paper;
mod properties;
#[path = "../support/golden.rs"]
mod reviewed;
mod secrets;
mod status;
mod support;
