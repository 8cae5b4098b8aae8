//! L2: from every reachable state some instance can lead again, with nothing done to the cluster any more.
//!
//! stateright's `eventually` is decided at terminal states only and knows no cycles, so this is a pass of its own over
//! the whole graph: backwards from the states in which somebody leads, along the steps that a cluster takes by itself.
//! No restart is among them, and no half-open session of a lost host ends by itself.

use std::collections::HashMap;
use std::time::Instant;

use crate::action::Action;
use crate::explore::Cluster;
use crate::property::is_led;
use crate::state::{Instance, Life, Owner, Role, State};

/// States from which nobody can lead any more.
#[derive(Clone, Debug)]
pub struct Stuck {
    /// How many there are.
    pub states: usize,
    /// The shortest way to one.
    pub steps: Vec<Action>,
    /// What it looks like.
    pub state: State,
}

struct Node {
    state: State,
    from: u32,
    by: Action,
}

impl Cluster {
    /// The states from which nobody can lead again though somebody is there who should; none is what is wanted.
    pub fn stuck(&self) -> Option<Stuck> {
        let begun = Instant::now();
        let first = State::first(&self.config);
        let mut numbers: HashMap<State, u32> = HashMap::default();
        let mut nodes = vec![Node { state: first, from: 0, by: Action::Tick }];
        numbers.insert(first, 0);
        let mut backwards: Vec<(u32, u32)> = Vec::new();
        let mut at = 0;
        while at < nodes.len() {
            let state = nodes[at].state;
            let here = number(at);
            for (step, next) in self.following(&state) {
                let fresh = number(nodes.len());
                let there = *numbers.entry(next).or_insert(fresh);
                if there == fresh {
                    nodes.push(Node { state: next, from: here, by: step });
                }
                if self.is_own(&state, step) {
                    backwards.push((there, here));
                }
            }
            at += 1;
        }
        drop(numbers);
        backwards.sort_unstable();
        let mut good: Vec<bool> = nodes.iter().map(|node| is_led(&node.state)).collect();
        let mut open: Vec<u32> = (0..number(nodes.len())).filter(|n| good[*n as usize]).collect();
        while let Some(there) = open.pop() {
            let begin = backwards.partition_point(|(to, _)| *to < there);
            for (_, here) in backwards[begin..].iter().take_while(|(to, _)| *to == there) {
                if !std::mem::replace(&mut good[*here as usize], true) {
                    open.push(*here);
                }
            }
        }
        let bad: Vec<usize> =
            (0..nodes.len()).filter(|n| !good[*n] && somebody_should(&nodes[*n].state)).collect();
        println!(
            "{}: L2 over {} states and {} steps, {} stuck, {:.1?}",
            self.config.name,
            nodes.len(),
            backwards.len(),
            bad.len(),
            begun.elapsed()
        );
        let nearest = *bad.first()?;
        let mut steps = Vec::new();
        let mut n = nearest;
        while n != 0 {
            steps.push(nodes[n].by);
            n = nodes[n].from as usize;
        }
        steps.reverse();
        Some(Stuck { states: bad.len(), steps, state: nodes[nearest].state })
    }
}

impl Cluster {
    /// A step that the cluster takes by itself. A leader in office is not put to sleep: it beats before time passes.
    fn is_own(&self, state: &State, step: Action) -> bool {
        match step {
            Action::Tick => {
                let sleepy = |i: &Instance| i.role == Role::Lead && i.deadline < self.config.timing.validity;
                !state.at.iter().any(|i| sleepy(i) && state.serves(i.pin).is_some())
            }
            Action::SessionEnds(sid) => {
                let session = state.session(sid);
                session.life == Life::Dying || session.owner != Owner::Ended
            }
            step => step.is_progress(),
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// There is a process that was not told to go, and that could trade.
fn somebody_should(state: &State) -> bool {
    state.at.iter().any(|i| i.is_up() && !i.leaving && i.link)
}
