//! The pyramiding state of an instrument: a digest of its open positions, kept in the ledger for people and for
//! the recovery check. It is always derived, so it cannot disagree with the positions unless the ledger was damaged.

use std::collections::{BTreeMap, HashMap, HashSet};

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
            positions.iter().filter(|position| position.is_held() && position.instrument == instrument);
        Self::of(instrument, held)
    }

    /// The states of every instrument that holds something, by name.
    pub fn derive_all(positions: &[Position]) -> Vec<Self> {
        let held = held_by_instrument(positions);
        held.into_iter().filter_map(|(name, held)| Self::of(name, held.into_iter())).collect()
    }

    /// The state that the held positions of one instrument give.
    fn of<'a>(instrument: &str, held: impl Iterator<Item = &'a Position>) -> Option<Self> {
        let base_label = Label::BASE.to_string();
        // A late fill on its way out may bear the label too: the position of the later signal is meant. Not by status,
        // which the journal statement changes without touching the stored state.
        let (bases, pyramids): (Vec<_>, Vec<_>) = held.partition(|position| position.label == base_label);
        let youngest =
            |positions: &[&'a Position]| positions.iter().copied().max_by_key(|position| age_order(position));
        let base = youngest(&bases);
        let last = youngest(&pyramids).or(base)?;
        Some(Self {
            instrument: instrument.to_owned(),
            base_position: base.map(|base| base.id),
            last_pyramid_price: last.entry_price,
            count: u32::try_from(pyramids.len()).unwrap_or(u32::MAX),
        })
    }
}

/// Parts what is held by instrument, in one pass: a recovery has no time to look through all positions once for each.
fn held_by_instrument(positions: &[Position]) -> BTreeMap<&str, Vec<&Position>> {
    let mut parted: BTreeMap<&str, Vec<&Position>> = BTreeMap::new();
    for position in positions.iter().filter(|position| position.is_held()) {
        parted.entry(&position.instrument).or_default().push(position);
    }
    parted
}

fn age_order(position: &Position) -> (DateTime<Utc>, i64, PositionId) {
    (position.entry_bar_time, position.entry_signal_seq, position.id)
}

/// Lists what is wrong with the stored states: orphans, missing rows, figures that the positions do not give; and
/// with the positions: labels used twice, more pyramids than the instrument allows.
pub fn faults(stored: &[PyramidingState], positions: &[Position], catalog: &Catalog) -> Vec<Fault> {
    let derived = PyramidingState::derive_all(positions);
    let mut faults = of_stored(stored, &derived);
    faults.extend(of_derived(&derived, stored, positions, catalog));
    faults.extend(labels_held_twice(positions));
    faults
}

fn at(instrument: &str, field: &str) -> String {
    format!("pyramiding {instrument}.{field}")
}

/// Stored states that are stored twice, or are not what the positions give.
fn of_stored(stored: &[PyramidingState], derived: &[PyramidingState]) -> Vec<Fault> {
    let derived: HashMap<&str, &PyramidingState> =
        derived.iter().map(|real| (real.instrument.as_str(), real)).collect();
    let mut seen = HashSet::new();
    let mut faults = Vec::new();
    for state in stored {
        let at = |field| at(&state.instrument, field);
        if !seen.insert(state.instrument.as_str()) {
            faults.push(Fault::new(at("instrument"), "is stored twice"));
        }
        let Some(real) = derived.get(state.instrument.as_str()) else {
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
    faults
}

/// Instruments that are held without a stored state, or with more pyramids than they allow.
fn of_derived(
    derived: &[PyramidingState],
    stored: &[PyramidingState],
    positions: &[Position],
    catalog: &Catalog,
) -> Vec<Fault> {
    let stored: HashSet<&str> = stored.iter().map(|state| state.instrument.as_str()).collect();
    let base_label = Label::BASE.to_string();
    // What is on its way out may be a late fill, which nobody was asked for.
    let mut pyramids: HashMap<&str, u32> = HashMap::new();
    for position in open(positions).filter(|position| position.label != base_label) {
        *pyramids.entry(&position.instrument).or_default() += 1;
    }
    let mut faults = Vec::new();
    for real in derived {
        let name = real.instrument.as_str();
        if !stored.contains(name) {
            faults.push(Fault::new(at(name, "instrument"), "is held, but has no stored state"));
        }
        let open = pyramids.get(name).copied().unwrap_or_default();
        if let Some(instrument) = catalog.get(name)
            && open > instrument.max_pyramids
        {
            let message = format!("is {open}, more than the {} allowed", instrument.max_pyramids);
            faults.push(Fault::new(at(name, "count"), message));
        }
    }
    faults
}

fn labels_held_twice(positions: &[Position]) -> Vec<Fault> {
    let mut held = HashSet::new();
    open(positions)
        .filter(|position| !held.insert((position.instrument.as_str(), position.label.as_str())))
        .map(|position| {
            Fault::new(
                format!("position {}.label", position.id),
                format!("{} of {} is held twice", position.label, position.instrument),
            )
        })
        .collect()
}

fn open(positions: &[Position]) -> impl Iterator<Item = &Position> {
    positions.iter().filter(|position| position.status == PositionStatus::Open)
}
