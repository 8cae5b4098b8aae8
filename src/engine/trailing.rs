//! What a bar does to stops: it is judged beside the market first, since a stop that went up never comes down again.
//!
//! Each position is judged by itself: two contracts of one instrument have a price each. A bar that is refused for all of them
//! is refused; one that moves some says in its reasons which it left, and why.

use super::book::{Book, Queued};
use super::decide::{Decision, Rules, unknown_instrument};
use super::term::Term;
use crate::domain::divergence::{Market, judge_bar};
use crate::domain::instrument::Instrument;
use crate::domain::money::Price;
use crate::domain::portfolio::Quotes;
use crate::domain::position::Position;
use crate::domain::refusal::Refusal;
use crate::domain::signal::MarketData;

/// Decides a bar, by the fresh prices of what is held of its instrument.
pub(super) fn decide(
    rules: &Rules,
    book: &Book,
    queued: &Queued,
    bar: &MarketData,
    fresh: &Quotes,
) -> Decision {
    let name = &queued.signal.instrument;
    let Some(instrument) = rules.catalog.get(name) else {
        return Decision::Refuse(vec![unknown_instrument(name)], None);
    };
    // A bar that comes late says nothing about what was bought after it closed.
    let meant = book
        .portfolio
        .held_of(name)
        .filter(|held| (held.entry_bar_time, held.entry_signal_seq) < (queued.signal.bar_time, queued.seq));
    let (mut moved, mut refusals, mut judged) = (Vec::new(), Vec::new(), false);
    for held in meant {
        match trailed(rules, instrument, held, bar, fresh.get(&held.exchange, &held.symbol)) {
            Ok(position) => {
                judged = true;
                moved.extend(position);
            }
            Err(refusal) if refusals.contains(&refusal) => {}
            Err(refusal) => refusals.push(refusal),
        }
    }
    if judged || refusals.is_empty() {
        Decision::Trail(moved, refusals)
    } else {
        Decision::Refuse(refusals, None)
    }
}

/// The position after a bar; none when the bar changes nothing.
fn trailed(
    rules: &Rules,
    instrument: &Instrument,
    held: &Position,
    bar: &MarketData,
    live: Option<Price>,
) -> Result<Option<Position>, Refusal> {
    let market = Market { live, highest_close: held.highest_close };
    judge_bar(&rules.policy.divergence, bar.price, market)?;
    let mut position = held.clone();
    let (raised, ceiling) =
        (position.trail(bar.price, bar.atr, instrument.atr_trailing), market.ceiling(bar.price));
    if raised && position.current_stop >= ceiling {
        let Position { label, current_stop, .. } = &position;
        return Err(Refusal::new(
            "STOP_AT_MARKET",
            format!(
                "by this bar the stop of {label} would be at {current_stop}, not below the market at {ceiling}; it stays at {}",
                held.current_stop
            ),
        ));
    }
    Ok(Some(position).filter(|position| raised || position.highest_close != held.highest_close))
}

impl Term<'_> {
    /// The prices of what is held of an instrument that are fresh now.
    pub(super) fn fresh_prices(&self, instrument: &str) -> Quotes {
        let held = self.book.portfolio.held_of(instrument).map(Position::listing);
        let prices = &self.engine.prices;
        prices.quotes(held, prices.ages().stale, self.fence().now())
    }
}
