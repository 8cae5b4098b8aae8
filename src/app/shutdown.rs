//! A clean stop: drain, hand over, leave. A successor keeps positions and stops; without one the exit policy decides.
//!
//! Each step has its budget and its line in the log; all together have one, too, after which the process leaves as a
//! crash would: whatever is on its way is in the ledger, and in doubt for the next leader. What the exit policy needs is
//! set aside before anybody is waited for, and so is what comes after it: the last words and the last state.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ha::{Handle, Retirement, Role, Status};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::parting::Parting;
use super::successor::{self, Office, Patience};
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
/// What telling a step's outcome takes: steps end so long before the process does.
const WORD: Duration = Duration::from_millis(50);

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
    /// T.
    pub lease_ttl: Duration,
    /// When the stop began.
    pub begun: Instant,
}

/// What the office is left with.
struct Vacating<'a> {
    handle: &'a Arc<Handle>,
    engine: &'a Engine,
    plan: &'a Shutdown,
    shares: Shares,
    lease_ttl: Duration,
    begun: Instant,
}

/// Ends the instance's part in the cluster within the budget, and says what became of it; a second signal ends the
/// process at once.
pub(super) async fn shutdown(
    signal: &str,
    leaving: Leaving<'_>,
    operational: &OperationalState,
    stop: &mut Stop,
) -> Parting {
    let Leaving { handle, engine, trading, drain, plan, lease_ttl, begun } = leaving;
    let shares = Shares::of(&plan);
    tracing::info!(
        budget_ms = shares.steps.as_millis(),
        "[SHUTDOWN] {signal}: draining; a second signal ends at once"
    );
    operational.shutdown(format!("{signal}: draining"));
    drain.cancel();
    let parting = OnceLock::new();
    let vacating = Vacating { handle, engine, plan: &plan, shares, lease_ttl, begun };
    let steps = async {
        // Orders in flight get their answers recorded before anybody else may lead.
        let _ = trading.await;
        tracing::info!(took_ms = begun.elapsed().as_millis(), "[SHUTDOWN] drained");
        let became = vacate(&vacating).await;
        // Set once, here.
        let _ = parting.set(became);
        handle.set_status(Status::Draining).await;
    };
    let cut = tokio::select! {
        () = steps => None,
        never = beating(handle) => match never {},
        () = tokio::time::sleep_until(begun + shares.steps) => {
            // A follower, too: for so long it saw nobody lead.
            Some((format!("the budget of {} ms was used up", shares.steps.as_millis()), true))
        }
        second = heard_again(stop, begun) => Some((format!("{second} again: leaving at once"), false)),
    };
    if let Some((why, _)) = &cut {
        tracing::warn!("[SHUTDOWN] {why}; leaving as a crash would");
    }
    tracing::info!(took_ms = begun.elapsed().as_millis(), "[SHUTDOWN] done");
    parting.into_inner().unwrap_or_else(|| {
        let (why, late) = cut.unwrap_or_else(|| ("the stop ended".to_owned(), false));
        let leads = matches!(*handle.role().borrow(), Role::Leader(_) | Role::Suspended { .. });
        Parting::cut_off(&why, leads || late)
    })
}

/// Shows a sign of life in the engine's stead: a process that is on its way out does not hang.
pub(super) async fn beating(handle: &Handle) -> Infallible {
    let pulse = handle.pulse();
    loop {
        pulse.beat();
        tokio::time::sleep(BEAT).await;
    }
}

/// How the budget is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shares {
    /// Draining, handing over and the exit policy.
    steps: Duration,
    /// Of that, what waiting for a successor must leave.
    exit: Duration,
    /// Of that, what waiting for the database must leave.
    close: Duration,
    /// The longest wait for a successor.
    successor: Duration,
}

impl Shares {
    fn of(plan: &Shutdown) -> Self {
        // Said while the last state is stored and requests are answered.
        let after = (plan.save + plan.disconnect).max(plan.notify);
        let steps = plan.budget.saturating_sub(after).max(plan.budget / 2);
        let close = if plan.exit_policy == ExitPolicy::Flatten { plan.close } else { Duration::ZERO };
        Self {
            steps,
            // However small the budget is, a successor is asked.
            exit: (plan.cancel + close).min(steps * 3 / 4),
            close: close.min(steps / 2),
            successor: SUCCESSOR.min(plan.budget / 3),
        }
    }

    /// What a handover may take that begins now, in a stop that was begun then.
    fn patience(&self, begun: Instant, lease_ttl: Duration) -> Patience {
        let end = begun + self.steps;
        Patience {
            offers: (end - self.exit).min(Instant::now() + self.successor),
            resumption: end - self.close,
            lease_ttl,
        }
    }
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

/// Leaves no empty office behind: a leader hands over or carries the exit policy out, a follower waits until it sees
/// somebody lead. Whoever sees nobody leads itself, as the last one.
async fn vacate(leaving: &Vacating<'_>) -> Parting {
    let Vacating { handle, engine, plan, shares, lease_ttl, begun } = leaving;
    loop {
        let answerable = matches!(*handle.role().borrow(), Role::Leader(_) | Role::Suspended { .. });
        if answerable {
            match successor::hand_over(handle, shares.patience(*begun, *lease_ttl)).await {
                Office::HandedOver(became) => return became,
                Office::Lost => {}
                Office::Kept => {
                    let end = *begun + shares.steps - WORD;
                    if let Some(became) = wind_down(handle, engine, plan, end).await {
                        return became;
                    }
                }
            }
            continue;
        }
        match handle.retire().await {
            Retirement::Leads => {}
            Retirement::MayLeave => {
                tracing::info!("[SHUTDOWN] another instance leads");
                return Parting::Settled("another instance leads".to_owned());
            }
            Retirement::Unable { why } => {
                let why = format!(
                    "nobody leads and this instance cannot ({why}), so nothing was cancelled or closed: \
                     positions stay as they are and nobody watches their stops"
                );
                tracing::error!("[SHUTDOWN] close: {why}");
                return Parting::Unwatched(why);
            }
            Retirement::Stopped => return Parting::Settled("it had left the cluster already".to_owned()),
        }
    }
}

/// Nobody took over, so the exit policy decides about what is held; none when leadership was lost on the way.
async fn wind_down(handle: &Handle, engine: &Engine, plan: &Shutdown, end: Instant) -> Option<Parting> {
    let role = handle.role().borrow().clone();
    let fence = match role {
        Role::Leader(fence) => fence,
        Role::Suspended { .. } => {
            let why = "the database is away and nothing can be journaled, so nothing was cancelled or closed: \
                       positions stay as they are and nobody watches their stops";
            tracing::error!("[SHUTDOWN] close: {why}");
            return Some(Parting::Unwatched(why.to_owned()));
        }
        _ => return None,
    };
    tracing::info!("[SHUTDOWN] exit policy {}", plan.exit_policy.as_str());
    let left = end.saturating_duration_since(Instant::now());
    let budgets = Budgets { cancel: plan.cancel.min(left * 2 / 5), close: plan.close, end: end.into_std() };
    let flatten = plan.exit_policy == ExitPolicy::Flatten;
    let steps = Box::pin(engine.wind_down(fence, flatten, budgets)).await;
    for step in &steps {
        let took_ms = step.took.as_millis();
        if step.done {
            tracing::info!(took_ms, "[SHUTDOWN] {}: {}", step.name, step.outcome);
        } else {
            tracing::error!(took_ms, "[SHUTDOWN] {}: {}", step.name, step.outcome);
        }
    }
    let leads = matches!(*handle.role().borrow(), Role::Leader(_) | Role::Suspended { .. });
    leads.then(|| Parting::wound_down(plan.exit_policy, &steps))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(budget: u64, exit_policy: ExitPolicy) -> Shutdown {
        let ms = Duration::from_millis;
        Shutdown {
            budget: ms(budget),
            exit_policy,
            cancel: ms(2000),
            close: ms(3000),
            save: ms(1000),
            notify: ms(2000),
            disconnect: ms(1000),
        }
    }

    // R: N12: what the exit policy may take is never spent on waiting.
    #[test]
    fn cancel_and_close_are_set_aside_before_anybody_is_waited_for() {
        let shares = Shares::of(&plan(9000, ExitPolicy::Flatten));
        assert_eq!(shares.steps, Duration::from_secs(7));
        assert_eq!((shares.exit, shares.close), (Duration::from_secs(5), Duration::from_secs(3)));
        let begun = Instant::now();
        let patience = shares.patience(begun, Duration::from_secs(3));
        assert_eq!(patience.offers - begun, Duration::from_secs(2));
        assert_eq!(patience.resumption - begun, Duration::from_secs(4));
        let hold = Shares::of(&plan(9000, ExitPolicy::Hold));
        assert_eq!((hold.exit, hold.close), (Duration::from_secs(2), Duration::ZERO));
    }

    #[test]
    fn a_small_budget_leaves_something_for_each() {
        let shares = Shares::of(&plan(2000, ExitPolicy::Flatten));
        let ms = Duration::from_millis;
        assert_eq!((shares.steps, shares.exit, shares.close), (ms(1000), ms(750), ms(500)));
    }
}
