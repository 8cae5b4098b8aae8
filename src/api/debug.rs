//! Everything that this process knows of itself, in one answer: for whoever looks for a fault.
//!
//! It tells how the instance is configured and what it is connected to, so it is for operators, although it changes nothing.
//! Nothing is asked of a store or of the bridge for it: it answers in whatever state they are, and from the first moment.
//! What is not there yet is left out, and no secret is in it.

use axum::Json;
use axum::extract::State;
use chrono::Utc;
use serde_json::{Value, json};

use super::connection::connections;
use super::monitoring::last_round;
use super::{Context, Operator};
use crate::config::Redactor;

/// The answer.
pub(super) async fn debug(State(context): State<Context>, operator: Operator) -> Json<Value> {
    tracing::info!(operator = operator.name, "[HEALTH-CHECK] the debug document was read");
    Json(Redactor::default().value(document(&context)))
}

fn document(context: &Context) -> Value {
    let config = &context.0.config;
    let mut document = json!({
        "timestamp": Utc::now(),
        "version": env!("CARGO_PKG_VERSION"),
        "debug_build": cfg!(debug_assertions),
        "fail_points": cfg!(feature = "fail-points"),
        "cluster": config.cluster.name,
        "member": config.cluster.member,
        "mode": config.broker.mode.as_str(),
        "process": {
            "pid": std::process::id(),
            "uptime_seconds": context.0.begun.elapsed().as_secs(),
            "resident_kib": status("VmRSS:"),
            "most_resident_kib": status("VmHWM:"),
            "threads": status("Threads:"),
        },
        "operational": context.operational(),
        "stopping": context.0.draining.borrow().as_ref().map(|stopping| stopping.why.clone()),
        "configuration": { "fingerprint": config.fingerprint(), "entries": config.entries },
        "checks": last_round(context),
    });
    if let Ok(handle) = context.handle() {
        let stats = handle.stats().borrow().clone();
        document["leadership"] = json!({
            "instance": handle.instance().to_string(),
            "role": handle.role().borrow().name(),
            "epoch": stats.epoch,
            "status": stats.status,
            "ha_degraded": stats.ha_degraded,
            "paused": stats.paused,
            "suspensions": stats.suspensions,
            "fenced": stats.fenced,
            "involuntary_losses": stats.involuntary_losses,
            "last_failover_gap_ms": stats.last_failover_gap.map(|gap| u64::try_from(gap.as_millis()).ok()),
            "waiting": *stats.waiting,
            "last_change": *stats.last_change,
        });
    }
    if let Some(recovery) = context.recovery() {
        document["recovery"] = json!(recovery);
    }
    if let Ok(feeds) = context.feeds() {
        document["connections"] = connections(context, feeds);
    }
    document
}

/// A number of the kernel's own account of this process.
fn status(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
