//! DOCS
#![forbid(unsafe_code)]

mod action;
mod canonical;
mod config;
mod explore;
mod liveness;
mod mutant;
mod property;
pub mod scenario;
mod state;
mod step;

pub use action::Action;
pub use config::{Class, Config, FAULTS, Fault, Remedy, Slot, Timing};
pub use explore::{Cluster, Trace};
pub use liveness::Stuck;
pub use mutant::Mutant;
pub use property::*;
pub use state::State;
