//! What became of leadership, and of what is held, when an instance stopped.

use ha::{Epoch, Instance};

use crate::config::ExitPolicy;
use crate::engine::winddown::Step;

/// How an instance left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Parting {
    /// In order: nothing is left that somebody should see to at once.
    Settled(String),
    /// It led, nobody took over, and what the exit policy asks for was not done, or is not known to be.
    Unwatched(String),
}

impl Parting {
    /// Another instance leads.
    pub fn handed_over(to: &Instance, epoch: Epoch) -> Self {
        Self::Settled(format!(
            "it led; handed over to {} under epoch {epoch}, positions and their stops stay in place",
            to.member
        ))
    }

    /// Nobody took over, and the steps of the exit policy ended so.
    pub fn wound_down(policy: ExitPolicy, steps: &[Step]) -> Self {
        let outcomes: Vec<&str> = steps.iter().map(|step| step.outcome.as_str()).collect();
        let sentence = format!("nobody took over; exit policy {}: {}", policy.as_str(), outcomes.join("; "));
        match (steps.iter().all(|step| step.done), policy) {
            (false, _) => Self::Unwatched(sentence),
            (true, ExitPolicy::Flatten) => Self::Settled(sentence),
            (true, ExitPolicy::Hold) => Self::Settled(format!(
                "{sentence}; positions stay held as the exit policy says; nobody watches their stops"
            )),
        }
    }

    /// The end came before the exit policy was carried out.
    pub fn cut_off(why: &str, answerable: bool) -> Self {
        match answerable {
            true => Self::Unwatched(format!(
                "{why} before leadership was handed over or the exit policy carried out: what is held is not known, \
                 nor whether anybody watches its stops"
            )),
            false => Self::Settled(format!("{why}; another instance leads, or may")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn step(done: bool, outcome: &str) -> Step {
        Step { name: "close", done, outcome: outcome.to_owned(), took: Duration::ZERO }
    }

    #[test]
    fn one_step_that_was_not_done_leaves_positions_unwatched() {
        let cancelled = step(true, "no entry rests at the broker");
        let flat = Parting::wound_down(ExitPolicy::Flatten, &[cancelled.clone(), step(true, "flat")]);
        assert!(matches!(&flat, Parting::Settled(told) if told.ends_with("broker; flat")), "{flat:?}");
        let held =
            Parting::wound_down(ExitPolicy::Flatten, &[cancelled.clone(), step(false, "still held: 10")]);
        assert!(matches!(&held, Parting::Unwatched(told) if told.contains("still held: 10")), "{held:?}");
        let hold = Parting::wound_down(ExitPolicy::Hold, &[cancelled]);
        assert!(matches!(&hold, Parting::Settled(told) if told.contains("nobody watches")), "{hold:?}");
    }

    #[test]
    fn an_end_cut_short_is_an_alarm_for_a_leader_only() {
        assert!(matches!(Parting::cut_off("the budget was used up", true), Parting::Unwatched(_)));
        assert!(matches!(Parting::cut_off("the budget was used up", false), Parting::Settled(_)));
    }
}
