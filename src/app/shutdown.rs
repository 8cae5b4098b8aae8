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
        hand_over(handle).await;
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

async fn hand_over(handle: &Handle) {
    let leads = matches!(*handle.role().borrow(), Role::Leader(_) | Role::Suspended { .. });
    if leads {
        match handle.hand_over(None).await {
            HandoverOutcome::HandedOver { to, epoch, gap } => {
                tracing::info!(%to, %epoch, gap_ms = gap.as_millis(), "[SHUTDOWN] handed over");
            }
            HandoverOutcome::NoSuccessor { why } => {
                tracing::warn!("[SHUTDOWN] no successor ({why}): positions and their stops stay as they are");
            }
            HandoverOutcome::NotLeader => {}
            HandoverOutcome::Lost { why } => {
                tracing::warn!("[SHUTDOWN] leadership was lost on the way: {why}")
            }
        }
    }
    handle.set_status(Status::Draining).await;
}
