//! What is told of the instance itself: its operational state, its part in the cluster, its start and stop.
//!
//! Watched values are read here, so that the rooms which set them need not know that anybody is told.

use std::sync::Arc;
use std::time::Duration;

use ha::{Handle, Reason, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::health::operational::{Operational, State};
use crate::notify::compose::span;
use crate::notify::{Event, Key, Kind, Notifier};

/// Tells of ERROR entered and left, and of waiting that lasts.
pub(super) async fn tell_state(
    handle: Arc<Handle>,
    mut state: watch::Receiver<Operational>,
    notifier: Notifier,
    still_waiting_every: Option<Duration>,
) {
    let notifier = notifier.from("state");
    let mut role = handle.role();
    let mut error: Option<&'static str> = None;
    let mut settled = false;
    let mut waiting: Option<(Instant, Instant)> = None;
    loop {
        let now = state.borrow_and_update().clone();
        let follows = matches!(&*role.borrow_and_update(), Role::Follower { leader: Some(_) });
        error = tell_error(&notifier, &now, error);
        // What an earlier process of this member left open is over, once this one stands.
        if !settled && (now.state == State::Active || (now.state == State::Waiting && follows)) {
            settled = true;
            notifier.fresh();
        }
        waiting = match now.state {
            State::Waiting if !follows => waiting.or_else(|| {
                let begun = Instant::now();
                still_waiting_every.map(|every| (begun, begun + every))
            }),
            _ => None,
        };
        let next = waiting.map(|(_, next)| next);
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = role.changed() => {}
            () = until(next) => {
                if let Some((begun, next)) = &mut waiting {
                    notifier.raise(still_waiting(&now, begun.elapsed()));
                    *next += still_waiting_every.unwrap_or_default();
                }
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn tell_error(notifier: &Notifier, now: &Operational, before: Option<&'static str>) -> Option<&'static str> {
    let code = now.code.filter(|_| now.state == State::Error);
    if let Some(over) = before.filter(|before| Some(*before) != code) {
        notifier.resolve(Key::new(Kind::OperationalError, over));
    }
    if let Some(code) = code {
        notifier.raise(Event::about(
            Kind::OperationalError,
            code,
            format!("{}; see RUNBOOK.md#{}", now.reason, code.to_lowercase()),
        ));
    }
    code
}

fn still_waiting(now: &Operational, since: Duration) -> Event {
    let since = span(chrono::TimeDelta::from_std(since).unwrap_or_default());
    Event::new(Kind::StillWaiting, format!("still waiting after {since}: {}", now.reason))
}

/// Tells of takeovers, handovers, and Redis's absence.
pub(super) async fn tell_cluster(handle: Arc<Handle>, notifier: Notifier) {
    let notifier = notifier.from("ha");
    let me = handle.instance().member.to_string();
    let mut stats = handle.stats();
    let mut told = std::collections::BTreeMap::new();
    let mut degraded = None;
    loop {
        let now = stats.borrow_and_update().clone();
        for (reason, total) in &now.transitions {
            let before = told.insert(*reason, *total).unwrap_or(0);
            if *total > before {
                let gap = now.last_failover_gap.map(|gap| gap.as_millis());
                if let Some(event) = takeover(&me, *reason, now.epoch.get(), gap) {
                    notifier.raise(event);
                }
            }
        }
        if degraded != Some(now.ha_degraded) {
            degraded = Some(now.ha_degraded);
            match now.ha_degraded {
                true => notifier.raise(Event::new(
                    Kind::RedisDegraded,
                    "Redis does not answer: leadership goes on through PostgreSQL alone; check that Redis runs and \
                     that redis.url is right; see RUNBOOK.md#redis-away",
                )),
                false => notifier.resolve(Key::new(Kind::RedisDegraded, "")),
            }
        }
        if stats.changed().await.is_err() {
            return;
        }
    }
}

fn takeover(me: &str, reason: Reason, epoch: i64, gap_ms: Option<u128>) -> Option<Event> {
    let gap = gap_ms.map(|ms| format!("; nobody led for {ms} ms")).unwrap_or_default();
    match reason {
        Reason::Crash => Some(Event::new(
            Kind::Failover,
            format!(
                "{me} took over under epoch {epoch}: the last leader's process or its PostgreSQL session ended{gap}"
            ),
        )),
        Reason::Stale => Some(Event::new(
            Kind::Failover,
            format!("{me} took over under epoch {epoch}: the last leader gave no sign of life{gap}"),
        )),
        Reason::Handover => Some(Event::new(
            Kind::Handover,
            format!("{me} leads under epoch {epoch}: leadership was handed over{gap}"),
        )),
        Reason::FirstStart | Reason::Vacant => None,
    }
}

/// A start.
pub(super) fn started(member: &str, mode: &str) -> Event {
    let version = env!("CARGO_PKG_VERSION");
    Event::new(Kind::Started, format!("{member} started: version {version}, mode {mode}"))
}

/// A stop.
pub(super) fn stopped(member: &str, signal: &str, led: bool) -> Event {
    let what = if led { "it led; its positions and their stops stay in place" } else { "it did not lead" };
    Event::new(Kind::Stopped, format!("{member} stopped on {signal}: {what}"))
}
