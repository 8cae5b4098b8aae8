//! The account's day and the exchanges' calendar: kept while leading, judged by every entry, latched in the ledger.

use std::time::Duration;

use super::term::{Term, wall_clock};
use crate::domain::limits::{Day, DayFigures, hit, is_latched};
use crate::domain::money::Rupees;
use crate::domain::refusal::Refusal;
use crate::domain::sessions::{day_start, trading_day};
use crate::feed::Freshness;
use crate::ledger::LedgerError;

/// How often the day is looked at.
const LOOK: Duration = Duration::from_millis(250);

impl Term<'_> {
    /// Turns the day, opens it, and latches the limits that are hit.
    pub(super) async fn keep_day(&mut self) -> Result<(), LedgerError> {
        let now = self.fence().now();
        let date = trading_day(wall_clock());
        let turned = self.book.day.as_ref().is_none_or(|day| day.date != date);
        if turned {
            let day = self.ask_pool(|| self.engine.ledger.day(date, day_start(date))).await?;
            tracing::info!(%date, orders = day.orders, latched = day.latched.len(), "the account's day");
            self.book.day = Some(day);
        } else if now < self.next_day_look {
            return Ok(());
        }
        self.next_day_look = now.plus(LOOK);
        self.keep_market();
        self.keep_square_off();
        self.keep_off_expiry();
        self.book.strategies = self.engine.strategies.load();
        let Some(equity) = self.live_equity() else { return Ok(()) };
        let Some(Day { opening, .. }) = self.book.day else { return Ok(()) };
        let opening = match opening {
            Some(opening) => opening,
            None => self.ask_pool(|| self.engine.ledger.open_day(self.fence(), date, equity)).await?,
        };
        let Some(day) = &mut self.book.day else { return Ok(()) };
        day.opening = Some(opening);
        let figures = DayFigures {
            opening_equity: opening,
            equity,
            equity_high: self.book.portfolio.equity_high,
            open_positions: 0,
            orders: day.orders,
            consecutive_stop_outs: day.stop_outs,
        };
        let limits = &self.engine.rules.policy.limits;
        let fresh = hit(limits, &figures).into_iter().filter(|refusal| is_latched(refusal.code));
        let fresh: Vec<Refusal> =
            fresh.filter(|refusal| !day.latched.iter().any(|known| known.code == refusal.code)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.ask_pool(|| self.engine.ledger.latch(self.fence(), date, &fresh)).await?;
        for refusal in &fresh {
            self.engine.metrics.limit_hits.with_label_values(&[refusal.code]).inc();
            tracing::warn!(
                code = refusal.code,
                "[STATE] no entries for the rest of {date}: {}",
                refusal.sentence
            );
        }
        if let Some(day) = &mut self.book.day {
            day.latched.extend(fresh);
        }
        Ok(())
    }

    /// Entries wait for the day's opening equity, which takes a price of everything that is held.
    pub(super) fn day_is_open(&self) -> bool {
        self.book.day.as_ref().is_some_and(|day| day.opening.is_some())
    }

    /// Closed equity and the unrealised of everything held; none while a price is missing or dead.
    fn live_equity(&self) -> Option<Rupees> {
        let (prices, now) = (&self.engine.prices, self.fence().now());
        let mut equity = self.book.closed_equity();
        for position in self.book.portfolio.held() {
            let priced = prices.get(&position.listing())?;
            if prices.ages().judge(now.since(priced.at)) == Freshness::Dead {
                return None;
            }
            equity += position.unrealised(priced.price);
        }
        Some(equity)
    }

    /// Takes over what is known of the day's market.
    fn keep_market(&mut self) {
        let now = self.fence().now();
        // Before they are looked at: what is known by then belongs to it.
        let asked = self.engine.hours.is_asked() && self.engine.contracts.is_asked();
        self.book.note_closed(wall_clock(), now);
        if let Some(calendar) = self.engine.hours.calendar() {
            self.book.calendar = Some(calendar);
        }
        self.book.holidays = self.engine.hours.holidays();
        self.book.note_auctions(&self.engine.rules.catalog, wall_clock());
        self.book.contracts = self.engine.contracts.known();
        self.book.market_asked = asked;
    }
}
