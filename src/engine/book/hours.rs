//! What is known to be closed, or in its closing auction, of what is held.

use chrono::{DateTime, Utc};
use ha::Moment;

use super::Book;
use crate::domain::auction;
use crate::domain::instrument::Catalog;
use crate::domain::position::Position;
use crate::domain::sessions::trading_day;

impl Book {
    /// True where an exchange is known to be closed at the wall-clock time `at`: by today's calendar, since yesterday's says
    /// nothing about today.
    pub fn is_closed(&self, exchange: &str, at: DateTime<Utc>) -> bool {
        let today = self.calendar.as_ref().filter(|calendar| calendar.day() == trading_day(at));
        today.is_some_and(|calendar| !calendar.is_open(exchange, at))
    }

    /// Notes which exchanges of held positions are known to be closed at the wall-clock time `at`. An exit that waits for its
    /// exchange is due the moment it opens.
    pub fn note_closed(&mut self, at: DateTime<Utc>, now: Moment) {
        let held = self.portfolio.held().map(|position| &position.exchange);
        let closed = held.filter(|exchange| self.is_closed(exchange, at)).cloned().collect();
        let before = std::mem::replace(&mut self.closed, closed);
        for position in &self.portfolio.positions {
            let opened = before.contains(&position.exchange) && !self.closed.contains(&position.exchange);
            if let Some(closing) = self.closing.get_mut(&position.id).filter(|_| opened) {
                closing.not_before = closing.not_before.min(now);
            }
        }
    }

    /// Notes which held contracts are said to be in their closing auction at the wall-clock time `at`.
    pub fn note_auctions(&mut self, catalog: &Catalog, at: DateTime<Utc>) {
        let calendar = self.calendar.as_deref();
        let held = self.portfolio.held().filter(|position| {
            let instrument = catalog.get(&position.instrument);
            let exchange = &position.exchange;
            instrument.is_some_and(|instrument| auction::holds_back(calendar, exchange, instrument, at))
        });
        self.auctions = held.map(Position::listing).collect();
    }
}
