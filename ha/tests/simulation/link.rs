//! The network between a process and a store: latency, messages that are late, cuts of one or both directions
//! (what is sent meanwhile arrives after the heal, as TCP has it), and a host that is gone.

use std::cell::Cell;

use crate::world::{MICRO, MILLI, World};

#[derive(Default)]
pub struct Link {
    /// Messages to the store are held until then.
    pub out_cut_until: Cell<u64>,
    /// Messages from the store are held until then.
    pub in_cut_until: Cell<u64>,
    /// The host is gone: nothing arrives any more, in either direction, and nobody is told.
    pub lost: Cell<bool>,
    /// Every message is this much later, until then.
    pub slow: Cell<(u64, u64)>,
}

impl Link {
    /// When a message sent now arrives at the store.
    pub fn outward(&self, world: &World, last_late: &Cell<u64>) -> Option<u64> {
        self.arrival(world, self.out_cut_until.get(), last_late)
    }

    /// When a message sent now arrives at the process.
    pub fn inward(&self, world: &World, last_late: &Cell<u64>) -> Option<u64> {
        self.arrival(world, self.in_cut_until.get(), last_late)
    }

    fn arrival(&self, world: &World, cut_until: u64, last_late: &Cell<u64>) -> Option<u64> {
        if self.lost.get() {
            return None;
        }
        let weather = world.weather.get();
        let mut dice = world.dice.borrow_mut();
        // On one connection once in a T: two late messages in a row and a pause are more than T forgives.
        let late =
            weather.late_one_in > 0 && dice.one_in(weather.late_one_in) && world.now() > last_late.get();
        if late {
            last_late.set(world.now() + weather.late_again_after);
        }
        let late = if late { dice.within(200 * MILLI, 1200 * MILLI) } else { 0 };
        let (extra, slow_until) = self.slow.get();
        let extra = if world.now() < slow_until { dice.within(extra / 4, extra + 1) } else { 0 };
        let held = cut_until.saturating_sub(world.now());
        // After a long cut the sender's next retransmission may be a while away.
        let again = if held > 0 { dice.within(0, held / 4 + 1) } else { 0 };
        Some(world.now() + held + again + late + extra + dice.within(40 * MICRO, 300 * MICRO))
    }

    pub fn heal(&self) {
        self.out_cut_until.set(0);
        self.in_cut_until.set(0);
        self.slow.set((0, 0));
    }
}
