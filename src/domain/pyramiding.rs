//! The pyramiding state of an instrument: a digest of its open positions, kept in the ledger for people and for
//! the recovery check. It is always derived, so it cannot disagree with the positions unless the ledger was damaged.

use std::collections::{HashMap, HashSet};

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
        let mut layers = Layers::default();
        positions
            .iter()
            .filter(|position| position.is_held() && position.instrument == instrument)
            .for_each(|position| layers.add(position));
        layers.state(instrument)
    }

    /// The states of every instrument that holds something, by name.
    pub fn derive_all(positions: &[Position]) -> Vec<Self> {
        let held = held_by_instrument(positions);
        let mut states: Vec<Self> = held.iter().filter_map(|(name, layers)| layers.state(name)).collect();
        states.sort_unstable_by(|a, b| a.instrument.cmp(&b.instrument));
        states
    }
}

/// What is held of one instrument.
#[derive(Default)]
struct Layers<'a> {
    /// A late fill on its way out may bear the label too: the position of the later signal is meant. Not by status,
    /// which the journal statement changes without touching the stored state.
    base: Option<&'a Position>,
    youngest: Option<&'a Position>,
    pyramids: u32,
    /// Without those on their way out: they may be late fills, which nobody was asked for.
    open_pyramids: u32,
    /// It has a stored state.
    stored: bool,
}

impl<'a> Layers<'a> {
    fn add(&mut self, position: &'a Position) {
        let last = if is_base(position) {
            &mut self.base
        } else {
            self.pyramids += 1;
            self.open_pyramids += u32::from(position.status == PositionStatus::Open);
            &mut self.youngest
        };
        if last.is_none_or(|last| age_order(position) >= age_order(last)) {
            *last = Some(position);
        }
    }

    fn base_position(&self) -> Option<PositionId> {
        self.base.map(|base| base.id)
    }

    fn last_price(&self) -> Option<Price> {
        self.youngest.or(self.base).map(|last| last.entry_price)
    }

    fn state(&self, instrument: &str) -> Option<PyramidingState> {
        Some(PyramidingState {
            instrument: instrument.to_owned(),
            base_position: self.base_position(),
            last_pyramid_price: self.last_price()?,
            count: self.pyramids,
        })
    }
}

fn is_base(position: &Position) -> bool {
    position.label.parse::<Label>() == Ok(Label::BASE)
}

/// Parts what is held by instrument, in one pass: a recovery has no time to look through all positions once for each.
fn held_by_instrument(positions: &[Position]) -> HashMap<&str, Layers<'_>> {
    let mut parted: HashMap<&str, Layers<'_>> = HashMap::with_capacity(positions.len());
    for position in positions.iter().filter(|position| position.is_held()) {
        parted.entry(&position.instrument).or_default().add(position);
    }
    parted
}

fn age_order(position: &Position) -> (DateTime<Utc>, i64, PositionId) {
    (position.entry_bar_time, position.entry_signal_seq, position.id)
}

/// Lists what is wrong with the stored states: orphans, missing rows, figures that the positions do not give; and
/// with the positions: labels used twice, more pyramids than the instrument allows.
pub fn faults(stored: &[PyramidingState], positions: &[Position], catalog: &Catalog) -> Vec<Fault> {
    let mut held = held_by_instrument(positions);
    let mut faults = of_stored(stored, &mut held);
    faults.extend(of_held(&held, catalog));
    faults.extend(labels_held_twice(positions));
    faults
}

fn at(instrument: &str, field: &str) -> String {
    format!("pyramiding {instrument}.{field}")
}

/// Stored states that are stored twice, or are not what the positions give; marks what is stored in `held`.
fn of_stored(stored: &[PyramidingState], held: &mut HashMap<&str, Layers<'_>>) -> Vec<Fault> {
    let mut unheld = HashSet::new();
    let mut faults = Vec::new();
    for state in stored {
        let name = state.instrument.as_str();
        let at = |field| at(name, field);
        let layers = held.get_mut(name);
        let twice = match &layers {
            Some(layers) => layers.stored,
            None => !unheld.insert(name),
        };
        if twice {
            faults.push(Fault::new(at("instrument"), "is stored twice"));
        }
        let Some(layers) = layers else {
            faults.push(Fault::new(at("instrument"), "is stored, but nothing of it is held"));
            continue;
        };
        layers.stored = true;
        if state.base_position != layers.base_position() {
            let show = |id: Option<PositionId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
            let (stored, real) = (show(state.base_position), show(layers.base_position()));
            faults.push(Fault::new(at("base_position"), format!("DB={stored}, Calculated={real}")));
        }
        if let Some(real) = layers.last_price().filter(|real| state.last_pyramid_price != *real) {
            let message = format!("DB={}, Calculated={real}", state.last_pyramid_price);
            faults.push(Fault::new(at("last_pyramid_price"), message));
        }
        if state.count != layers.pyramids {
            let message = format!("DB={}, Calculated={}", state.count, layers.pyramids);
            faults.push(Fault::new(at("count"), message));
        }
    }
    faults
}

/// Instruments that are held without a stored state, or with more pyramids than they allow, by name.
fn of_held(held: &HashMap<&str, Layers<'_>>, catalog: &Catalog) -> Vec<Fault> {
    let mut unlike: Vec<(&str, &Layers<'_>)> = held
        .iter()
        .filter(|(_, layers)| !layers.stored || layers.open_pyramids > 0)
        .map(|(name, layers)| (*name, layers))
        .collect();
    unlike.sort_unstable_by_key(|(name, _)| *name);
    let mut faults = Vec::new();
    for (name, layers) in unlike {
        if !layers.stored {
            faults.push(Fault::new(at(name, "instrument"), "is held, but has no stored state"));
        }
        let open = layers.open_pyramids;
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
    let mut held = HashSet::with_capacity(positions.len());
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
