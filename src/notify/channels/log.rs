//! The log channel: one line a message, on the instance that delivers it.

use super::{Delivery, Message};
use crate::notify::event::Severity;

/// Writes the message to the log.
pub(super) fn deliver(message: &Message) -> Delivery {
    let text = message.text();
    let (id, types) = (message.id, message.types.join(","));
    match message.severity {
        Severity::Info => tracing::info!(%id, types, "[NOTIFICATION] {text}"),
        Severity::Warning => tracing::warn!(%id, types, "[NOTIFICATION] {text}"),
        Severity::Error | Severity::Critical => tracing::error!(%id, types, "[NOTIFICATION] {text}"),
    }
    Delivery::Sent
}
