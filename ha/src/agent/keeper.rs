//! Keeps the leader's lease in Redis, beside the heartbeat and without delaying it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Timing;
use crate::fence::Fence;
use crate::lease::{RedisLease, Renewal};
use crate::pulse::Pulse;
use crate::session::AbortOnDrop;
use crate::tenure::renews;

/// Renews while it lives. Dropping it ends the leadership, however many clones of the fence are about: the
/// fence is closed and so is the pinned session.
pub(super) struct Keeper {
    renewer: AbortOnDrop,
    fence: Fence,
}

impl Keeper {
    /// Stops renewing; the pin stays.
    pub(super) fn stop_renewing(&self) {
        self.renewer.abort();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.fence.close("this leadership has ended");
        self.fence.pin().close();
    }
}

/// Starts renewing.
pub(super) fn start(
    lease: RedisLease,
    fence: Fence,
    pulse: Pulse,
    clock: Arc<dyn Clock>,
    timing: Timing,
) -> Keeper {
    let kept = fence.clone();
    let began = clock.now();
    let task = tokio::spawn(async move {
        let mut waiting_for: Option<String> = None;
        loop {
            let engine_lives = renews(&timing, began, pulse.read(), clock.now());
            // Past the deadline nothing is renewed or taken back.
            if engine_lives && fence.check().is_ok() {
                match lease.hold(fence.instance(), fence.epoch(), timing.ttl).await {
                    Ok(Renewal::Held) => waiting_for = None,
                    Ok(Renewal::Waiting { by }) => {
                        if waiting_for.as_ref() != Some(&by) {
                            tracing::warn!("[HA] the lease belongs to {by}; taken back when it expires");
                        }
                        waiting_for = Some(by);
                    }
                    Ok(Renewal::Outbid { highest }) => {
                        fence.report_fenced(&format!(
                            "Redis holds epoch {highest}, higher than {}",
                            fence.epoch()
                        ));
                        return;
                    }
                    Err(error) => tracing::debug!("[HA] the lease was not renewed: {error}"),
                }
            }
            let pause = if waiting_for.is_some() {
                Duration::from_millis(50).min(timing.renew)
            } else {
                timing.renew
            };
            tokio::time::sleep(pause).await;
        }
    });
    Keeper { renewer: AbortOnDrop::new(task.abort_handle()), fence: kept }
}
