//! The engine: from signals to orders to positions, on whichever instance leads.
//!
//! [`Engine::run`] lives as long as the process. While the instance follows, it only beats its pulse. When it leads,
//! it serves a [`term`]: takes over what the former leader left, then loops: gather events, decide over the
//! [`book`] (pure), journal, send, record. What a term knows dies with it; the next one reads the ledger.

mod adoption;
mod anew;
mod apply;
mod bids;
pub mod book;
pub mod cash;
pub mod coming;
pub mod command;
mod custody;
mod day;
pub mod decide;
pub mod draft;
mod dropping;
mod ends;
pub mod evidence;
mod expiry;
mod failover;
pub mod handed;
mod holdings;
mod intents;
pub mod lanes;
mod lost_exits;
mod monitor;
mod not_flat;
mod orders;
mod outcomes;
mod overdue;
mod pool;
mod process;
mod projection;
mod readings;
pub mod recess;
pub mod refusals;
pub mod rehearsal;
mod requests;
mod resting;
pub mod runner;
pub mod senders;
mod settling;
mod signals;
mod square_off;
pub mod stops;
mod stopwatch;
mod submit;
mod takeover;
mod tell;
pub mod term;
mod trace;
mod trades;
mod trailing;
pub mod wholeness;
pub mod winddown;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ha::{Fence, Pulse, Role};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::session::Session;
use crate::broker::{BridgeMode, Broker};
use crate::emergency::mark::Marks;
use crate::feed::{ContractData, Hours, OrderNews, PriceBoard};
use crate::health::operational::OperationalState;
use crate::ledger::Ledger;
use crate::ledger::flapping::FlapLimit;
use crate::notify::Notifier;
use crate::recovery::CrashRecoveryManager;
use crate::recovery::reconcile::Reconciler;
use crate::strategy::states::StateWatch;
use crate::telemetry::{Metrics, Traces};
use coming::Coming;
use command::Commands;
use decide::Rules;
use evidence::AbsenceRule;
use recess::Recess;
use refusals::Refusals;
use senders::Sending;
use term::{End, Term};
use wholeness::Wholeness;

/// How often a follower's engine shows that it is alive.
const IDLE_BEAT: Duration = Duration::from_millis(200);

/// What the engine is told.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long after its journaling an order's bytes may be written.
    pub send_window: Duration,
    /// When an in-doubt order that is not in the books is proven absent.
    pub absence: AbsenceRule,
    /// The longest that one reading of a book may take.
    pub reading: Duration,
    /// The longest wait between two readings of the books while an order is open.
    pub poll: Duration,
    /// How long an EXIT waits for an entry of its instrument that may fill any moment.
    pub exit_patience: Duration,
    /// How long a journaled entry may wait for the rate budget: with less than this left to the leader's deadline none
    /// is journaled until the next heartbeat is confirmed.
    pub entry_queue: Duration,
    /// Entries that may be out without an answer at once: more would outlive their send window in the rate budget.
    pub entries_in_flight: usize,
    /// The mode the bridge must be in.
    pub armed: BridgeMode,
    /// When leadership that keeps moving sets reduce-only; none = never.
    pub flapping: Option<FlapLimit>,
}

/// Everything a leader works with; one per process.
#[derive(Clone)]
pub struct Engine {
    /// The truth.
    pub ledger: Ledger,
    /// The way to the broker.
    pub broker: Arc<dyn Broker>,
    /// Policy and instruments.
    pub rules: Arc<Rules>,
    /// Times.
    pub pace: Pace,
    /// Reads state back at a takeover.
    pub recovery: CrashRecoveryManager,
    /// The comparison with the broker's position book.
    pub reconciler: Arc<Reconciler>,
    /// The sign of life that leadership depends on.
    pub pulse: Pulse,
    /// Reasons to read the books before their time.
    pub news: OrderNews,
    /// The broker session: an expired one stops entries.
    pub session: watch::Receiver<Session>,
    /// When the market is open.
    pub hours: Hours,
    /// What is known of today's contracts.
    pub contracts: ContractData,
    /// Live prices: stops are watched by them.
    pub prices: PriceBoard,
    /// What operators ask for.
    pub commands: Commands,
    /// Wakes the leader for a new signal.
    pub arrivals: Arc<Notify>,
    /// Signals that this instance is about to store.
    pub coming: Coming,
    /// What the operator is told.
    pub operational: OperationalState,
    /// What is notified.
    pub notifier: Notifier,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The steps of each signal.
    pub traces: Traces,
    /// What the leader's own looks at stored state found.
    pub wholeness: Wholeness,
    /// What somebody closes without the ledger.
    pub marks: Arc<Marks>,
    /// Orders that a task of this process may still write.
    pub sending: Sending,
    /// Changes that PostgreSQL does not take.
    pub refusals: Refusals,
    /// Rests while an operator has leadership handed over.
    pub recess: Recess,
    /// Which strategies may enter.
    pub strategies: StateWatch,
}

impl Engine {
    /// Serves term after term until `drain` is cancelled, then finishes what is in flight and returns.
    pub async fn run(&self, mut role: watch::Receiver<Role>, drain: CancellationToken) {
        while !drain.is_cancelled() {
            self.pulse.beat();
            let now = role.borrow_and_update().clone();
            let rests = self.recess.observe();
            match now {
                Role::Leader(_) if rests => self.operational.waiting("leadership is being handed over"),
                Role::Leader(fence) => {
                    let stop = drain.child_token();
                    self.recess.ends(&stop, Box::pin(self.lead(fence, &stop))).await;
                }
                other => self.follow(&other),
            }
            // After a term too: the role may learn a moment later that its fence is closed, and a term that ended by a
            // fault of its own must not begin again under the same fence at full speed.
            tokio::select! {
                Ok(()) = role.changed() => {}
                () = drain.cancelled() => {}
                () = self.recess.changed(rests) => {}
                () = tokio::time::sleep(IDLE_BEAT) => {}
            }
        }
    }

    async fn lead(&self, fence: Fence, drain: &CancellationToken) {
        let epoch = fence.epoch();
        match Term::take_over(self, fence.clone(), drain).await {
            Some(mut term) => {
                let end = term.serve(drain).await;
                let anew = matches!(end, End::Reread);
                if let End::Ledger(error) = &end {
                    self.gives_up(&fence, error);
                }
                tracing::info!(%epoch, "[HA] this term of trading is over: {end}");
                self.prices.want(BTreeSet::new());
                self.metrics.orders_in_doubt.set(0);
                self.metrics.exit_waiting_since.set(0.0);
                self.metrics.stops_unarmed.set(0);
                self.metrics.stops_not_resting.set(0);
                self.metrics.exits_not_flat.set(0);
                self.metrics.square_off_late.set(0);
                day::show_latched(&self.metrics, &[]);
                day::show_used(&self.metrics, &self.rules.policy.limits, None);
                self.metrics.positions_expiring.set(0);
                if anew {
                    return;
                }
            }
            None => tracing::info!(%epoch, "[HA] leadership ended before this instance had taken over"),
        }
        if !drain.is_cancelled() {
            // An ERROR that leadership was given up for stays until recovery has looked.
            self.operational.waiting("no longer leading");
        }
    }

    fn follow(&self, role: &Role) {
        match role {
            Role::Follower { leader: Some(leader) } => self
                .operational
                .waiting(format!("follower: {} leads under epoch {}", leader.instance.member, leader.epoch)),
            Role::Follower { leader: None } => self.operational.waiting("follower: no leader is known yet"),
            Role::Suspended { why, .. } => self.operational.waiting(format!("suspended: {why}")),
            Role::Candidate | Role::Leader(_) | Role::Stopped { .. } => {}
        }
    }
}
