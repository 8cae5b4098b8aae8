//! What happens to a process: it is woken, paused, hung, killed; and the pulse of its engine meanwhile.

use std::rc::Rc;
use std::time::Duration;

use ha::{Beat, Moment};

use super::{Process, TURN};
use crate::world::{MILLI, TaskId};

impl Process {
    /// Something its tasks may wait for has happened.
    pub fn nudge(&self) {
        if !self.alive.get() {
            return;
        }
        let Some(world) = self.world.borrow().upgrade() else { return };
        for task in self.main_tasks.borrow().iter() {
            world.wake(*task);
        }
    }

    pub fn hear_bell(&self) {
        self.bell.set(true);
        if let Some(task) = self.main_tasks.borrow().first() {
            self.world().wake(*task);
        }
    }

    /// SIGSTOP, or a host that is suspended.
    pub fn pause(&self) {
        self.settle_pulse();
        self.beats_from.set(None);
        self.paused.set(true);
    }

    /// SIGCONT: what was due gets its turn in any order, the engine among it.
    pub fn go_on(&self) {
        if !self.paused.replace(false) {
            return;
        }
        let world = self.world();
        if !self.hangs.get() {
            self.beats_from.set(Some(world.now() + world.draw(0, 20 * MILLI)));
        }
        let mut due: Vec<TaskId> = self.deferred.borrow_mut().drain(..).collect();
        due.sort_unstable();
        due.dedup();
        world.dice.borrow_mut().shuffle(&mut due);
        for task in due {
            world.wake(task);
        }
    }

    /// The engine's loop stops turning; the timers live.
    pub fn hang(&self) {
        self.settle_pulse();
        self.beats_from.set(None);
        self.hangs.set(true);
    }

    pub fn unhang(&self) {
        if self.hangs.replace(false) && !self.paused.get() {
            self.beats_from.set(Some(self.world().now()));
        }
    }

    /// kill -9: its sockets close, and it is gone.
    pub fn crash(self: &Rc<Self>) {
        if !self.alive.replace(false) {
            return;
        }
        let world = self.world();
        world.tell(|| format!("p{} is gone", self.index));
        world.abort_all(self);
        self.observer.take();
        self.warm.take();
    }

    fn beats_by(&self, at: u64) -> (u64, Moment) {
        let (count, last) = self.pulse_base.get();
        match self.beats_from.get() {
            Some(from) if at >= from => {
                let turns = (at - from) / TURN;
                (count + turns + 1, Moment::since_boot(Duration::from_nanos(self.shown(from + turns * TURN))))
            }
            _ => (count, last),
        }
    }

    fn settle_pulse(&self) {
        self.pulse_base.set(self.beats_by(self.world().now()));
    }

    /// What the protocol reads off the pulse.
    pub fn pulse(&self) -> Beat {
        let (count, last) = self.beats_by(self.world().now());
        Beat { count, last }
    }
}
