//! PostgreSQL in memory, as far as leadership sees it: sessions, advisory locks, the lock on the leadership row
//! (FOR UPDATE against FOR SHARE, first come first served, with a lock timeout), transactions that are lost with
//! their session, commits that take time, `pg_terminate_backend`, and a copy that is promoted without its tail.
//!
//! A statement is sent by a task and executed by the server, whether or not somebody still waits for the answer.
//! A session ends when its client's socket is closed (a crash, not a pause), when it is terminated, or with the
//! server.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use ha::Instance;
use ha::election::{Offer, Row};
use ha::office::Office;
use ha::roll::Occupant;
use ha::{Backend, Database, Epoch, InstanceInfo, Status};
use uuid::Uuid;

use crate::checker::Entry;
use crate::faults::pin_taken;
use crate::mutant::Mutant;
use crate::redis::Gate;
use crate::session::ClientEnd;
use crate::world::{MICRO, MILLI, Slot, World};

pub type SessionId = usize;
pub type Answer = Result<Said, Fault>;

/// A statement.
#[derive(Clone, Debug)]
pub enum Ask {
    Look,
    TryPin,
    ReleasePin,
    LockRow,
    Promote { to: Box<Change>, found: Epoch },
    Resume,
    Commit,
    Beat(Epoch),
    Offer { epoch: Epoch, id: Uuid, to: Instance },
    Withdraw(Epoch),
    Vacate(Epoch),
    Evict { pin: Backend, epoch: Epoch, counter: i64 },
    EndBackend(Backend),
    Acknowledge { offer: Uuid, me: Instance },
    TryMember(usize),
    Door(usize),
    EvictMember { member: usize, occupant: Occupant },
    Live { process: usize, info: Box<InstanceInfo> },
    Strike { process: usize },
    Journal { epoch: Epoch, process: usize },
}

/// What an answer says.
#[derive(Debug)]
pub enum Said {
    Done,
    Yes(bool),
    Look(Box<Row>),
    Office(Box<Office>),
    Beaten(bool, Epoch),
    Occupant(Option<Occupant>),
    Peers(Vec<(InstanceInfo, i64)>),
    Rows(usize),
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The session is over.
    Broken,
    /// A row lock was waited for in vain; the session goes on.
    LockTimeout,
}

/// The row a promotion writes.
#[derive(Clone, Debug)]
pub struct Change {
    pub epoch: Epoch,
    pub holder: Instance,
    pub reason: ha::Reason,
}

#[derive(Clone, Default)]
struct Table {
    epoch: Epoch,
    holder: Option<Instance>,
    holder_session: Option<Backend>,
    system: Option<i64>,
    timeline: Option<String>,
    offer: Option<(Uuid, Instance)>,
    counter: i64,
    instances: Vec<Registered>,
}

#[derive(Clone)]
struct Registered {
    process: usize,
    info: InstanceInfo,
    liveness: i64,
    gone: bool,
    acknowledged: Option<Uuid>,
}

struct Session {
    process: usize,
    client: Weak<ClientEnd>,
    alive: bool,
    /// The client closed its socket, and the server knows.
    finished: bool,
    queue: VecDeque<(Ask, Rc<Slot<Answer>>)>,
    doing: Doing,
    /// A transaction that holds the row's lock, with what it changed.
    transaction: Option<Pending>,
    since_idle: u64,
}

enum Pending {
    Nothing,
    Promotion(Box<Change>),
    Resumption,
}

enum Doing {
    Nothing,
    /// Waits for the row.
    Waiting(Ask, Rc<Slot<Answer>>),
    /// Its commit record is being written: it will not be interrupted.
    Committing,
}

#[derive(Default)]
struct RowLock {
    exclusive: Option<SessionId>,
    shared: Vec<SessionId>,
    waiting: VecDeque<SessionId>,
}

#[derive(Default)]
pub struct Postgres {
    pub gate: Gate,
    pub commits_stall_until: u64,
    sessions: Vec<Session>,
    table: Table,
    lock: RowLock,
    pin: Option<SessionId>,
    members: Vec<(usize, SessionId)>,
    timeline: u32,
    /// What a copy has, from now on a while back.
    copies: VecDeque<(u64, Table)>,
    lock_timeout: u64,
    idle_timeout: u64,
}

fn backend(session: SessionId) -> Backend {
    Backend { pid: i32::try_from(session).unwrap() + 100, start: chrono::DateTime::UNIX_EPOCH }
}

impl Postgres {
    pub fn set_timeouts(&mut self, timing: &ha::Timing) {
        self.lock_timeout = u64::try_from(timing.lock_timeout().as_nanos()).unwrap();
        self.idle_timeout = u64::try_from(timing.idle_in_transaction().as_nanos()).unwrap();
    }

    pub fn epoch(&self) -> Epoch {
        self.table.epoch
    }

    pub fn database(&self) -> Database {
        Database { system_identifier: 1, timeline: format!("{:08}", self.timeline + 1) }
    }

    pub fn pin_session(&self) -> Option<SessionId> {
        self.pin
    }

    /// The process whose session holds the pin.
    pub fn pin_process(&self) -> Option<usize> {
        self.pin.map(|id| self.sessions[id].process)
    }

    pub fn sessions_of(&self, process: usize) -> Vec<SessionId> {
        let mine = |id: &SessionId| self.sessions[*id].alive && self.sessions[*id].process == process;
        (0..self.sessions.len()).filter(mine).collect()
    }

    fn listeners(&self) -> Vec<usize> {
        let mut heard: Vec<usize> = self.sessions.iter().filter(|s| s.alive).map(|s| s.process).collect();
        heard.sort_unstable();
        heard.dedup();
        heard
    }

    fn look(&self) -> Row {
        let t = &self.table;
        let offer = t.offer.as_ref().map(|(id, to)| Offer {
            id: *id,
            to: to.clone(),
            acknowledged: t.instances.iter().any(|r| r.info.instance == *to && r.acknowledged == Some(*id)),
        });
        Row {
            epoch: t.epoch,
            holder: t.holder.clone(),
            holder_address: None,
            counter: t.counter,
            pin: self.pin.map(backend),
            offer,
            paused: false,
            cluster: None,
        }
    }

    fn office(&self) -> Office {
        let t = &self.table;
        Office {
            epoch: t.epoch,
            cluster: None,
            paused: false,
            system_identifier: t.system,
            timeline: t.timeline.clone(),
            holder: t.holder.clone(),
        }
    }

    fn liveness_of(&self, member: usize, world: &World) -> i64 {
        let processes = world.processes.borrow();
        let of = |r: &&Registered| processes[r.process].member == member;
        self.table.instances.iter().filter(of).map(|r| r.liveness).sum()
    }
}

// === what happens at the server ===

/// A client asks for a session.
pub fn open(world: &Rc<World>, client: &Weak<ClientEnd>, process: usize) {
    let refused = world.postgres.borrow().gate.refuses_until > world.now();
    let Some(end) = client.upgrade() else { return };
    if refused {
        end.opened(world, Err(Fault::Broken));
        return;
    }
    let silent = world.postgres.borrow().gate.silent_until;
    if silent > world.now() {
        let client = client.clone();
        world.at(silent + world.draw(10 * MICRO, MILLI), move |world| open(world, &client, process));
        return;
    }
    let mut postgres = world.postgres.borrow_mut();
    let id = postgres.sessions.len();
    let since_idle = world.now();
    postgres.sessions.push(Session {
        process,
        client: client.clone(),
        alive: true,
        finished: false,
        queue: VecDeque::new(),
        doing: Doing::Nothing,
        transaction: None,
        since_idle,
    });
    let database = postgres.database();
    drop(postgres);
    end.opened(world, Ok((id, backend(id), database)));
}

/// A statement arrives.
pub fn arrive(world: &Rc<World>, id: SessionId, ask: Ask, slot: Rc<Slot<Answer>>) {
    {
        let mut postgres = world.postgres.borrow_mut();
        let session = &mut postgres.sessions[id];
        if !session.alive {
            return;
        }
        session.queue.push_back((ask, slot));
    }
    advance(world, id);
}

/// The client's socket was closed. A waiting statement notices within the check interval.
pub fn finish(world: &Rc<World>, id: SessionId) {
    let waiting = {
        let mut postgres = world.postgres.borrow_mut();
        let session = &mut postgres.sessions[id];
        session.finished = true;
        matches!(session.doing, Doing::Waiting(..)) || !session.queue.is_empty()
    };
    if waiting {
        let check = world.postgres.borrow().lock_timeout;
        world.after(world.draw(MILLI, check.max(2 * MILLI)), move |world| {
            terminate(world, id, "its client is gone")
        });
    } else {
        terminate(world, id, "its client is gone");
    }
}

/// Ends a session; one that commits finishes that first.
pub fn terminate(world: &Rc<World>, id: SessionId, why: &'static str) {
    let mut postgres = world.postgres.borrow_mut();
    let session = &mut postgres.sessions[id];
    if !session.alive {
        return;
    }
    if matches!(session.doing, Doing::Committing) {
        drop(postgres);
        world.after(world.draw(20 * MICRO, 300 * MICRO), move |world| terminate(world, id, why));
        return;
    }
    session.alive = false;
    session.queue.clear();
    session.doing = Doing::Nothing;
    session.transaction = None;
    let client = session.client.clone();
    let process = session.process;
    let pinned = postgres.pin == Some(id);
    if pinned {
        postgres.pin = None;
    }
    postgres.members.retain(|(_, holder)| *holder != id);
    drop(postgres);
    world.tell(|| {
        let pin = if pinned { ", which held the pin" } else { "" };
        format!("postgres: session {id} of p{process}{pin} ends: {why}")
    });
    release_row(world, id);
    if let Some(client) = client.upgrade() {
        client.server_ended(world);
    }
}

/// Executes what a session has to do next.
fn advance(world: &Rc<World>, id: SessionId) {
    let now = world.now();
    let mut postgres = world.postgres.borrow_mut();
    if postgres.gate.silent_until > now {
        let at = postgres.gate.silent_until;
        drop(postgres);
        world.at(at + world.draw(10 * MICRO, MILLI), move |world| advance(world, id));
        return;
    }
    let session = &mut postgres.sessions[id];
    if !session.alive || !matches!(session.doing, Doing::Nothing) {
        return;
    }
    let Some((ask, slot)) = session.queue.pop_front() else { return };
    let process = session.process;
    drop(postgres);
    let served = execute(world, id, process, &ask, &slot);
    if let Some(answer) = served {
        reply(world, id, slot, answer);
    }
}

fn reply(world: &Rc<World>, id: SessionId, slot: Rc<Slot<Answer>>, answer: Answer) {
    let client = {
        let mut postgres = world.postgres.borrow_mut();
        let session = &mut postgres.sessions[id];
        session.since_idle = world.now();
        session.doing = Doing::Nothing;
        session.client.clone()
    };
    if let Some(client) = client.upgrade() {
        client.answered(world, slot, answer);
    }
    advance(world, id);
}

/// Executes a statement; none when its answer comes later.
fn execute(
    world: &Rc<World>,
    id: SessionId,
    process: usize,
    ask: &Ask,
    slot: &Rc<Slot<Answer>>,
) -> Option<Answer> {
    let mut guard = world.postgres.borrow_mut();
    let postgres = &mut *guard;
    let said = match ask {
        Ask::Look => Said::Look(Box::new(postgres.look())),
        Ask::TryPin => {
            let free = postgres.pin.is_none_or(|holder| holder == id);
            if free {
                postgres.pin = Some(id);
                world.tell(|| format!("postgres: session {id} of p{process} takes the pin"));
                pin_taken(world, process);
            }
            Said::Yes(free)
        }
        Ask::ReleasePin => {
            if postgres.pin == Some(id) {
                postgres.pin = None;
                world.tell(|| format!("postgres: session {id} of p{process} releases the pin"));
            }
            notify(world, postgres);
            Said::Done
        }
        Ask::TryMember(member) => {
            let free = postgres.members.iter().all(|(held, by)| held != member || *by == id);
            if free {
                postgres.members.push((*member, id));
            }
            Said::Yes(free)
        }
        Ask::Door(member) => {
            let holder = postgres.members.iter().find(|(held, _)| held == member).map(|(_, by)| *by);
            let liveness = postgres.liveness_of(*member, world);
            Said::Occupant(holder.map(|by| Occupant { backend: backend(by), liveness }))
        }
        Ask::EvictMember { member, occupant } => {
            let holder = postgres.members.iter().find(|(held, _)| held == member).map(|(_, by)| *by);
            let liveness = postgres.liveness_of(*member, world);
            if let Some(by) =
                holder.filter(|by| backend(*by) == occupant.backend && liveness == occupant.liveness)
            {
                signal(world, by, "its place was taken");
            }
            Said::Done
        }
        Ask::Evict { pin, epoch, counter } => {
            let rows_own =
                !world.is(Mutant::EvictsOnlyTheRowsSession) || postgres.table.holder_session == Some(*pin);
            let holds = postgres.pin.filter(|holder| {
                backend(*holder) == *pin
                    && postgres.table.epoch == *epoch
                    && postgres.table.counter == *counter
                    && rows_own
            });
            if let Some(holder) = holds {
                signal(world, holder, "its leader was stale");
            }
            Said::Yes(holds.is_some())
        }
        Ask::EndBackend(target) => {
            let id = usize::try_from(target.pid - 100).unwrap();
            if postgres.sessions[id].alive {
                signal(world, id, "its owner opened another");
            }
            Said::Done
        }
        Ask::LockRow => {
            drop(guard);
            return want_row(world, id, ask, slot);
        }
        Ask::Promote { to, found } => {
            assert_eq!(postgres.lock.exclusive, Some(id), "the transaction holds the row");
            assert_eq!(postgres.table.epoch, *found, "nobody changes a locked row");
            postgres.sessions[id].transaction = Some(Pending::Promotion(to.clone()));
            Said::Done
        }
        Ask::Resume => {
            postgres.sessions[id].transaction = Some(Pending::Resumption);
            Said::Done
        }
        Ask::Journal { epoch, .. } if world.is(Mutant::NoRowLock) => {
            // The plain check reads what is committed now, and the row is written later.
            if postgres.table.epoch != *epoch {
                return Some(Ok(Said::Rows(0)));
            }
            drop(guard);
            commit(world, id, ask.clone(), slot.clone());
            return None;
        }
        Ask::Journal { .. } => {
            drop(guard);
            return want_row(world, id, ask, slot);
        }
        Ask::Commit
        | Ask::Beat(_)
        | Ask::Offer { .. }
        | Ask::Withdraw(_)
        | Ask::Vacate(_)
        | Ask::Acknowledge { .. }
        | Ask::Live { .. }
        | Ask::Strike { .. } => {
            drop(guard);
            commit(world, id, ask.clone(), slot.clone());
            return None;
        }
    };
    Some(Ok(said))
}

/// Takes the row's lock for a statement, or queues for it.
fn want_row(world: &Rc<World>, id: SessionId, ask: &Ask, slot: &Rc<Slot<Answer>>) -> Option<Answer> {
    let free = {
        let postgres = world.postgres.borrow();
        let lock = &postgres.lock;
        let exclusive = matches!(ask, Ask::LockRow);
        lock.exclusive.is_none() && lock.waiting.is_empty() && (!exclusive || lock.shared.is_empty())
    };
    if free {
        return got_row(world, id, ask, slot);
    }
    let mut postgres = world.postgres.borrow_mut();
    postgres.sessions[id].doing = Doing::Waiting(ask.clone(), slot.clone());
    postgres.lock.waiting.push_back(id);
    let patience = postgres.lock_timeout;
    drop(postgres);
    let slot = slot.clone();
    world.after(patience, move |world| {
        let mut postgres = world.postgres.borrow_mut();
        let still =
            matches!(&postgres.sessions[id].doing, Doing::Waiting(_, waits) if Rc::ptr_eq(waits, &slot));
        if still {
            postgres.lock.waiting.retain(|waits| *waits != id);
            // A transaction that fails is over, and holds nothing.
            postgres.sessions[id].transaction = None;
            drop(postgres);
            reply(world, id, slot, Err(Fault::LockTimeout));
            grant(world);
        }
    });
    None
}

/// The row's lock is this session's.
fn got_row(world: &Rc<World>, id: SessionId, ask: &Ask, slot: &Rc<Slot<Answer>>) -> Option<Answer> {
    let mut postgres = world.postgres.borrow_mut();
    match ask {
        Ask::LockRow => {
            postgres.lock.exclusive = Some(id);
            postgres.sessions[id].transaction = Some(Pending::Nothing);
            let office = postgres.office();
            let idle = postgres.idle_timeout;
            drop(postgres);
            watch_idle(world, id, idle);
            Some(Ok(Said::Office(Box::new(office))))
        }
        Ask::Journal { epoch, .. } => {
            // What the statement sees of a locked row is what was committed last.
            if postgres.table.epoch != *epoch {
                return Some(Ok(Said::Rows(0)));
            }
            postgres.lock.shared.push(id);
            drop(postgres);
            commit(world, id, ask.clone(), slot.clone());
            None
        }
        other => unreachable!("{other:?} locks no row"),
    }
}

/// A session that idles in its transaction is ended.
fn watch_idle(world: &Rc<World>, id: SessionId, patience: u64) {
    world.after(patience, move |world| {
        let postgres = world.postgres.borrow();
        let session = &postgres.sessions[id];
        if !session.alive || session.transaction.is_none() {
            return;
        }
        let idle_for = world.now() - session.since_idle;
        let idles = matches!(session.doing, Doing::Nothing);
        drop(postgres);
        if idles && idle_for >= patience {
            terminate(world, id, "idle in its transaction");
        } else {
            watch_idle(world, id, patience.saturating_sub(idle_for).max(MILLI));
        }
    });
}

fn release_row(world: &Rc<World>, id: SessionId) {
    {
        let mut postgres = world.postgres.borrow_mut();
        let lock = &mut postgres.lock;
        if lock.exclusive == Some(id) {
            lock.exclusive = None;
        }
        lock.shared.retain(|holder| *holder != id);
        lock.waiting.retain(|waits| *waits != id);
    }
    grant(world);
}

/// Gives the row's lock to those who wait, in their order.
fn grant(world: &Rc<World>) {
    loop {
        let mut postgres = world.postgres.borrow_mut();
        let Some(&id) = postgres.lock.waiting.front() else { return };
        let Doing::Waiting(ask, _) = &postgres.sessions[id].doing else { unreachable!("it waits") };
        let exclusive = matches!(ask, Ask::LockRow);
        if postgres.lock.exclusive.is_some() || (exclusive && !postgres.lock.shared.is_empty()) {
            return;
        }
        postgres.lock.waiting.pop_front();
        let doing = std::mem::replace(&mut postgres.sessions[id].doing, Doing::Nothing);
        drop(postgres);
        let Doing::Waiting(ask, slot) = doing else { unreachable!("it waits") };
        if let Some(answer) = got_row(world, id, &ask, &slot) {
            reply(world, id, slot, answer);
        }
    }
}

/// Writes a commit record, which takes time; then it is so.
fn commit(world: &Rc<World>, id: SessionId, ask: Ask, slot: Rc<Slot<Answer>>) {
    let mut postgres = world.postgres.borrow_mut();
    postgres.sessions[id].doing = Doing::Committing;
    let stall = postgres.commits_stall_until;
    drop(postgres);
    let takes = if world.dice.borrow_mut().one_in(50) {
        world.draw(3 * MILLI, 30 * MILLI)
    } else {
        world.draw(200 * MICRO, 3 * MILLI)
    };
    world.at(world.now().max(stall) + takes, move |world| {
        let alive = world.postgres.borrow().sessions[id].alive;
        if !alive {
            return;
        }
        let said = committed(world, id, &ask);
        world.postgres.borrow_mut().sessions[id].transaction = None;
        release_row(world, id);
        reply(world, id, slot, Ok(said));
    });
}

/// The change is visible from here on.
fn committed(world: &Rc<World>, id: SessionId, ask: &Ask) -> Said {
    let mut guard = world.postgres.borrow_mut();
    let postgres = &mut *guard;
    let now = world.now();
    keep_copies(postgres, now);
    let process = postgres.sessions[id].process;
    let table = &mut postgres.table;
    match ask {
        Ask::Commit => {
            match postgres.sessions[id].transaction.take() {
                Some(Pending::Promotion(change)) => {
                    table.epoch = change.epoch;
                    table.holder = Some(change.holder.clone());
                    table.holder_session = Some(backend(id));
                    table.system = Some(1);
                    table.timeline = Some(format!("{:08}", postgres.timeline + 1));
                    table.offer = None;
                    table.counter += 1;
                    world.tell(|| {
                        format!(
                            "postgres: p{process} is promoted to epoch {} ({})",
                            change.epoch, change.reason
                        )
                    });
                    world.checker.borrow_mut().promoted(world, process, change.epoch, change.reason);
                }
                Some(Pending::Resumption) => {
                    table.holder_session = Some(backend(id));
                    table.offer = None;
                    table.counter += 1;
                    let epoch = table.epoch;
                    world.tell(|| format!("postgres: p{process} resumes epoch {epoch}"));
                }
                Some(Pending::Nothing) | None => {}
            }
            notify(world, postgres);
            Said::Done
        }
        Ask::Beat(epoch) => {
            let beaten = table.epoch == *epoch;
            table.counter += i64::from(beaten);
            Said::Beaten(beaten, table.epoch)
        }
        Ask::Offer { epoch, id, to } => {
            let mine = table.epoch == *epoch;
            if mine {
                table.offer = Some((*id, to.clone()));
                notify(world, postgres);
            }
            Said::Rows(usize::from(mine))
        }
        Ask::Withdraw(epoch) => {
            if table.epoch == *epoch {
                table.offer = None;
            }
            Said::Done
        }
        Ask::Vacate(epoch) => {
            if table.epoch == *epoch {
                table.holder = None;
                table.holder_session = None;
                table.offer = None;
                notify(world, postgres);
            }
            Said::Done
        }
        Ask::Acknowledge { offer, me } => {
            let entry = table
                .instances
                .iter_mut()
                .find(|r| r.info.instance == *me && !r.gone && r.info.status == Status::Active);
            let done = entry.is_some();
            if let Some(entry) = entry {
                entry.acknowledged = Some(*offer);
                notify(world, postgres);
            }
            Said::Yes(done)
        }
        Ask::Live { process, info } => {
            let member = &info.instance.member;
            for other in &mut table.instances {
                other.gone |= other.process != *process && other.info.instance.member == *member;
            }
            match table.instances.iter_mut().find(|r| r.process == *process) {
                Some(entry) => {
                    entry.liveness += 1;
                    entry.info = (**info).clone();
                    entry.gone = false;
                }
                None => table.instances.push(Registered {
                    process: *process,
                    info: (**info).clone(),
                    liveness: 0,
                    gone: false,
                    acknowledged: None,
                }),
            }
            let listed = table.instances.iter().filter(|r| !r.gone);
            Said::Peers(listed.map(|r| (r.info.clone(), r.liveness)).collect())
        }
        Ask::Strike { process } => {
            for entry in &mut table.instances {
                entry.gone |= entry.process == *process;
            }
            Said::Done
        }
        Ask::Journal { epoch, process } => {
            let entry = Entry { process: *process, epoch: *epoch, in_force: table.epoch };
            let pinned = world.is(Mutant::NoRowLock)
                || world.is(Mutant::LockedJournalOnPool)
                || postgres.pin.is_some_and(|pin| postgres.sessions[pin].process == *process);
            world.checker.borrow_mut().journaled(world, &entry, pinned);
            Said::Rows(1)
        }
        other => unreachable!("{other:?} commits nothing"),
    }
}

fn keep_copies(postgres: &mut Postgres, now: u64) {
    if postgres.copies.back().is_none_or(|(at, _)| now - at > 5 * MILLI) {
        postgres.copies.push_back((now, postgres.table.clone()));
        if postgres.copies.len() > 100 {
            postgres.copies.pop_front();
        }
    }
}

fn notify(world: &Rc<World>, postgres: &Postgres) {
    for process in postgres.listeners() {
        let travel = world.draw(50 * MICRO, 400 * MICRO);
        world.after(travel, move |world| {
            let target = world.processes.borrow()[process].clone();
            target.hear_bell();
        });
    }
}

/// `pg_terminate_backend` sends a signal; the session ends when its process gets it.
fn signal(world: &Rc<World>, id: SessionId, why: &'static str) {
    world.after(world.draw(30 * MICRO, 4 * MILLI), move |world| terminate(world, id, why));
}

/// The server goes down; whatever was not committed is lost.
pub fn restart(world: &Rc<World>, down_for: u64) {
    end_all_sessions(world, "the server stops");
    world.postgres.borrow_mut().gate.refuses_until = world.now() + down_for;
}

/// The server is lost and a copy is promoted that is `lag` behind, after a while. What was committed since is gone.
pub fn fail_over(world: &Rc<World>, lag: u64, down_for: u64) {
    end_all_sessions(world, "the server is lost");
    let mut postgres = world.postgres.borrow_mut();
    let now = world.now();
    let copied = postgres.copies.iter().rev().find(|(at, _)| now - at >= lag).map(|(_, table)| table.clone());
    if let Some(table) = copied {
        postgres.table = table;
    }
    postgres.copies.clear();
    postgres.timeline += 1;
    postgres.gate.refuses_until = now + down_for;
    let epoch = postgres.table.epoch;
    drop(postgres);
    world.tell(|| {
        format!("postgres: a copy is promoted that was {} ms behind, at epoch {epoch}", lag / MILLI)
    });
    world.checker.borrow_mut().failed_over();
}

fn end_all_sessions(world: &Rc<World>, why: &'static str) {
    let count = world.postgres.borrow().sessions.len();
    for id in 0..count {
        // A commit that was on its way is lost with the server.
        world.postgres.borrow_mut().sessions[id].doing = Doing::Nothing;
        terminate(world, id, why);
    }
}
