//! Virtual time and everything that happens in it: a queue of events, the tasks of the processes, the links.
//!
//! One thread, one clock. A task is a future of one process; it is polled when something it waits for has
//! happened, a moment later than that by chance. A paused process keeps its tasks, its sockets and what arrives
//! at them, and is not polled; a crashed one loses its tasks, which closes its sockets.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::checker::Checker;
use crate::dice::Dice;
use crate::mutant::Mutant;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::redis::Redis;

pub const MICRO: u64 = 1_000;
pub const MILLI: u64 = 1_000_000;

pub type TaskId = usize;
type Work = Box<dyn FnOnce(&Rc<World>)>;

enum What {
    Poll(TaskId),
    Do(Work),
}

struct Event {
    at: u64,
    serial: u64,
    what: What,
}

struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    process: Rc<Process>,
}

/// What the weather is like on all links: usually calm, in one profile each message may be late.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    /// One message in so many is late by 200 to 1200 ms; never, if zero.
    pub late_one_in: u64,
    /// And the next one on the same connection not before this span has passed.
    pub late_again_after: u64,
}

/// What happens to the next process that takes the pin.
#[derive(Clone, Copy)]
pub struct Trap {
    pub lost: bool,
    pub span: u64,
}

pub struct World {
    now: Cell<u64>,
    serial: Cell<u64>,
    events: RefCell<BinaryHeap<Reverse<Event>>>,
    tasks: RefCell<Vec<Task>>,
    current: Cell<TaskId>,
    pub steps: Cell<u64>,
    pub dice: RefCell<Dice>,
    pub weather: Cell<Weather>,
    pub trap: Cell<Option<Trap>>,
    pub postgres: RefCell<Postgres>,
    pub redis: RefCell<Redis>,
    pub processes: RefCell<Vec<Rc<Process>>>,
    pub checker: RefCell<Checker>,
    pub mutant: Option<Mutant>,
    trace: Option<RefCell<Vec<String>>>,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, traced: bool) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(0),
            serial: Cell::new(0),
            events: RefCell::default(),
            tasks: RefCell::default(),
            current: Cell::new(0),
            steps: Cell::new(0),
            dice: RefCell::new(Dice::new(seed)),
            weather: Cell::default(),
            trap: Cell::new(None),
            postgres: RefCell::default(),
            redis: RefCell::default(),
            processes: RefCell::default(),
            checker: RefCell::default(),
            mutant,
            trace: traced.then(RefCell::default),
        })
    }

    /// True time, which no process reads.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// A line of the trace; not even formatted unless the schedule is traced.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().push(format!("{:>10.3} ms  {}", self.now() as f64 / 1e6, line()));
        }
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| trace.take()).unwrap_or_default()
    }

    pub fn draw(&self, low: u64, high: u64) -> u64 {
        self.dice.borrow_mut().within(low, high)
    }

    fn push(&self, at: u64, what: What) {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        self.events.borrow_mut().push(Reverse(Event { at: at.max(self.now()), serial, what }));
    }

    /// Something happens at a moment.
    pub fn at(&self, at: u64, work: impl FnOnce(&Rc<World>) + 'static) {
        self.push(at, What::Do(Box::new(work)));
    }

    /// Something happens after a span.
    pub fn after(&self, span: u64, work: impl FnOnce(&Rc<World>) + 'static) {
        self.at(self.now() + span, work);
    }

    /// A task is polled, as soon as the scheduler of its host comes to it.
    pub fn wake(&self, task: TaskId) {
        let slack = self.draw(1, 60 * MICRO);
        self.push(self.now() + slack, What::Poll(task));
    }

    /// The task that runs now is polled at a moment.
    pub fn wake_me_at(&self, at: u64) {
        self.push(at, What::Poll(self.current.get()));
    }

    pub fn current(&self) -> TaskId {
        self.current.get()
    }

    pub fn spawn(&self, process: &Rc<Process>, future: impl Future<Output = ()> + 'static) -> TaskId {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Task { future: Some(Box::pin(future)), process: process.clone() });
        let id = tasks.len() - 1;
        drop(tasks);
        self.wake(id);
        id
    }

    /// Ends a task: its future is dropped.
    pub fn abort(&self, task: TaskId) {
        let gone = self.tasks.borrow_mut()[task].future.take();
        drop(gone);
    }

    /// Ends all tasks of a process.
    pub fn abort_all(&self, process: &Rc<Process>) {
        let gone: Vec<_> = self
            .tasks
            .borrow_mut()
            .iter_mut()
            .filter(|task| Rc::ptr_eq(&task.process, process))
            .filter_map(|task| task.future.take())
            .collect();
        drop(gone);
    }

    /// Lets one event happen; false when there is none before `end`.
    pub fn step(self: &Rc<Self>, end: u64) -> bool {
        let next = {
            let mut events = self.events.borrow_mut();
            match events.peek() {
                Some(Reverse(event)) if event.at < end => events.pop(),
                _ => None,
            }
        };
        let Some(Reverse(event)) = next else {
            self.now.set(end);
            return false;
        };
        self.now.set(event.at);
        self.steps.set(self.steps.get() + 1);
        match event.what {
            What::Do(work) => work(self),
            What::Poll(task) => self.poll(task),
        }
        true
    }

    fn poll(self: &Rc<Self>, id: TaskId) {
        let (future, process) = {
            let mut tasks = self.tasks.borrow_mut();
            let task = &mut tasks[id];
            if task.process.paused.get() {
                task.process.deferred.borrow_mut().push(id);
                return;
            }
            let Some(future) = task.future.take() else { return };
            (future, task.process.clone())
        };
        self.current.set(id);
        process.tick();
        let mut future = future;
        let pending = future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        if pending && process.alive.get() {
            self.tasks.borrow_mut()[id].future = Some(future);
        }
    }

    /// Ends everything, so that nothing keeps the world alive.
    pub fn tear_down(&self) {
        for process in self.processes.borrow().iter() {
            process.alive.set(false);
        }
        let tasks: Vec<Task> = self.tasks.borrow_mut().drain(..).collect();
        drop(tasks);
        let processes: Vec<Rc<Process>> = self.processes.borrow_mut().drain(..).collect();
        drop(processes);
        let events: Vec<_> = self.events.borrow_mut().drain().collect();
        drop(events);
        self.events.borrow_mut().clear();
        *self.postgres.borrow_mut() = Postgres::default();
    }
}

/// An answer that somebody waits for.
pub struct Slot<T> {
    value: RefCell<Option<T>>,
    task: TaskId,
}

impl<T> Slot<T> {
    /// For the task that runs now.
    pub fn mine(world: &World) -> Rc<Self> {
        Rc::new(Self { value: RefCell::new(None), task: world.current() })
    }

    /// The first answer stands.
    pub fn fill(&self, world: &World, value: T) {
        let mut slot = self.value.borrow_mut();
        if slot.is_none() {
            *slot = Some(value);
            world.wake(self.task);
        }
    }

    pub async fn wait(self: Rc<Self>) -> T {
        poll_fn(move |_| match self.value.borrow_mut().take() {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        })
        .await
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}
