//! The configured strategies that watch the market, and what runs them.

use std::sync::Arc;

use crate::config::{Config, Strategy as Configured};
use crate::engine::Engine;
use crate::engine::runner::{Outlooks, Plugged, Runner};
use crate::strategy::Strategy;
use crate::strategy::breakout::Breakout;

/// What runs them while this instance leads.
pub(super) fn runner(config: &Arc<Config>, engine: Engine, outlooks: Outlooks) -> Runner {
    let config = Arc::clone(config);
    let make =
        move || config.strategies.iter().filter_map(|(name, configured)| plug(name, configured)).collect();
    Runner { engine, make: Box::new(make), outlooks }
}

fn plug(name: &str, configured: &Configured) -> Option<Plugged> {
    let Configured::SessionVwap { instrument, thresholds } = configured else { return None };
    let strategy = Breakout::new(name, (**instrument).clone(), *thresholds);
    let listing = strategy.watches()?.clone();
    let (name, instrument) = (name.to_owned(), instrument.name.clone());
    Some(Plugged { name, instrument, listing, strategy: Box::new(strategy) })
}
