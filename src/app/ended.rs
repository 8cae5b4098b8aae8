//! Why a running instance ends: told to, refused by the protocol, or corrupt state.

use ha::Role;
use tokio::sync::{mpsc, watch};

use crate::api::{Asked, Stopping};
use crate::cli::signal::Stop;
use crate::config::Config;
use crate::health::operational::Operational;

/// Why a running instance ends.
pub(super) enum Ended {
    /// It was told to stop.
    Asked(Asked),
    /// The protocol refuses this process.
    Refused(String),
    /// Stored state is corrupt, and whoever started it wants it to end then.
    Corrupt(String),
}

/// Waits for a signal or a request to stop.
pub(super) async fn asked_to_stop(stop: &mut Stop, asked: &mut mpsc::Receiver<Asked>) -> Asked {
    tokio::select! {
        signal = stop.heard() => Asked { why: signal.to_owned(), exit_policy: None },
        // The API holds the other end for as long as it serves.
        Some(asked) = asked.recv() => asked,
    }
}

/// The stop that begins, with the policy that is in force for it.
pub(super) fn stopping(asked: Asked, config: &Config) -> Stopping {
    let exit_policy = asked.exit_policy.unwrap_or(config.shutdown.exit_policy);
    Stopping { why: asked.why, exit_policy }
}

/// Waits until stored state proved corrupt; gives the mismatch.
pub(super) async fn corrupted(mut operational: watch::Receiver<Operational>) -> String {
    let corrupt = |now: &Operational| matches!(now.code, Some("DATA_CORRUPT" | "VALIDATION_FAILED"));
    match operational.wait_for(corrupt).await {
        Ok(now) => now.reason.clone(),
        // The state ends with the process.
        Err(_) => std::future::pending().await,
    }
}

/// Waits until the protocol refuses this process.
pub(super) async fn stopped_role(role: &mut watch::Receiver<Role>) -> String {
    loop {
        if let Role::Stopped { why } = &*role.borrow_and_update() {
            return why.to_string();
        }
        if role.changed().await.is_err() {
            return "the cluster protocol ended".to_owned();
        }
    }
}
