//! Explores a configuration with stateright and says what it found.

use std::fmt::Write as _;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::{Action, all, is_worth_trying};
use crate::config::Config;
use crate::property;
use crate::state::State;
use crate::step::take;

/// A configuration as stateright sees it.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) config: Config,
    steps: Vec<Action>,
    /// What comes after every order has its end is left to the configurations without orders.
    stops_at_the_end: bool,
}

/// The way to a state in which a property does not hold: the shortest there is.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Which property.
    pub property: &'static str,
    /// Step by step.
    pub steps: Vec<Action>,
}

impl Cluster {
    /// Prepares an exploration.
    pub fn new(config: Config) -> Self {
        let steps = all(&config);
        let stops_at_the_end = !config.slots.is_empty();
        Self { config, steps, stops_at_the_end }
    }

    /// The steps that a state allows, each with the state it leads to.
    pub(crate) fn following(&self, state: &State) -> impl Iterator<Item = (Action, State)> {
        let state = *state;
        let steps = self.steps.iter().filter(move |step| is_worth_trying(&state, **step));
        steps.filter_map(move |step| Some((*step, take(&self.config, &state, *step)?)))
    }

    /// Explores every reachable state.
    ///
    /// # Panics
    /// When a property does not hold somewhere; the message is the shortest way there.
    pub fn holds(self) {
        let name = self.config.name;
        let begun = Instant::now();
        let checker =
            self.checker().finish_when(HasDiscoveries::AnyFailures).threads(threads()).spawn_bfs().join();
        let states = checker.unique_state_count();
        println!("{name}: {states} states, depth {}, {:.1?}", checker.max_depth(), begun.elapsed());
        let mut broken = String::new();
        for (property, path) in checker.discoveries() {
            let _ = writeln!(broken, "{property}:");
            for step in path.into_actions() {
                let _ = writeln!(broken, "  {step:?}");
            }
        }
        assert!(broken.is_empty(), "{name}: broken after {states} states\n{broken}");
    }

    /// Looks for a state in which `property` does not hold, the nearest first.
    pub fn breaks(self, property: &'static str) -> Option<Trace> {
        let name = format!("{} without {:?}", self.config.name, self.config.mutant);
        let begun = Instant::now();
        let wanted = HasDiscoveries::AnyOf([property].into());
        let checker = self.checker().finish_when(wanted).spawn_bfs().join();
        let states = checker.unique_state_count();
        let steps = checker.discovery(property)?.into_actions();
        let last: Vec<String> = steps.iter().rev().take(6).rev().map(|step| format!("{step:?}")).collect();
        println!(
            "{name}: {property} fails after {} steps ({states} states, {:.1?}): … {}",
            steps.len(),
            begun.elapsed(),
            last.join(", ")
        );
        Some(Trace { property, steps })
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(2))
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.config)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.stops_at_the_end && property::is_finished(&self.config, state) {
            return;
        }
        actions.extend(self.steps.iter().copied().filter(|step| is_worth_trying(state, *step)));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        take(&self.config, state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::all()
            .into_iter()
            .filter(|property| !self.config.excepted.contains(&property.name))
            .collect()
    }
}
