//! The task that plays an instance's role.
//!
//! One loop, one state at a time: [`follow`], [`stand`], [`lead`], [`succeed`] (a released leadership waits for
//! its successor) and [`suspended`]; [`retire`] is the way out. Each state gathers events, asks the pure machines ([`crate::election`],
//! [`crate::tenure`], [`crate::handover`]) and returns the next state; whatever a state holds, it hands on or
//! drops. The observer and the identity run as tasks of their own, so looking at PostgreSQL never delays a
//! heartbeat.

mod blockers;
mod follow;
mod keeper;
mod lead;
mod retire;
mod stand;
mod succeed;
mod suspended;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::election::{Ballot, Standing, Watcher};
use crate::identity::{Identity, Membership, Roll};
use crate::ids::{Instance, Member};
use crate::lease::RedisLease;
use crate::observer::{Observer, Sight};
use crate::pulse::Pulse;
use crate::role::{Retirement, Role, Status, Stop};
use crate::roll::rivals;
use crate::stats::{HandoverOutcome, Stats, StoreState};
use crate::warm::WarmPin;

use lead::Seat;
use succeed::Released;
use suspended::Exile;

/// What a handle asks of its agent.
pub(crate) enum Command {
    SetStatus(Status, oneshot::Sender<()>),
    HandOver(Option<Member>, oneshot::Sender<HandoverOutcome>),
    Retire(oneshot::Sender<Retirement>),
    Leave(oneshot::Sender<()>),
}

/// The next state.
enum Next {
    Follow,
    Stand(Ballot),
    Lead(Box<Seat>),
    Succeed(Box<Released>),
    Suspend(Box<Exile>),
    Stop(Stop, Option<oneshot::Sender<()>>),
}

/// What a command means in a state that does not lead.
enum Heard {
    Nothing,
    Leave(oneshot::Sender<()>),
}

pub(crate) struct Agent {
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    me: Instance,
    lease: RedisLease,
    observer: Observer,
    sight: watch::Receiver<Sight>,
    identity: Identity,
    roll: watch::Receiver<Roll>,
    warm: WarmPin,
    watcher: Watcher,
    pulse: Pulse,
    role: watch::Sender<Role>,
    stats: watch::Sender<Stats>,
    commands: mpsc::Receiver<Command>,
    /// Until then an acknowledged offer binds this instance: it does not drain.
    bound: Option<Moment>,
    /// The drain that waits for that.
    deferred: Option<oneshot::Sender<()>>,
    /// Whoever told this instance to stop, and waits.
    retiring: Option<oneshot::Sender<Retirement>>,
}

/// What an agent is made of.
pub(crate) struct Parts {
    /// The runtime that the journal runs on.
    pub(crate) home: Handle,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) me: Instance,
    pub(crate) lease: RedisLease,
    pub(crate) observer: Observer,
    pub(crate) identity: Identity,
    pub(crate) pulse: Pulse,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) stats: watch::Sender<Stats>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

// === impl Agent ===

impl Agent {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { home, config, clock, me, lease, observer, identity, pulse, role, stats, commands } =
            parts;
        // The low half of a UUIDv7 is random.
        let seed = me.incarnation.as_uuid().as_u64_pair().1;
        Self {
            sight: observer.sight(),
            roll: identity.roll(),
            warm: WarmPin::start(home, config.clone()),
            watcher: Watcher::new(me.clone(), config.priority, config.timing, seed),
            config,
            clock,
            me,
            lease,
            observer,
            identity,
            pulse,
            role,
            stats,
            commands,
            bound: None,
            deferred: None,
            retiring: None,
        }
    }

    /// Plays until it is told to stop, or dropped.
    pub(crate) async fn run(mut self) {
        let mut next = Next::Follow;
        loop {
            next = match next {
                Next::Follow => self.follow().await,
                Next::Stand(ballot) => self.stand(ballot).await,
                Next::Lead(seat) => self.lead(seat).await,
                Next::Succeed(released) => self.await_successor(released).await,
                Next::Suspend(exile) => self.come_back(exile).await,
                Next::Stop(why, done) => {
                    self.stop(why, done).await;
                    return;
                }
            };
        }
    }

    async fn stop(&mut self, why: Stop, done: Option<oneshot::Sender<()>>) {
        self.say(&format!("takes no further part: {why}"));
        self.retired(Retirement::Stopped);
        self.identity.leave(self.config.timing.acknowledgement()).await;
        self.role.send_replace(Role::Stopped { why });
        self.stats.send_modify(|stats| stats.leading = false);
        if let Some(done) = done {
            let _ = done.send(());
            return;
        }
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::SetStatus(_, done) => drop(done.send(())),
                Command::HandOver(_, reply) => drop(reply.send(HandoverOutcome::NotLeader)),
                Command::Retire(reply) => drop(reply.send(Retirement::Stopped)),
                Command::Leave(done) => {
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    /// Carries out a command in a state that does not lead.
    fn hear(&mut self, command: Command) -> Heard {
        match command {
            Command::SetStatus(status, done) => self.set_status(status, done),
            Command::HandOver(_, reply) => drop(reply.send(HandoverOutcome::NotLeader)),
            Command::Retire(reply) => self.retire(reply),
            Command::Leave(done) => return Heard::Leave(done),
        }
        Heard::Nothing
    }

    fn set_status(&mut self, status: Status, done: oneshot::Sender<()>) {
        let now = self.clock.now();
        if status != Status::Draining && self.watcher.is_retiring() {
            let _ = done.send(());
            return;
        }
        if status == Status::Draining && self.bound.is_some_and(|until| now < until) {
            self.deferred = Some(done);
            return;
        }
        self.identity.wish(|wish| wish.status = status);
        let _ = done.send(());
    }

    /// Lets a deferred drain through once nothing binds this instance any more.
    fn unbind(&mut self) {
        self.bound = None;
        if let Some(done) = self.deferred.take() {
            self.set_status(Status::Draining, done);
        }
    }

    /// What the election has to know of this instance and its peers.
    fn standing(&self, holder: Option<&Instance>) -> Standing {
        let roll = self.roll.borrow();
        let wanted = self.identity.wanted().status;
        let status = if wanted == Status::Active { roll.status } else { Some(wanted) };
        let inside = roll.membership == Membership::Inside;
        let (rival, newer_rival) = rivals(&roll.peers, &self.me, holder, self.config.build);
        let fenced = roll.peers.iter().any(|peer| peer.instance == self.me && peer.fenced);
        let engine_lives = self.clock.now().since(self.pulse.read().last) < self.config.timing.ttl;
        let last_commit = roll.last_commit.filter(|_| inside);
        Standing { status, last_commit, rival, newer_rival, fenced, engine_lives }
    }

    fn refused(&self) -> bool {
        self.roll.borrow().membership == Membership::Refused
    }

    fn duplicate(&self) -> Stop {
        Stop::Duplicate { member: self.me.member.to_string() }
    }

    /// Goes back to the start, as a follower that has to recover: leadership ended against this instance's will.
    fn demote(&mut self, why: &str) {
        let now = self.clock.now();
        self.say(&format!("gave up leadership: {why}"));
        self.watcher.reset();
        self.watcher.lost(now);
        self.identity.wish(|wish| {
            wish.held_down = true;
            if wish.status == Status::Active {
                wish.status = Status::Recovering;
            }
        });
        self.stats.send_modify(|stats| {
            stats.leading = false;
            stats.involuntary_losses += 1;
        });
        self.role.send_replace(Role::Follower { leader: None });
    }

    /// One sentence for people, in the log and in the stats.
    fn say(&self, sentence: &str) {
        tracing::info!(member = %self.me.member, "[HA] {sentence}");
        self.stats.send_modify(|stats| stats.last_change = Arc::from(sentence));
    }

    /// Like [`Agent::say`], unless it was the last thing said: an attempt is repeated, its failure is news once.
    fn say_once(&self, sentence: &str) {
        if *self.stats.borrow().last_change != *sentence {
            self.say(sentence);
        }
    }

    /// Takes what the tasks know into the stats; a store that changes is worth a sentence. Who watches the stats is woken
    /// only by what differs: a look comes every 50 ms and nearly always says what the last one did.
    fn refresh_stats(&self) {
        let now = self.clock.now();
        let sight = self.sight.borrow().clone();
        let roll = self.roll.borrow().clone();
        let mut sentences: Vec<String> = Vec::new();
        self.stats.send_if_modified(|stats| {
            let before = stats.clone();
            stats.status = roll.status.filter(|_| roll.membership == Membership::Inside);
            stats.epoch = self.watcher.highest();
            stats.leader_seen = self.watcher.last_sign();
            let was_down = !stats.postgres.is_up();
            match (&sight, &roll.membership) {
                (Sight::Blind { since, why }, _) => stats.postgres.fail(*since, why),
                (Sight::Seen(look), Membership::Outside { since, why })
                    if now.since(*since) > self.config.timing.renew =>
                {
                    stats.paused = look.row.paused;
                    stats.postgres.fail(*since, why);
                }
                (Sight::Seen(look), _) => {
                    stats.paused = look.row.paused;
                    stats.postgres = StoreState::Up;
                }
                (Sight::Dark, _) => {}
            }
            if was_down == stats.postgres.is_up() {
                sentences.push(match &stats.postgres {
                    StoreState::Down { why, .. } => format!("PostgreSQL is away: {why}"),
                    StoreState::Up | StoreState::Unknown => "PostgreSQL answers".to_owned(),
                });
            }
            let was_degraded = stats.ha_degraded;
            match &roll.redis {
                Some(Ok(())) => stats.redis = StoreState::Up,
                Some(Err(why)) => stats.redis.fail(now, why),
                None => {}
            }
            stats.ha_degraded = matches!(stats.redis, StoreState::Down { .. });
            if was_degraded != stats.ha_degraded {
                sentences.push(match &stats.redis {
                    StoreState::Down { why, .. } => {
                        format!("Redis is away, leadership stays as it is: {why}")
                    }
                    StoreState::Up | StoreState::Unknown => "Redis answers".to_owned(),
                });
            }
            *stats != before
        });
        for sentence in sentences {
            self.say(&sentence);
        }
    }

    /// Sleeps until then; for ever if there is no such moment.
    fn sleep_until(&self, at: Option<Moment>) -> impl Future<Output = ()> + use<> {
        let span = at.map(|at| at.until(self.clock.now()));
        async move {
            match span {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The time a session may take to open while something waits for it.
    fn connect_patience(&self) -> Duration {
        self.config.timing.idle_in_transaction()
    }
}

fn earliest(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
