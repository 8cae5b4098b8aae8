//! The command line, driven as operators and scripts drive it: the built binary, its output and its exit codes.

mod config;
mod errors;
mod paper;
mod status;
mod support;
