//! The paper bridge over its real ports: shapes in both modes, errors, faults, streams. `R: B10`.

// Clippy lets tests unwrap, but does not count the functions that they share.
#![allow(clippy::unwrap_used)]

mod control;
mod errors;
mod faults;
mod fills;
mod many;
mod market_data;
mod public_client;
mod shapes;
mod stops;
mod stream;
mod support;
