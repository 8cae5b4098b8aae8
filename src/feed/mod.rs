//! Live prices: gathered from whatever still gives some, each handed out with its source and its age.
//!
//! The [`board`] holds the latest price of every listing that somebody needs. The rungs of the ladder write to it:
//! [`poll`] asks the bridge over REST for what is not live. Readers never wait for a source and never take a price for
//! fresh without looking at its age: [`PriceBoard::freshness`] says what it is good for.

pub mod board;
pub mod poll;

pub use crate::domain::listing::Listing;
pub use board::{Ages, Freshness, PriceBoard, PriceSource, Priced};
