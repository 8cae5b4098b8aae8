//! The account's day and the exchanges' calendar: kept while leading, judged by every entry, latched in the ledger.
//!
//! Limits are judged by what the account is worth. A price that is dead for deciding still says what a holding is worth for a
//! while ([`Ages::worth`](crate::feed::Ages::worth)); beyond that nobody knows, entries wait, and what the day's sales have
//! realised is judged alone: the brake must not fail while a price is missing.

use std::time::Duration;

use ha::Moment;
use rust_decimal::prelude::ToPrimitive;

use super::book::Book;
use super::tell;
use super::term::{Term, wall_clock};
use crate::domain::limits::{CODES, Day, DayFigures, hit, is_latched, used};
use crate::domain::money::Rupees;
use crate::domain::policy::AccountLimits;
use crate::domain::position::Position;
use crate::domain::refusal::Refusal;
use crate::domain::sessions::{day_start, trading_day};
use crate::ledger::LedgerError;
use crate::telemetry::metrics::Metrics;

/// How often the day is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// For how long entries go on while nobody knows what the account is worth: a new leader has no price for a moment.
const GRACE: Duration = Duration::from_secs(10);

/// Whether it is known what the account is worth.
#[derive(Debug)]
pub(super) struct Worth {
    /// When it was known last, or nobody had looked yet.
    known: Moment,
}

impl Worth {
    pub fn new(now: Moment) -> Self {
        Self { known: now }
    }

    /// Takes what a look found.
    pub fn look(&mut self, is_known: bool, now: Moment) {
        if is_known {
            self.known = now;
        }
    }

    /// Entries wait: a limit might be hit, and nobody could tell.
    pub fn is_unknown(&self, now: Moment) -> bool {
        now.since(self.known) > GRACE
    }
}

impl Book {
    /// The day so far, by the equity now; none before it is known. Before the day was opened its loss is what it has realised, of
    /// the closed equity that it began with.
    pub(super) fn figures(&self, equity: Option<Rupees>) -> Option<DayFigures> {
        let day = self.day.as_ref()?;
        Some(DayFigures {
            opening_equity: day.opening.unwrap_or(self.closed_equity() - day.realised),
            equity: equity.filter(|_| day.opening.is_some()),
            realised: day.realised,
            equity_high: self.portfolio.equity_high,
            open_positions: u32::try_from(self.portfolio.held().count()).unwrap_or(u32::MAX),
            orders: day.orders,
            consecutive_stop_outs: day.stop_outs,
        })
    }

    /// Limits that are hit and not latched yet, by the equity now; none where it is not known.
    pub(super) fn hits(&self, limits: &AccountLimits, equity: Option<Rupees>) -> Vec<Refusal> {
        let (Some(day), Some(figures)) = (&self.day, self.figures(equity)) else { return Vec::new() };
        let is_news =
            |hit: &Refusal| is_latched(hit.code) && !day.latched.iter().any(|known| known.code == hit.code);
        hit(limits, &figures).into_iter().filter(is_news).collect()
    }
}

/// Shows which limits are latched; none for an instance that does not lead.
pub(super) fn show_latched(metrics: &Metrics, latched: &[Refusal]) {
    for code in CODES {
        let is_on = latched.iter().any(|limit| limit.code == code);
        metrics.limit_latched.with_label_values(&[code]).set(i64::from(is_on));
    }
}

/// Shows how much is held and how much of each limit is used, in shares: metrics are open, and hold no amounts. Nothing of it for
/// an instance that does not lead.
pub(super) fn show_used(metrics: &Metrics, limits: &AccountLimits, figures: Option<&DayFigures>) {
    let shares = figures.map(|figures| used(limits, figures)).unwrap_or_default();
    for code in CODES {
        let share = shares.iter().find(|(of, _)| *of == code).and_then(|(_, share)| share.to_f64());
        metrics.limit_used.with_label_values(&[code]).set(share.unwrap_or(0.0));
    }
    metrics.positions_held.set(figures.map_or(0, |figures| figures.open_positions.into()));
}

impl Term<'_> {
    /// Turns the day, opens it, and latches the limits that are hit.
    pub(super) async fn keep_day(&mut self) -> Result<(), LedgerError> {
        let now = self.fence().now();
        let date = trading_day(wall_clock());
        let turned = self.book.day.as_ref().is_none_or(|day| day.date != date);
        if turned {
            let day = self.ask_pool(|| self.engine.ledger.day(date, day_start(date))).await?;
            tracing::info!(%date, orders = day.orders, latched = day.latched.len(), "the account's day");
            if let Some(before) = self.book.day.replace(day) {
                tell::latches_end(&before, &self.engine.notifier);
            }
        } else if now < self.next_day_look {
            return Ok(());
        }
        self.next_day_look = now.plus(LOOK);
        self.keep_market();
        self.keep_square_off();
        self.keep_off_expiry();
        self.book.strategies = self.engine.strategies.load();
        let ages = self.engine.prices.ages();
        let live = self.equity(ages.dead);
        let worth = live.or_else(|| self.equity(ages.worth()));
        self.worth.look(worth.is_some(), now);
        if let (Some(Day { opening: None, .. }), Some(equity)) = (&self.book.day, live) {
            let opened = self.ask_pool(|| self.engine.ledger.open_day(self.fence(), date, equity)).await?;
            if let Some(day) = &mut self.book.day {
                day.opening = Some(opened);
            }
        }
        let limits = &self.engine.rules.policy.limits;
        show_used(&self.engine.metrics, limits, self.book.figures(worth).as_ref());
        let fresh = self.book.hits(limits, worth);
        if !fresh.is_empty() {
            self.ask_pool(|| self.engine.ledger.latch(self.fence(), date, &fresh)).await?;
        }
        for refusal in &fresh {
            tell::latched(date, refusal, &self.engine.metrics, &self.engine.notifier);
        }
        if let Some(day) = &mut self.book.day {
            day.latched.extend(fresh);
            show_latched(&self.engine.metrics, &day.latched);
        }
        Ok(())
    }

    /// Entries wait for the day's opening equity, which takes a price of everything that is held.
    pub(super) fn day_is_open(&self) -> bool {
        self.book.day.as_ref().is_some_and(|day| day.opening.is_some())
    }

    /// Closed equity and the unrealised of everything held; none while something has no price that came within `age`.
    fn equity(&self, age: Duration) -> Option<Rupees> {
        let (prices, now) = (&self.engine.prices, self.fence().now());
        let price_of = |held: &Position| prices.price_within(&held.exchange, &held.symbol, age, now);
        self.book.portfolio.open_equity_by(price_of)
    }

    /// Takes over what is known of the day's market.
    fn keep_market(&mut self) {
        let now = self.fence().now();
        // Before they are looked at: what is known by then belongs to it.
        let asked = self.engine.hours.is_asked() && self.engine.contracts.is_asked();
        if let Some(calendar) = self.engine.hours.calendar() {
            self.book.calendar = Some(calendar);
        }
        self.book.note_closed(wall_clock(), now);
        self.book.holidays = self.engine.hours.holidays();
        self.book.note_auctions(&self.engine.rules.catalog, wall_clock());
        self.book.contracts = self.engine.contracts.known();
        self.book.market_asked = asked;
    }
}
