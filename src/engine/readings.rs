//! When the broker's books are read: soon after an order was acknowledged or the order stream has news, seldom when nothing
//! is open. One reading at a time, in a task of its own.

use std::time::Duration;

use ha::Moment;

use super::evidence::Reading;
use super::term::{Event, Term};
use crate::broker::Books;

/// The first wait for a fill after an acknowledgement; doubled up to the configured poll.
pub(super) const FIRST_POLL: Duration = Duration::from_millis(20);
/// How often the books are read when nothing is open: foreign orders become known.
const IDLE_POLL: Duration = Duration::from_secs(5);
/// What a row of the books costs in time between two readings. Bridges hand out the whole day's, and each row is work for
/// both ends: after thousands of orders, readings that followed each other at once would leave no time for anything else.
const ROW_PACE: Duration = Duration::from_micros(20);
/// The longest time that this makes.
const PACE_AT_MOST: Duration = Duration::from_millis(250);
/// Between two readings that the order stream asks for: others may trade on the account, and the bridge's request limit is
/// shared.
const NEWS_GAP: Duration = Duration::from_millis(200);

impl Term<'_> {
    /// Begins a reading whose time has come, unless one is on its way.
    pub(super) fn read_books_if_due(&mut self) {
        let now = self.fence().now();
        if now < self.reading_due() || self.reading.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (engine, sender) = (self.engine.clone(), self.sender.clone());
        let begun = self.fence().now();
        self.reading = Some(tokio::spawn(async move {
            let books = Reading::take(&engine, begun).await;
            // Gone with the term.
            let _ = sender.send(Event::Books(books)).await;
        }));
        self.last_reading = now;
        self.news = false;
        // The answer sets the next one; this is for a reading that never answers.
        self.next_reading = now.plus(IDLE_POLL);
    }

    /// When the next reading may begin, if none is on its way.
    pub(super) fn reading_due(&self) -> Moment {
        self.next_reading.max(self.last_reading.plus(self.reading_pace))
    }

    /// Notes how much a reading had to tell.
    pub(super) fn pace_readings(&mut self, books: &Books) {
        self.reading_pace = pace_of(books.orders.len() + books.trades.len() + books.foreign.len());
    }

    /// After a reading: soon again while something is open and moving, seldom otherwise.
    pub(super) fn plan_next_reading(&mut self, moved: bool) {
        let now = self.fence().now();
        let awaited = self.book.wants_books()
            || self.at_broker.is_moving(&self.book)
            || !self.lost_exits.is_empty()
            || self.proof.is_wanted();
        if !awaited {
            self.poll = FIRST_POLL;
            self.next_reading = now.plus(IDLE_POLL);
        } else {
            self.poll = if moved { FIRST_POLL } else { (self.poll * 2).min(self.engine.pace.poll) };
            self.next_reading = now.plus(self.poll);
        }
        self.read_books_for_news();
    }

    /// News that no reading has begun after hasten the next one: the stream is no evidence, the books are.
    pub(super) fn read_books_for_news(&mut self) {
        if self.news {
            self.next_reading = self.next_reading.min(self.last_reading.plus(NEWS_GAP));
        }
    }

    /// An order was acknowledged or got in doubt: the books have news.
    pub(super) fn read_books_soon(&mut self) {
        self.poll = FIRST_POLL;
        self.next_reading = self.fence().now();
    }
}

/// The shortest time from the beginning of a reading of so many rows to the next one's.
fn pace_of(rows: usize) -> Duration {
    (ROW_PACE * u32::try_from(rows).unwrap_or(u32::MAX)).min(PACE_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_days_books_are_read_at_once_until_they_are_long() {
        assert_eq!(pace_of(0), Duration::ZERO);
        assert!(pace_of(500) < FIRST_POLL, "an ordinary day's are not held back");
        assert_eq!(pace_of(5_000), Duration::from_millis(100));
        assert_eq!((pace_of(1_000_000), pace_of(usize::MAX)), (PACE_AT_MOST, PACE_AT_MOST));
    }
}
