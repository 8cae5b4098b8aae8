//! A clean stop: drain, hand over, leave. A successor keeps positions and stops; without one the exit policy decides.
//!
//! Each step has its budget and its line in the log; all together have one, too, after which the process leaves as a
//! crash would: whatever is on its way is in the ledger, and in doubt for the next leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ha::{Handle, HandoverOutcome, Retirement, Role, Status};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::signal::Stop;
use crate::config::{ExitPolicy, Shutdown};
use crate::engine::Engine;
use crate::engine::winddown::Budgets;
use crate::health::operational::OperationalState;

/// How often leadership is kept alive while it is handed over.
const BEAT: Duration = Duration::from_millis(50);
/// A signal this soon after the first is the same word said twice.
const ECHO: Duration = Duration::from_millis(300);

/// The longest wait for a successor.
const SUCCESSOR: Duration = Duration::from_secs(3);

/// What leaves, and how.
pub(super) struct Leaving<'a> {
    /// Its membership.
    pub handle: &'a Arc<Handle>,
    /// Its engine, to wind positions down.
    pub engine: &'a Engine,
    /// The engine's loop.
    pub trading: JoinHandle<()>,
    /// Ends that loop.
    pub drain: &'a CancellationToken,
    /// Budgets and exit policy.
    pub plan: Shutdown,
}

/// Ends the instance's part in the cluster within the budget; a second signal ends the process at once.
pub(super) async fn shutdown(
    signal: &str,
    leaving: Leaving<'_>,
    operational: &OperationalState,
    stop: &mut Stop,
) {
    let begun = Instant::now();
    let Leaving { handle, engine, trading, drain, plan } = leaving;
    // What is left for the steps after this.
    let budget = plan.budget.saturating_sub(plan.save + plan.disconnect).max(plan.budget / 2);
    tracing::info!(
        budget_ms = budget.as_millis(),
        "[SHUTDOWN] {signal}: draining; a second signal ends at once"
    );
    operational.shutdown(format!("{signal}: draining"));
    drain.cancel();
    let steps = async {
        // Orders in flight get their answers recorded before anybody else may lead.
        let _ = trading.await;
        tracing::info!(took_ms = begun.elapsed().as_millis(), "[SHUTDOWN] drained");
        vacate(handle, engine, &plan).await;
        handle.set_status(Status::Draining).await;
    };
    let pulse = handle.pulse();
    let beating = async {
        loop {
            pulse.beat();
            tokio::time::sleep(BEAT).await;
        }
    };
    tokio::select! {
        () = steps => {}
        () = beating => {}
        () = tokio::time::sleep(budget) => {
            tracing::error!("[SHUTDOWN] the budget of {} ms is used up; leaving as a crash would", budget.as_millis());
        }
        second = heard_again(stop, begun) => {
            tracing::warn!("[SHUTDOWN] {second} again: leaving at once");
        }
    }
    tracing::info!(took_ms = begun.elapsed().as_millis(), "[SHUTDOWN] done");
}

/// The next signal that is not the first one's echo: a wrapper and its process group often both deliver it.
async fn heard_again(stop: &mut Stop, first: Instant) -> &'static str {
    loop {
        let signal = stop.heard().await;
        if first.elapsed() > ECHO {
            return signal;
        }
    }
}

/// What a handover came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Office {
    HandedOver,
    /// Nobody takes it.
    Kept,
    Lost,
}

/// Leaves no empty office behind: a leader hands over or carries the exit policy out, a follower waits until it sees
/// somebody lead. Whoever sees nobody leads itself, as the last one.
async fn vacate(handle: &Arc<Handle>, engine: &Engine, plan: &Shutdown) {
    loop {
        match handle.retire().await {
            Retirement::Leads => match hand_over(handle, (plan.budget / 3).min(SUCCESSOR)).await {
                Office::HandedOver => return,
                Office::Kept if wind_down(handle, engine, plan).await => return,
                Office::Kept | Office::Lost => {}
            },
            Retirement::MayLeave => {
                tracing::info!("[SHUTDOWN] another instance leads");
                return;
            }
            Retirement::Unable { why } => {
                tracing::error!(
                    "[SHUTDOWN] close: nobody leads and this instance cannot ({why}), so nothing was cancelled or closed: \
                     positions stay as they are and nobody watches their stops"
                );
                return;
            }
            Retirement::Stopped => return,
        }
    }
}

/// Offers leadership for as long as somebody may still take it: a follower that has just come up, or that was slow to
/// answer once, is worth a second offer.
async fn hand_over(handle: &Arc<Handle>, patience: Duration) -> Office {
    let begun = Instant::now();
    loop {
        match handle.hand_over(None).await {
            HandoverOutcome::HandedOver { to, epoch, gap } => {
                tracing::info!(%to, %epoch, gap_ms = gap.as_millis(), "[SHUTDOWN] handed over");
                return Office::HandedOver;
            }
            HandoverOutcome::NoSuccessor { why } if may_come(handle, begun.elapsed(), patience).await => {
                tracing::info!("[SHUTDOWN] no successor yet ({why}); offering again");
                tokio::time::sleep(BEAT).await;
            }
            HandoverOutcome::NoSuccessor { why } => {
                tracing::warn!("[SHUTDOWN] no successor ({why})");
                return Office::Kept;
            }
            HandoverOutcome::NotLeader => return Office::Lost,
            HandoverOutcome::Lost { why } => {
                tracing::warn!("[SHUTDOWN] leadership was lost on the way: {why}");
                return Office::Lost;
            }
        }
    }
}

/// Nobody took over, so the exit policy decides about what is held. Says whether it was carried out to its end, well or
/// badly, and not cut short by the loss of leadership.
async fn wind_down(handle: &Handle, engine: &Engine, plan: &Shutdown) -> bool {
    let Some(fence) = handle.role().borrow().fence().cloned() else { return false };
    let flatten = plan.exit_policy == ExitPolicy::Flatten;
    tracing::info!("[SHUTDOWN] exit policy {}", plan.exit_policy.as_str());
    let budgets = Budgets { cancel: plan.cancel, close: plan.close };
    for step in engine.wind_down(fence, flatten, budgets).await {
        let took_ms = step.took.as_millis();
        if step.done {
            tracing::info!(took_ms, "[SHUTDOWN] {}: {}", step.name, step.outcome);
        } else {
            tracing::error!(took_ms, "[SHUTDOWN] {}: {}", step.name, step.outcome);
        }
    }
    matches!(*handle.role().borrow(), Role::Leader(_))
}

/// Waits for a task's end within a step's budget, and tells how it went.
pub(super) async fn within<T>(step: &str, budget: Duration, what: &str, mut task: JoinHandle<T>) {
    let begun = Instant::now();
    let ended = tokio::time::timeout(budget, &mut task).await.is_ok();
    let took_ms = begun.elapsed().as_millis();
    if ended {
        tracing::info!(took_ms, "[SHUTDOWN] {step}: {what}");
    } else {
        task.abort();
        tracing::warn!(took_ms, "[SHUTDOWN] {step}: not all of it within {} ms", budget.as_millis());
    }
}

/// Says whether a successor may still show up. In a rolling restart the next instance's turn may come before anybody
/// has read of the newcomer (the list is as old as the last liveness commit), or has seen its sign of life move.
async fn may_come(handle: &Handle, waited: Duration, patience: Duration) -> bool {
    let listed = handle.instances().await.unwrap_or_default();
    let other =
        listed.iter().any(|info| info.instance != *handle.instance() && info.status != Status::Draining);
    waited < if other { patience } else { patience / 6 }
}
