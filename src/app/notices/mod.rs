//! What is told of the instance itself: its operational state, its checks, its part in the cluster, its start and stop.
//!
//! Watched values are read here, so that the rooms which set them need not know that anybody is told.

mod checks;
mod cluster;
mod state;

pub(super) use checks::{look_with_session, tell_checks};
pub(super) use cluster::tell_cluster;
pub(super) use state::tell_state;

use super::parting::Parting;
use crate::config::Config;
use crate::notify::{Event, Kind};

/// A start.
pub(super) fn started(config: &Config) -> Event {
    let (member, mode, version) =
        (&config.cluster.member, config.broker.mode.as_str(), env!("CARGO_PKG_VERSION"));
    let warnings: String = config.warnings().iter().map(|warning| format!("; {warning}")).collect();
    Event::new(Kind::Started, format!("{member} started: version {version}, mode {mode}{warnings}"))
}

/// A stop, told when it is known what became of it.
pub(super) fn stopped(member: &str, signal: &str, parting: &Parting) -> Event {
    match parting {
        Parting::Settled(what) => Event::new(Kind::Stopped, format!("{member} stopped on {signal}: {what}")),
        Parting::Unwatched(what) => Event::about(
            Kind::PositionsUnwatched,
            member,
            format!("{member} stopped on {signal}: {what}; see RUNBOOK.md#positions_unwatched"),
        ),
    }
}
