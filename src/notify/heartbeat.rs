//! The dead-man's heartbeat: the leader calls a URL again and again, and whoever watches it hears of its silence. It
//! covers what no notification of ours can: that nobody is there to send one.

use std::time::Duration;

use ha::Role;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

/// Calls `url` every `interval` while this instance leads. Runs as long as the process.
pub async fn beat(url: SecretString, interval: Duration, timeout: Duration, role: watch::Receiver<Role>) {
    let Ok(client) = reqwest::Client::builder().timeout(timeout).build() else { return };
    let mut failing = false;
    loop {
        if matches!(*role.borrow(), Role::Leader(_)) {
            let answer = client.get(url.expose_secret()).send().await;
            match answer.and_then(reqwest::Response::error_for_status) {
                Ok(_) if failing => {
                    failing = false;
                    tracing::info!("[NOTIFICATION] the heartbeat URL answers again");
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!("[NOTIFICATION] the heartbeat URL failed: {}", error.without_url());
                }
                _ => {}
            }
        }
        tokio::time::sleep(interval).await;
    }
}
