//! What is made of each frame that is heard: ticks go to the board, news of orders become notes, answers to the
//! subscriptions. Neither waits, neither queues.

use std::sync::Arc;

use ha::Moment;

use super::frames::{self, Incoming};
use super::session::End;
use super::subscriptions::Subscriptions;
use crate::feed::{OrderNews, PriceBoard, PriceSource};
use crate::telemetry::metrics::Metrics;

/// The hearing of one socket.
pub(super) struct Ear {
    board: PriceBoard,
    news: OrderNews,
    metrics: Arc<Metrics>,
    /// What it listens for.
    pub subscriptions: Subscriptions,
    /// A tick came on this socket.
    pub ticked: bool,
    /// A price has woken who watches the board, since somebody looked.
    woke: bool,
}

impl Ear {
    pub fn new(board: PriceBoard, news: OrderNews, metrics: Arc<Metrics>) -> Self {
        let subscriptions = Subscriptions::default();
        Self { board, news, metrics, subscriptions, ticked: false, woke: false }
    }

    /// Says whether a price has woken who watches the board, since the last call.
    pub fn has_woken(&mut self) -> bool {
        std::mem::take(&mut self.woke)
    }

    /// Takes a frame that arrived at `now`; true for the first tick.
    pub fn hear(&mut self, text: &str, now: Moment) -> Result<bool, End> {
        match frames::read(text) {
            Ok(Incoming::Tick { exchange, symbol, price, volume }) => {
                self.metrics.feed_ticks.inc();
                if let Some(listing) = self.subscriptions.heard(&exchange, &symbol, price, now) {
                    self.woke |= self.board.record(listing, price, PriceSource::Live, now);
                    self.board.tape().note(listing, price, volume);
                    return Ok(!std::mem::replace(&mut self.ticked, true));
                }
            }
            Ok(Incoming::Order { order_id, status }) => {
                self.metrics.feed_order_updates.inc();
                tracing::debug!(%order_id, %status, "the order stream has news");
                self.news.note();
            }
            Ok(Incoming::Subscribed(rows)) => {
                for row in rows {
                    if let Some(why) = self.subscriptions.answered(&row, now) {
                        tracing::warn!(listing = %row.listing, "LIVE FEED refuses {}: {why}", row.listing);
                    }
                }
            }
            Ok(Incoming::Refused { code, message }) if is_the_sockets_end(&code) => {
                return Err(End::Refused { code: code.into_owned(), message: message.into_owned() });
            }
            Ok(Incoming::Refused { code, message }) => {
                tracing::warn!(%code, %message, "LIVE FEED refuses a request");
            }
            Ok(Incoming::Authenticated | Incoming::Other) => {}
            Err(error) => {
                self.metrics.feed_unreadable.inc();
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a frame of the feed cannot be read"
                );
            }
        }
        Ok(false)
    }
}

/// Refusals after which nothing comes on this socket: its authentication or its broker is gone.
fn is_the_sockets_end(code: &str) -> bool {
    matches!(
        code,
        "AUTHENTICATION_ERROR"
            | "NOT_AUTHENTICATED"
            | "BROKER_ERROR"
            | "BROKER_INIT_ERROR"
            | "BROKER_CONNECTION_ERROR"
            | "SERVER_ERROR"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_frame_that_cannot_be_read_is_counted_and_ends_nothing() {
        let metrics = Arc::new(Metrics::new());
        let mut ear = Ear::new(PriceBoard::default(), OrderNews::default(), Arc::clone(&metrics));
        let now = Moment::since_boot(Duration::from_secs(1));
        for frame in ["{\"type\":", "no JSON"] {
            assert!(!ear.hear(frame, now).unwrap_or(true));
        }
        assert_eq!(metrics.feed_unreadable.get(), 2);
        assert!(!ear.hear("{\"type\":\"something new\"}", now).unwrap_or(true));
        assert_eq!(metrics.feed_unreadable.get(), 2, "what is not for us is no fault");
    }
}
