//! A process: its clock, its engine's pulse, and the tasks that play its part.
//!
//! The tasks are wired as the crate's own are, one file each; every decision they take is asked of the crate:
//! `election`, `tenure`, `exile`, `handover`, `office`, `roll`, `gate`.

mod agent;
mod engine;
mod identity;
mod lead;
mod life;
mod observer;
mod stand;
mod suspended;
mod time;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use ha::election::{Look, Standing, Watcher};
use ha::gate::Gate;
use ha::roll::rivals;
use ha::{Incarnation, Instance, InstanceInfo, ManualClock, Member, Moment, Status, Timing};

use crate::link::Link;
use crate::mutant::Mutant;
use crate::redis::{self, Said};
use crate::session::ClientEnd;
use crate::world::{MICRO, MILLI, Slot, TaskId, World};

pub use engine::terminate_gracefully;

/// How often the engine's loop turns.
const TURN: u64 = 50 * MILLI;

#[derive(Clone)]
pub enum Sight {
    Dark,
    Seen(Rc<Look>),
    Blind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    Outside,
    Inside,
    Refused,
}

#[derive(Clone)]
pub struct Roll {
    pub membership: Membership,
    pub status: Option<Status>,
    pub last_commit: Option<Moment>,
    pub peers: Rc<[InstanceInfo]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    pub status: Status,
    pub held_down: bool,
}

pub enum Command {
    SetStatus(Status),
    HandOver,
    Retire,
    Leave,
}

/// How a handover ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    HandedOver,
    NoSuccessor,
    NotLeader,
    Lost,
}

/// What one that was told to stop has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retirement {
    Leads,
    MayLeave,
}

pub struct Process {
    world: RefCell<Weak<World>>,
    pub index: usize,
    pub member: usize,
    pub me: Instance,
    pub build: i64,
    pub timing: Timing,
    pub alive: Cell<bool>,
    pub paused: Cell<bool>,
    pub deferred: RefCell<Vec<TaskId>>,
    pub postgres_link: Link,
    pub redis_link: Link,
    clock: ManualClock,
    offset: u64,
    drift_ppm: i64,
    // The engine's pulse.
    pulse_base: Cell<(u64, Moment)>,
    beats_from: Cell<Option<u64>>,
    pub hangs: Cell<bool>,
    // What the tasks know.
    pub sight: RefCell<Sight>,
    pub sight_version: Cell<u64>,
    pub sight_read: Cell<u64>,
    pub pace: Cell<Duration>,
    pub bell: Cell<bool>,
    pub observer: RefCell<Option<Rc<ClientEnd>>>,
    pub roll: RefCell<Roll>,
    pub roll_version: Cell<u64>,
    pub roll_read: Cell<u64>,
    pub wish: Cell<Wish>,
    pub warm: RefCell<Option<Rc<ClientEnd>>>,
    pub commands: RefCell<VecDeque<Command>>,
    pub outcome: Cell<Option<Outcome>>,
    pub watcher: RefCell<Watcher>,
    pub bound: Cell<Option<Moment>>,
    pub drain_waits: Cell<bool>,
    pub draining: Cell<bool>,
    pub leads: Cell<bool>,
    /// Somebody waits for what it comes to.
    pub retiring: Cell<bool>,
    pub retirement: Cell<Option<Retirement>>,
    pub in_flight: Cell<u32>,
    main_tasks: RefCell<Vec<TaskId>>,
}

/// Starts a process of a member.
pub fn start(world: &Rc<World>, member: usize, timing: Timing) -> Rc<Process> {
    let (index, seed, offset, drift, build) = {
        let mut dice = world.dice.borrow_mut();
        let index = world.processes.borrow().len();
        let drift = i64::try_from(dice.within(0, 1001)).unwrap() - 500;
        (index, dice.next(), dice.within(0, 1_000_000) * MILLI, drift, dice.within(0, 2))
    };
    let id = uuid::Uuid::from_u64_pair(u64::try_from(index).unwrap(), seed);
    let me = Instance {
        member: Member::new(format!("b{}", member + 1)).unwrap(),
        incarnation: Incarnation::from_uuid(id),
    };
    let watched =
        if world.is(Mutant::ImpatientFollower) { Timing { ttl: timing.ttl / 3, ..timing } } else { timing };
    let process = Rc::new(Process {
        world: RefCell::new(Rc::downgrade(world)),
        index,
        member,
        me: me.clone(),
        build: i64::try_from(build).unwrap(),
        timing,
        alive: Cell::new(true),
        paused: Cell::new(false),
        deferred: RefCell::default(),
        postgres_link: Link::default(),
        redis_link: Link::default(),
        clock: ManualClock::default(),
        offset,
        drift_ppm: drift,
        pulse_base: Cell::new((0, Moment::default())),
        beats_from: Cell::new(Some(world.now())),
        hangs: Cell::new(false),
        sight: RefCell::new(Sight::Dark),
        sight_version: Cell::new(0),
        sight_read: Cell::new(0),
        pace: Cell::new(timing.watch),
        bell: Cell::new(false),
        observer: RefCell::default(),
        roll: RefCell::new(Roll {
            membership: Membership::Outside,
            status: None,
            last_commit: None,
            peers: Rc::from([]),
        }),
        roll_version: Cell::new(0),
        roll_read: Cell::new(0),
        wish: Cell::new(Wish { status: Status::Recovering, held_down: false }),
        warm: RefCell::default(),
        commands: RefCell::default(),
        outcome: Cell::new(None),
        watcher: RefCell::new(Watcher::new(me, 1, watched, seed)),
        bound: Cell::new(None),
        drain_waits: Cell::new(false),
        draining: Cell::new(false),
        leads: Cell::new(false),
        retiring: Cell::new(false),
        retirement: Cell::new(None),
        in_flight: Cell::new(0),
        main_tasks: RefCell::default(),
    });
    world.tell(|| format!("p{index} starts as member b{}", member + 1));
    world.processes.borrow_mut().push(process.clone());
    let tasks = vec![
        world.spawn(&process, observer::watch_for_ever(process.clone())),
        world.spawn(&process, identity::run(process.clone())),
        world.spawn(&process, stand::keep_one_open(process.clone())),
        world.spawn(&process, agent::run(process.clone())),
        world.spawn(&process, engine::recover(process.clone())),
    ];
    *process.main_tasks.borrow_mut() = tasks;
    process
}

// === impl Process: what its tasks tell each other ===

impl Process {
    pub fn show_sight(&self, sight: Sight) {
        *self.sight.borrow_mut() = sight;
        self.sight_version.set(self.sight_version.get() + 1);
        self.wake_agent();
    }

    pub fn change_roll(&self, change: impl FnOnce(&mut Roll)) {
        change(&mut self.roll.borrow_mut());
        self.roll_version.set(self.roll_version.get() + 1);
        self.wake_agent();
    }

    fn wake_agent(&self) {
        if let Some(agent) = self.main_tasks.borrow().get(3) {
            self.world().wake(*agent);
        }
    }

    pub fn wish(&self, change: impl FnOnce(&mut Wish)) {
        let mut wish = self.wish.get();
        change(&mut wish);
        if wish != self.wish.get() {
            self.wish.set(wish);
            self.nudge();
        }
    }

    pub fn command(&self, command: Command) {
        self.commands.borrow_mut().push_back(command);
        self.wake_agent();
    }

    pub fn look(&self) -> Option<Rc<Look>> {
        match &*self.sight.borrow() {
            Sight::Seen(look) => Some(look.clone()),
            Sight::Dark | Sight::Blind => None,
        }
    }

    pub fn set_pace(&self, pace: Duration) {
        self.pace.set(pace);
        self.hear_bell();
    }

    /// What the election has to know of this instance and its peers.
    pub fn standing(&self, holder: Option<&Instance>) -> Standing {
        let roll = self.roll.borrow();
        let wanted = self.wish.get().status;
        let status = if wanted == Status::Active { roll.status } else { Some(wanted) };
        let inside = roll.membership == Membership::Inside;
        let (rival, newer_rival) = rivals(&roll.peers, &self.me, holder, self.build);
        Standing {
            status,
            last_commit: roll.last_commit.filter(|_| inside),
            rival,
            newer_rival,
            fenced: false,
            engine_lives: self.now().since(self.pulse().last) < self.timing.ttl,
        }
    }

    /// Asks Redis; none if it does not answer in time.
    pub async fn redis(&self, ask: redis::Ask) -> Option<Said> {
        let world = self.world();
        let patience = self.timing.redis_timeout();
        let slot = Slot::mine(&world);
        let reply = slot.clone();
        let me = self.index;
        if let Some(at) = self.redis_link.outward(&world, &Cell::new(0)) {
            world.at(at, move |world| ask_redis(world, me, ask, reply));
        }
        self.within(patience, slot.wait()).await.flatten()
    }

    pub fn tell(&self, line: impl FnOnce() -> String) {
        self.world().tell(|| format!("p{}: {}", self.index, line()));
    }
}

fn ask_redis(world: &Rc<World>, process: usize, ask: redis::Ask, slot: Rc<Slot<Option<Said>>>) {
    let gate = world.redis.borrow().up;
    let now = world.now();
    if gate.silent_until > now {
        world.at(gate.silent_until + world.draw(10 * MICRO, MILLI), move |world| {
            ask_redis(world, process, ask, slot);
        });
        return;
    }
    let said = (gate.refuses_until <= now).then(|| world.redis.borrow_mut().answer(now, &ask));
    let target = world.processes.borrow()[process].clone();
    if let Some(at) = target.redis_link.inward(world, &Cell::new(0)) {
        world.at(at, move |world| slot.fill(world, said));
    }
}

/// Reads a wish's entry for the registry.
pub fn entry(process: &Process) -> InstanceInfo {
    let Wish { status, held_down } = process.wish.get();
    InstanceInfo {
        instance: process.me.clone(),
        version: String::new(),
        build: process.build,
        address: String::new(),
        priority: 1,
        status,
        alive: false,
        held_down,
        fenced: false,
        reach: None,
        redis: None,
    }
}

/// An instance as the lease names it.
pub fn named(instance: &Instance) -> String {
    instance.to_string()
}

pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

/// Why a closed gate is closed, for the trace.
pub fn why(gate: &Gate) -> Arc<str> {
    gate.why_closed().unwrap_or_else(|| Arc::from("open"))
}
