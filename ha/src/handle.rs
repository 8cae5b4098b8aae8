//! The way into the crate: join a cluster, watch the role, hand over, leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::{Agent, Command, Parts};
use crate::clock::Clock;
use crate::config::{Config, InvalidConfig};
use crate::identity::{Identity, Membership, Roll, Wish, from_redis};
use crate::ids::{Epoch, Instance, Member};
use crate::lease::RedisLease;
use crate::observer::Observer;
use crate::operator::{Desk, FenceOutcome, Noted, OperatorError, Reign, Request};
use crate::pulse::Pulse;
use crate::role::{Retirement, Role, Status};
use crate::session::sentence;
use crate::stats::{HandoverOutcome, InstanceInfo, ListError, Stats};
use crate::thread::Thread;

/// A member of a cluster. Dropping it is as a crash would be: the pin frees itself.
pub struct Handle {
    me: Instance,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    role: watch::Receiver<Role>,
    stats: watch::Receiver<Stats>,
    roll: watch::Receiver<Roll>,
    pulse: Pulse,
    lease: RedisLease,
    wish: watch::Sender<Wish>,
    commands: mpsc::Sender<Command>,
    thread: Thread,
}

/// Why a process could not begin to join. Stores that are away are no such reason: it keeps trying.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The Redis address cannot be read.
    #[error("the address of Redis or of a sentinel is not usable: {}", sentence(.0))]
    RedisUrl(redis::RedisError),
    /// The operating system gives no more threads or sockets.
    #[error(
        "cannot start the thread that leadership runs on: {0}; look at the limits of threads and open files"
    )]
    Thread(std::io::Error),
}

// === impl Handle ===

impl Handle {
    /// Joins in the background, on a thread of its own, and returns at once, with the role follower and the status
    /// recovering. The stores need not be up. Has to be called within a Tokio runtime with time and I/O enabled: the one
    /// whose tasks use the fence's session, which serves its connection.
    pub async fn join(config: Config, clock: Arc<dyn Clock>) -> Result<Self, JoinError> {
        config.validate()?;
        let lease = RedisLease::new(&config).map_err(JoinError::RedisUrl)?;
        let config = Arc::new(config);
        let me = Instance::new(config.member.clone());
        let patience = config.timing.ttl;
        let home = tokio::runtime::Handle::current();
        let thread = Thread::start().map_err(JoinError::Thread)?;
        // What starts below spawns its tasks there.
        let there = thread.runtime().clone();
        let _entered = there.enter();
        let observer = Observer::start(config.clone(), clock.clone());
        let pulse = Pulse::new(clock.clone());
        let identity =
            Identity::start(config.clone(), clock.clone(), me.clone(), pulse.clone(), lease.clone());
        let (show_role, role) = watch::channel(Role::Follower { leader: None });
        let (show_stats, stats) = watch::channel(Stats::default());
        let (commands, heard) = mpsc::channel(16);
        let (roll, wish) = (identity.roll(), identity.wisher());
        let agent = Agent::new(Parts {
            home,
            config: Arc::clone(&config),
            clock: clock.clone(),
            me: me.clone(),
            lease: lease.clone(),
            observer,
            identity,
            pulse: pulse.clone(),
            role: show_role,
            stats: show_stats,
            commands: heard,
        });
        tokio::spawn(agent.run());
        Ok(Self { me, config, clock, patience, role, stats, roll, pulse, lease, wish, commands, thread })
    }

    /// This process.
    pub fn instance(&self) -> &Instance {
        &self.me
    }

    /// The role, as a watched value. A new fence is a change even if the epoch stays.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// What metrics and the console read, as a watched value.
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// The pulse the engine beats, in every role.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// The time left until the leader's deadline; none for an instance that does not lead.
    pub fn lease_remaining(&self) -> Option<Duration> {
        let role = self.role.borrow();
        let fence = role.fence()?;
        Some(fence.check().map(|deadline| deadline.until(self.clock.now())).unwrap_or_default())
    }

    /// Sets the status. A status other than active takes effect at once: the instance stands for no election.
    /// Active takes effect when it is stored. Returns when PostgreSQL has it, or after T if it is away (it is
    /// stored when PostgreSQL comes back). An instance that acknowledged a handover first finishes its
    /// promotion, then drains. After an involuntary loss of leadership the status is recovering again, and it
    /// is the caller's turn to recover and to set it active.
    pub async fn set_status(&self, status: Status) {
        let (done, accepted) = oneshot::channel();
        if self.commands.send(Command::SetStatus(status, done)).await.is_err() {
            return;
        }
        if accepted.await.is_err() {
            return;
        }
        let mut roll = self.roll.clone();
        let stored = roll.wait_for(|roll| match roll.membership {
            Membership::Inside => roll.status == Some(status),
            Membership::Refused => true,
            Membership::Outside { .. } => false,
        });
        let _ = tokio::time::timeout(self.patience, stored).await;
    }

    /// All instances that have not left, from PostgreSQL as of the last liveness commit, else from Redis.
    pub async fn instances(&self) -> Result<Vec<InstanceInfo>, ListError> {
        let outside = {
            let roll = self.roll.borrow();
            match &roll.membership {
                Membership::Inside => return Ok(roll.peers.to_vec()),
                Membership::Outside { why, .. } => why.to_string(),
                Membership::Refused => "another live process is this member".to_owned(),
            }
        };
        let lease = self.lease.clone();
        // Where the lease's connection lives.
        let listing = self.thread.runtime().spawn(async move { lease.entries().await });
        let entries = match listing.await {
            Ok(entries) => entries.map_err(|error| error.to_string()),
            Err(ended) => Err(ended.to_string()),
        };
        match entries {
            Ok(entries) => {
                let mut listed: Vec<InstanceInfo> =
                    entries.iter().filter_map(|entry| from_redis(entry)).collect();
                listed.sort_by(|a, b| a.instance.cmp(&b.instance));
                Ok(listed)
            }
            Err(redis) => Err(ListError { postgres: outside, redis }),
        }
    }

    /// Says whether this instance reaches what a leader works with beside the stores; shown to all instances with
    /// the next liveness commit. It decides nothing here.
    pub fn set_reach(&self, reach: Option<bool>) {
        self.wish.send_if_modified(|wish| std::mem::replace(&mut wish.reach, reach) != reach);
    }

    /// Keeps a member from leading until the fence is lifted. A member that leads loses its epoch at once: a higher
    /// one is minted that nobody holds. Works from every instance that reaches PostgreSQL.
    pub async fn fence_member(
        &self,
        member: &Member,
        request: &Request,
    ) -> Result<FenceOutcome, OperatorError> {
        Desk::open(&self.config).await?.fence(member, request).await
    }

    /// Lets a fenced member lead again; false if it was not fenced.
    pub async fn unfence_member(&self, member: &Member, request: &Request) -> Result<bool, OperatorError> {
        Desk::open(&self.config).await?.unfence(member, request).await
    }

    /// Epochs below `before`, the newest first, with what operators asked for meanwhile.
    pub async fn history(&self, before: Option<Epoch>, limit: u16) -> Result<Vec<Reign>, OperatorError> {
        Desk::open(&self.config).await?.history(before, limit).await
    }

    /// Writes down that an operator wants leadership handed over, before anything is done about it.
    pub async fn note_handover(
        &self,
        to: Option<&Member>,
        epoch: Epoch,
        request: &Request,
    ) -> Result<Noted, OperatorError> {
        Noted::handover(&self.config, to, epoch, request).await
    }

    /// Hands leadership over to `to`, or to the best ready instance. The caller has drained before: nothing is
    /// in flight. After `NoSuccessor` this instance still leads, if the pin had been released under a new
    /// fence; after `HandedOver` it is a follower, and may exit.
    pub async fn hand_over(&self, to: Option<Member>) -> HandoverOutcome {
        let (reply, outcome) = oneshot::channel();
        if self.commands.send(Command::HandOver(to, reply)).await.is_err() {
            return HandoverOutcome::NotLeader;
        }
        let lost = HandoverOutcome::Lost { why: "leadership was lost on the way".to_owned() };
        outcome.await.unwrap_or(lost)
    }

    /// Tells an instance to stop, and waits for what it comes to. A follower accepts no leadership any more and drains,
    /// but it does not leave an empty office behind: it may leave once it has seen a heartbeat that came after this
    /// call, and else stands for election as the last one of all. Ask again when leadership was lost after it.
    pub async fn retire(&self) -> Retirement {
        let (reply, retirement) = oneshot::channel();
        if self.commands.send(Command::Retire(reply)).await.is_err() {
            return Retirement::Stopped;
        }
        retirement.await.unwrap_or(Retirement::Stopped)
    }

    /// Leaves the cluster. A leader gives leadership up without a successor: hand over first.
    pub async fn leave(self) {
        let (done, left) = oneshot::channel();
        if self.commands.send(Command::Leave(done)).await.is_ok() {
            let _ = left.await;
        }
    }
}
