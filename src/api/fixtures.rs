//! What the tests of monitoring answers share.

use std::time::Duration;

use ha::Moment;
use tokio::sync::watch;

use crate::broker::dns::Resolver;
use crate::broker::session::{Session, SessionState};
use crate::feed::poll::Rung;
use crate::feed::{ContractData, Feeds, Hours, LiveStatus, OrderNews, PriceBoard};

/// The time of the answers.
pub(super) const WALL: &str = "2026-01-05T09:00:00Z";

/// The same on the boot-time clock.
pub(super) fn now() -> Moment {
    Moment::since_boot(Duration::from_secs(1000))
}

/// A feed that is switched off, a session in this state, prices from there; one address is known.
pub(super) async fn feeds(state: SessionState, rung: Rung) -> Feeds {
    let wall = WALL.parse().unwrap();
    let session = Session { state, reason: "as the test has it".to_owned(), since: wall, proven: Some(wall) };
    let resolver = Resolver::default();
    resolver.resolve("127.0.0.1").await.unwrap();
    Feeds {
        prices: PriceBoard::new(),
        news: OrderNews::default(),
        live: watch::Sender::new(LiveStatus { network_errors: 3, ..LiveStatus::default() }).subscribe(),
        rung: watch::Sender::new(rung).subscribe(),
        session: watch::Sender::new(session).subscribe(),
        hours: Hours::default(),
        contracts: ContractData::default(),
        resolver,
    }
}
