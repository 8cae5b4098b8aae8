//! A process's end of a connection to PostgreSQL. Dropping it closes the socket, as a crash of its process does.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};

use ha::{Backend, Database};

use crate::postgres::{self, Answer, Ask, Fault, SessionId};
use crate::process::Process;
use crate::world::{Slot, World};

/// The server's end, once it is known.
type Opened = (SessionId, Backend, Database);
/// What the one who connects waits for.
type Connected = Result<(), Fault>;

pub struct ClientEnd {
    world: Weak<World>,
    process: Rc<Process>,
    opening: RefCell<Option<Rc<Slot<Connected>>>>,
    opened: OnceCell<Opened>,
    /// The connection's end is known here.
    ended: Cell<bool>,
    waiting: RefCell<Vec<Weak<Slot<Answer>>>>,
    last_late: Cell<u64>,
    last_out: Cell<u64>,
    last_in: Cell<u64>,
}

impl ClientEnd {
    /// Connects within `patience`.
    pub async fn open(process: &Rc<Process>, patience: std::time::Duration) -> Result<Rc<Self>, Fault> {
        let world = process.world();
        let slot = Slot::mine(&world);
        let client = Rc::new(Self {
            world: Rc::downgrade(&world),
            process: process.clone(),
            opening: RefCell::new(Some(slot.clone())),
            opened: OnceCell::new(),
            ended: Cell::new(false),
            waiting: RefCell::default(),
            last_late: Cell::new(0),
            last_out: Cell::new(0),
            last_in: Cell::new(0),
        });
        let weak = Rc::downgrade(&client);
        let index = process.index;
        client.send(&world, move |world| postgres::open(world, &weak, index));
        match process.within(patience, slot.wait()).await {
            Some(Ok(())) => Ok(client),
            Some(Err(fault)) => Err(fault),
            None => Err(Fault::Broken),
        }
    }

    fn facts(&self) -> &Opened {
        self.opened.get().expect("a session is lent out only when it is open")
    }

    pub fn id(&self) -> SessionId {
        self.facts().0
    }

    pub fn backend(&self) -> Backend {
        self.facts().1
    }

    pub fn database(&self) -> &Database {
        &self.facts().2
    }

    pub fn is_over(&self) -> bool {
        self.ended.get()
    }

    /// Closes the socket.
    pub fn close(&self) {
        if self.ended.replace(true) {
            return;
        }
        self.fail_all();
        let (Some(world), Some((id, ..))) = (self.world.upgrade(), self.opened.get()) else { return };
        let id = *id;
        self.send(&world, move |world| postgres::finish(world, id));
    }

    /// Sends a statement and waits for its answer. Whoever stops waiting leaves the statement with the server.
    pub async fn ask(&self, ask: Ask) -> Answer {
        if self.is_over() {
            return Err(Fault::Broken);
        }
        let world = self.process.world();
        let slot = Slot::mine(&world);
        {
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|slot| slot.strong_count() > 0);
            waiting.push(Rc::downgrade(&slot));
        }
        let (id, arriving) = (self.id(), slot.clone());
        self.send(&world, move |world| postgres::arrive(world, id, ask, arriving));
        slot.wait().await
    }

    /// Lets something happen at the server once a message has travelled there, in order.
    fn send(&self, world: &Rc<World>, work: impl FnOnce(&Rc<World>) + 'static) {
        let Some(at) = self.process.postgres_link.outward(world, &self.last_late) else { return };
        let at = at.max(self.last_out.get() + 1);
        self.last_out.set(at);
        world.at(at, work);
    }

    /// The server answers the request for a session.
    pub fn opened(self: &Rc<Self>, world: &Rc<World>, outcome: Result<Opened, Fault>) {
        let Some(at) = self.process.postgres_link.inward(world, &self.last_late) else { return };
        self.last_in.set(at);
        let weak = Rc::downgrade(self);
        world.at(at, move |world| {
            let Some(client) = weak.upgrade() else {
                // Nobody waits any more: the socket was closed meanwhile.
                if let Ok((id, ..)) = outcome {
                    postgres::finish(world, id);
                }
                return;
            };
            let told = outcome.map(|opened| {
                client.opened.set(opened).expect("a connection is opened once");
            });
            if let Some(slot) = client.opening.borrow_mut().take() {
                slot.fill(world, told);
            }
        });
    }

    /// The server answers a statement.
    pub fn answered(self: &Rc<Self>, world: &Rc<World>, slot: Rc<Slot<Answer>>, answer: Answer) {
        let Some(at) = self.process.postgres_link.inward(world, &self.last_late) else { return };
        let at = at.max(self.last_in.get() + 1);
        self.last_in.set(at);
        world.at(at, move |world| slot.fill(world, answer));
    }

    /// The server ended the session and says so.
    pub fn server_ended(self: &Rc<Self>, world: &Rc<World>) {
        let Some(at) = self.process.postgres_link.inward(world, &self.last_late) else { return };
        let at = at.max(self.last_in.get() + 1);
        let weak = Rc::downgrade(self);
        world.at(at, move |_| {
            if let Some(client) = weak.upgrade()
                && !client.ended.replace(true)
            {
                client.fail_all();
            }
        });
    }

    fn fail_all(&self) {
        let waiting: Vec<Weak<Slot<Answer>>> = self.waiting.borrow_mut().drain(..).collect();
        if let Some(world) = self.world.upgrade() {
            for slot in waiting.iter().filter_map(Weak::upgrade) {
                slot.fill(&world, Err(Fault::Broken));
            }
        }
        self.process.nudge();
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.close();
    }
}
