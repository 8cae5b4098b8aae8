//! Plays the rows of an export, one after the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use rust_decimal::Decimal;

use super::client::{Client, PositionAnswer, SignalAnswer};
use super::error::Error;
use super::price::PriceControl;
use super::progress::Progress;
use super::report::{Leg, Report, Trade};
use crate::domain::export::{ExportEvent, ExportTrade, ReplayDefaults, timeline};
use crate::domain::money::{Price, Quantity};
use crate::domain::order::Side;

/// Statuses that a late fill may still change to `executed`.
const REVISABLE: [&str; 3] = ["abandoned", "not_sent", "rejected"];

/// How much is played, and how long one step may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Play only the first so many rows; none plays all.
    pub rows: Option<usize>,
    /// The longest that one row may need to be accepted, and then to become final. An order in doubt takes at least
    /// the cluster's settle time (`broker.settle_ms`, 3 minutes unless set).
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: None, patience: Duration::from_secs(300) }
    }
}

/// A replay, ready to run.
#[derive(Debug)]
pub struct Replay {
    /// The cluster.
    pub client: Client,
    /// The instrument that the rows are of, e.g. `GOLD_MINI`.
    pub instrument: String,
    /// What the export does not say.
    pub defaults: ReplayDefaults,
    /// The paper bridge whose price follows the rows; without it the market is taken as it is.
    pub price: Option<PriceControl>,
    /// Bounds.
    pub limits: Limits,
}

impl Replay {
    /// Plays the trades in the order of their time and reports. A row that the webhook refuses is reported as
    /// `invalid` and the replay goes on; anything that makes going on pointless ends it.
    ///
    /// # Errors
    /// The time line cannot be made, the token is refused, no instance answers within the patience, a signal does not
    /// become final, or the price cannot be set.
    pub async fn run(&self, trades: &[ExportTrade], progress: &dyn Progress) -> Result<Report, Error> {
        let begun = Instant::now();
        let events = timeline(trades)?;
        let events = &events[..self.limits.rows.unwrap_or(events.len()).min(events.len())];
        progress.begins(events.len());
        let mut legs = Vec::with_capacity(events.len());
        for event in events {
            let leg = self.play(event, progress).await?;
            legs.push(leg);
            progress.leg(legs.len(), &legs[legs.len() - 1]);
        }
        self.revise(&mut legs, progress).await?;
        let positions = self.positions(&legs).await?;
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let instrument = self.instrument.clone();
        Ok(Report { instrument, positions, legs, elapsed_ms, ..Report::default() }.summed())
    }

    async fn play(&self, event: &ExportEvent<'_>, progress: &dyn Progress) -> Result<Leg, Error> {
        let moves_on = |address: &str, why: &str| progress.moves_on(address, why);
        if let Some(price) = &self.price {
            price.set(event.leg.price, 0).await?;
        }
        let row = event.id();
        let mut leg = Leg {
            row: row.clone(),
            trade: event.trade.number,
            signal: None,
            status: "invalid".to_owned(),
            side: if event.is_exit { Side::Sell } else { Side::Buy },
            quantity: Quantity::ZERO,
            price: None,
            wanted: event.leg.price,
            orders: Vec::new(),
            reasons: Vec::new(),
        };
        let payload = || event.payload(&self.instrument, &self.defaults, Utc::now());
        match self.client.post(payload, self.limits.patience, &moves_on).await {
            Ok(accepted) => {
                let signal =
                    self.client.finished(&accepted.id, &row, self.limits.patience, &moves_on).await?;
                leg.take(signal);
            }
            // The row itself is at fault: the others may still be fine.
            Err(Error::Refused { status: 400 | 413 | 422, detail, .. }) => leg.reasons.push(detail),
            Err(error) => return Err(error),
        }
        Ok(leg)
    }

    /// An order that was given up may have been filled after all: such signals are read once more at the end.
    async fn revise(&self, legs: &mut [Leg], progress: &dyn Progress) -> Result<(), Error> {
        let moves_on = |address: &str, why: &str| progress.moves_on(address, why);
        for leg in legs.iter_mut().filter(|leg| REVISABLE.contains(&leg.status.as_str())) {
            if let Some(id) = leg.signal.clone() {
                let signal = self.client.finished(&id, &leg.row, self.limits.patience, &moves_on).await?;
                leg.take(signal);
            }
        }
        Ok(())
    }

    async fn positions(&self, legs: &[Leg]) -> Result<Vec<Trade>, Error> {
        // Other senders may trade on this cluster, too; theirs are left out below.
        let limit = (2 * legs.len()).max(100);
        let mut found = self.client.positions("closed", limit, self.limits.patience).await?;
        found.extend(self.client.positions("open", limit, self.limits.patience).await?);
        let mut by_signal: HashMap<String, Vec<PositionAnswer>> = HashMap::new();
        for position in found {
            by_signal.entry(position.entry_signal.to_string()).or_default().push(position);
        }
        let mut trades = Vec::new();
        for leg in legs {
            let opened = leg.signal.as_ref().and_then(|signal| by_signal.remove(signal));
            trades.extend(opened.into_iter().flatten().map(|position| trade(&leg.row, &position)));
        }
        Ok(trades)
    }
}

impl Leg {
    fn take(&mut self, signal: SignalAnswer) {
        (self.quantity, self.price) = signal.filled();
        self.orders = signal.orders.iter().map(|order| order.state.clone()).collect();
        self.reasons = signal.sentences();
        self.status = signal.status;
        self.signal = Some(signal.id);
    }
}

fn trade(row: &str, position: &PositionAnswer) -> Trade {
    let sold = Quantity(position.entry_quantity.0 - position.quantity.0);
    // realised = (exit − entry) · units sold / lot size · point value
    let rupees_per_point = sold.decimal() / position.lot_size.decimal() * position.point_value.0;
    let exit_price = (rupees_per_point > Decimal::ZERO)
        .then(|| Price(position.entry_price.0 + position.realised.0 / rupees_per_point).rounded());
    Trade {
        row: row.to_owned(),
        label: position.label.clone(),
        status: position.status,
        quantity: position.entry_quantity,
        held: position.quantity,
        entry_price: position.entry_price,
        exit_price,
        realised: position.realised,
    }
}
