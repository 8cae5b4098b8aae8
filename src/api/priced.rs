//! What a held position is worth now, by the price it is watched by. The leader alone watches prices: what another
//! instance may remember from when it led says nothing of now.

use std::time::Duration;

use ha::{BootClock, Clock, Moment, Role};
use serde_json::{Value, json};

use super::Context;
use crate::domain::position::Position;
use crate::feed::{Feeds, Priced};

/// The prices that positions are watched by.
pub(super) struct Prices<'a> {
    /// None where this instance does not watch any.
    watched: Option<&'a Feeds>,
    now: Moment,
}

impl<'a> Prices<'a> {
    /// What this instance watches now.
    pub fn of(context: &'a Context) -> Self {
        let leads = context.handle().is_ok_and(|handle| matches!(*handle.role().borrow(), Role::Leader(_)));
        Self { watched: context.feeds().ok().filter(|_| leads), now: BootClock.now() }
    }

    /// `watched`, where this instance leads, or `unknown here`.
    pub fn word(&self) -> &'static str {
        if self.watched.is_some() { "watched" } else { "unknown here" }
    }

    /// Adds price, source, age and unrealised profit to what is shown of a position; null for what is not known.
    pub fn add_to(&self, shown: &mut Value, position: &Position) {
        let priced = self.watched.and_then(|feeds| feeds.prices.get(&position.listing()));
        shown["current_price"] = json!(priced.map(|priced| priced.price));
        shown["price_source"] = json!(priced.map(|priced| priced.source.as_str()));
        shown["price_age_seconds"] = json!(priced.map(|priced| seconds(self.now.since(priced.at))));
        shown["unrealised_pnl"] = json!(priced.and_then(|priced| profit(position, priced)));
    }
}

#[cfg(test)]
impl<'a> Prices<'a> {
    pub(super) fn watched(feeds: &'a Feeds, now: Moment) -> Self {
        Self { watched: Some(feeds), now }
    }

    pub(super) fn unknown(now: Moment) -> Self {
        Self { watched: None, now }
    }
}

/// To the paisa; none for a row whose figures are out of range, which a recovery has not seen yet.
fn profit(position: &Position, priced: Priced) -> Option<rust_decimal::Decimal> {
    let points = priced.price.0.checked_sub(position.entry_price.0)?;
    let value = points.checked_mul(position.quantity.decimal())?.checked_mul(position.point_value.0)?;
    Some(value.checked_div(position.lot_size.decimal())?.round_dp(2))
}

/// An age, to the millisecond.
pub(super) fn seconds(age: Duration) -> f64 {
    (age.as_secs_f64() * 1000.0).round() / 1000.0
}
