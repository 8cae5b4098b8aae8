//! A clean stop: drain, hand over, leave. Positions and stops stay where they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ha::{Handle, HandoverOutcome, Role, Status};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::signal::Stop;
use crate::health::operational::OperationalState;

/// How often leadership is kept alive while it is handed over.
const BEAT: Duration = Duration::from_millis(50);
/// A signal this soon after the first is the same word said twice.
const ECHO: Duration = Duration::from_millis(300);

/// Ends the instance's part in the cluster within `budget`; a second signal ends the process at once.
pub(super) async fn shutdown(
    signal: &str,
    handle: &Arc<Handle>,
    trading: JoinHandle<()>,
    drain: &CancellationToken,
    operational: &OperationalState,
    budget: Duration,
    stop: &mut Stop,
) {
    let begun = Instant::now();
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
        hand_over(handle, budget / 3).await;
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

/// Offers leadership for as long as somebody may still take it: a follower that has just come up, or that was slow to
/// answer once, is worth a second offer.
async fn hand_over(handle: &Arc<Handle>, patience: Duration) {
    let begun = Instant::now();
    while matches!(*handle.role().borrow(), Role::Leader(_) | Role::Suspended { .. }) {
        match handle.hand_over(None).await {
            HandoverOutcome::HandedOver { to, epoch, gap } => {
                tracing::info!(%to, %epoch, gap_ms = gap.as_millis(), "[SHUTDOWN] handed over");
                break;
            }
            HandoverOutcome::NoSuccessor { why } if may_come(handle, begun.elapsed(), patience).await => {
                tracing::info!("[SHUTDOWN] no successor yet ({why}); offering again");
                tokio::time::sleep(BEAT).await;
            }
            HandoverOutcome::NoSuccessor { why } => {
                tracing::warn!("[SHUTDOWN] no successor ({why}): positions and their stops stay as they are");
                break;
            }
            HandoverOutcome::NotLeader => break,
            HandoverOutcome::Lost { why } => {
                tracing::warn!("[SHUTDOWN] leadership was lost on the way: {why}");
                break;
            }
        }
    }
    handle.set_status(Status::Draining).await;
}

/// Says whether a successor may still show up. In a rolling restart the next instance's turn may come before anybody
/// has read of the newcomer (the list is as old as the last liveness commit), or has seen its sign of life move.
async fn may_come(handle: &Handle, waited: Duration, patience: Duration) -> bool {
    let listed = handle.instances().await.unwrap_or_default();
    let other =
        listed.iter().any(|info| info.instance != *handle.instance() && info.status != Status::Draining);
    waited < if other { patience } else { patience / 6 }
}
