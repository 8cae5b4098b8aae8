//! Replay: a TradingView export, played into a running cluster as the signals it would have sent.
//!
//! The export's rows go through the real webhook in the order of their time, the next when the former is final, so
//! that a replay is a run of the whole product and its outcome can be compared with another run's. The cluster may
//! lose instances at any moment meanwhile: a [`Client`] knows several addresses and goes on with the next one, which
//! is safe because a row's signal carries the row's id as its key. Posting it again is the same signal.
//!
//! A replay decides nothing about trading: prices come from the export (and are given to the paper bridge first, if
//! there is one), sizes and refusals from the cluster.

mod addresses;
mod client;
mod driver;
mod error;
mod price;
mod progress;
mod report;

pub use addresses::Addresses;
pub use client::{Accepted, Client, OrderAnswer, PositionAnswer, SignalAnswer};
pub use driver::{Limits, Replay};
pub use error::Error;
pub use price::PriceControl;
pub use progress::Progress;
pub use report::{Leg, Report, Trade};
