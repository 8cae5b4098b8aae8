//! Live prices: gathered from whatever still gives some, each handed out with its source and its age.
//!
//! The [`board`] holds the latest price of every listing that somebody needs. The rungs of the ladder write to it:
//! [`live`] hears the bridge's WebSocket, [`poll`] asks over REST for what is not live. Readers never wait for a source
//! and never take a price for fresh without looking at its age: [`PriceBoard::freshness`] says what it is good for.
//!
//! ```text
//! live ticks ─▶ REST quotes ─▶ the last known price ─▶ dead: entries that need it are frozen
//! ```

pub mod board;
pub mod contracts;
pub mod hours;
pub mod live;
pub mod news;
pub mod poll;
pub mod tape;

pub use crate::domain::listing::Listing;
pub use board::{Ages, Freshness, PriceBoard, PriceSource, Priced, Sighted};
pub use contracts::ContractData;
pub use hours::Hours;
pub use live::{Endpoint, Live, LiveState, LiveStatus};
pub use news::OrderNews;
pub use tape::Tape;

use tokio::sync::watch;

use crate::broker::dns::Resolver;
use crate::broker::session::Session;
use poll::Rung;

/// Everything that the feed gives; cheap to clone.
#[derive(Clone)]
pub struct Feeds {
    /// Live prices.
    pub prices: PriceBoard,
    /// Reasons to read the books.
    pub news: OrderNews,
    /// How the live feed is.
    pub live: watch::Receiver<LiveStatus>,
    /// Where the prices come from.
    pub rung: watch::Receiver<Rung>,
    /// The broker session.
    pub session: watch::Receiver<Session>,
    /// When the market is open.
    pub hours: Hours,
    /// What is known of today's contracts.
    pub contracts: ContractData,
    /// What is known of names.
    pub resolver: Resolver,
}
