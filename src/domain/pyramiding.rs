//! The pyramiding state of an instrument: a digest of its open positions, kept in the ledger for people and for
//! the recovery check. It is always derived, so it cannot disagree with the positions unless the ledger was damaged.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::ids::PositionId;
use super::instrument::Catalog;
use super::label::Label;
use super::money::Price;
use super::position::{Position, PositionStatus};

/// How far an instrument is built up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PyramidingState {
    /// The instrument's name.
    pub instrument: String,
    /// The open base; none when an EXIT closed it and pyramids stayed.
    pub base_position: Option<PositionId>,
    /// Entry price of the youngest open pyramid, else of the base.
    pub last_pyramid_price: Price,
    /// Open pyramids.
    pub count: u32,
}

impl PyramidingState {
    /// The state that `positions` give for `instrument`; none when nothing of it is held. The youngest pyramid is
    /// the one whose signal came last.
    pub fn derive(instrument: &str, positions: &[Position]) -> Option<Self> {
        let held =
            || positions.iter().filter(|position| position.is_held() && position.instrument == instrument);
        let base_label = Label::BASE.to_string();
        // A late fill on its way out may bear the label a second time: the open one is meant, then the oldest.
        let base = held()
            .filter(|position| position.label == base_label)
            .min_by_key(|position| (position.status != PositionStatus::Open, age_order(position)));
        let pyramids = || held().filter(|position| position.label != base_label);
        let last = pyramids().max_by_key(|position| age_order(position)).or(base)?;
        Some(Self {
            instrument: instrument.to_owned(),
            base_position: base.map(|base| base.id),
            last_pyramid_price: last.entry_price,
            count: u32::try_from(pyramids().count()).unwrap_or(u32::MAX),
        })
    }

    /// The states of every instrument that holds something, by name.
    pub fn derive_all(positions: &[Position]) -> Vec<Self> {
        let mut names: Vec<&str> = positions
            .iter()
            .filter(|position| position.is_held())
            .map(|position| position.instrument.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| Self::derive(name, positions)).collect()
    }
}

fn age_order(position: &Position) -> (DateTime<Utc>, i64, PositionId) {
    (position.entry_bar_time, position.entry_signal_seq, position.id)
}

/// Lists what is wrong with the stored states: orphans, missing rows, figures that the positions do not give; and
/// with the positions: labels used twice, more pyramids than the instrument allows.
pub fn faults(stored: &[PyramidingState], positions: &[Position], catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    let derived = PyramidingState::derive_all(positions);
    for (place, state) in stored.iter().enumerate() {
        let at = |field: &str| format!("pyramiding {}.{field}", state.instrument);
        if stored[..place].iter().any(|earlier| earlier.instrument == state.instrument) {
            faults.push(Fault::new(at("instrument"), "is stored twice"));
        }
        let Some(real) = derived.iter().find(|real| real.instrument == state.instrument) else {
            faults.push(Fault::new(at("instrument"), "is stored, but nothing of it is held"));
            continue;
        };
        if state.base_position != real.base_position {
            let show = |id: Option<PositionId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
            let message =
                format!("DB={}, Calculated={}", show(state.base_position), show(real.base_position));
            faults.push(Fault::new(at("base_position"), message));
        }
        if state.last_pyramid_price != real.last_pyramid_price {
            let message = format!("DB={}, Calculated={}", state.last_pyramid_price, real.last_pyramid_price);
            faults.push(Fault::new(at("last_pyramid_price"), message));
        }
        if state.count != real.count {
            faults.push(Fault::new(at("count"), format!("DB={}, Calculated={}", state.count, real.count)));
        }
    }
    for real in &derived {
        let at = |field: &str| format!("pyramiding {}.{field}", real.instrument);
        if !stored.iter().any(|state| state.instrument == real.instrument) {
            faults.push(Fault::new(at("instrument"), "is held, but has no stored state"));
        }
        // What is on its way out may be a late fill, which nobody was asked for.
        let open = positions.iter().filter(|position| {
            position.status == PositionStatus::Open
                && position.instrument == real.instrument
                && position.label != Label::BASE.to_string()
        });
        let open = u32::try_from(open.count()).unwrap_or(u32::MAX);
        if let Some(instrument) = catalog.get(&real.instrument)
            && open > instrument.max_pyramids
        {
            let message = format!("is {open}, more than the {} allowed", instrument.max_pyramids);
            faults.push(Fault::new(at("count"), message));
        }
    }
    let open: Vec<_> = positions.iter().filter(|position| position.status == PositionStatus::Open).collect();
    for (place, position) in open.iter().enumerate() {
        let twice =
            |other: &&Position| other.instrument == position.instrument && other.label == position.label;
        if open[..place].iter().any(twice) {
            faults.push(Fault::new(
                format!("position {}.label", position.id),
                format!("{} of {} is held twice", position.label, position.instrument),
            ));
        }
    }
    faults
}
