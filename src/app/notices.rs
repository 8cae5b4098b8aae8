//! What is told of the instance itself: its operational state, its part in the cluster, its start and stop.
//!
//! Watched values are read here, so that the rooms which set them need not know that anybody is told.

use std::sync::Arc;
use std::time::Duration;

use ha::{Handle, Reason, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use super::parting::Parting;
use crate::health::checks::{Check, Outcome};
use crate::health::operational::{Operational, State};
use crate::health::rounds::{Phase, Report, Rounds};
use crate::notify::compose::span;
use crate::notify::{Event, Key, Kind, Notifier};

/// Tells of ERROR entered and left, and of waiting that lasts.
pub(super) async fn tell_state(
    mut state: watch::Receiver<Operational>,
    mut following: watch::Receiver<bool>,
    rounds: Rounds,
    notifier: Notifier,
    still_waiting_every: Option<Duration>,
) {
    let notifier = notifier.from("state");
    let mut error: Option<&'static str> = None;
    let mut settled = false;
    let mut waiting: Option<(Instant, Instant)> = None;
    loop {
        let now = state.borrow_and_update().clone();
        if now.state == State::Shutdown {
            // Whatever was wrong is not over because this process ends.
            return;
        }
        let follows = *following.borrow_and_update();
        // Whatever made the state change, the checks may say more of it.
        rounds.look();
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
            _ = following.changed() => {}
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

/// Tells of takeovers and handovers; asks for a round of checks when a store goes or comes back. Of the stores the checks
/// tell: what the protocol sees changes with each request, and a blip is not worth a message.
pub(super) async fn tell_cluster(
    handle: Arc<Handle>,
    following: watch::Sender<bool>,
    rounds: Rounds,
    notifier: Notifier,
) {
    let notifier = notifier.from("ha");
    let (mut role, mut stores) = (handle.role(), (true, true));
    let me = handle.instance().member.to_string();
    let mut stats = handle.stats();
    let mut told = std::collections::BTreeMap::new();
    loop {
        let now = stats.borrow_and_update().clone();
        let follows = matches!(&*role.borrow_and_update(), Role::Follower { leader: Some(_) });
        following.send_if_modified(|before| std::mem::replace(before, follows) != follows);
        let up = (now.postgres.is_up(), now.redis.is_up());
        if std::mem::replace(&mut stores, up) != up {
            rounds.look();
        }
        for (reason, total) in &now.transitions {
            let before = told.insert(*reason, *total).unwrap_or(0);
            if *total > before {
                let gap = now.last_failover_gap.map(|gap| gap.as_millis());
                if let Some(event) = takeover(&me, *reason, now.epoch.get(), gap) {
                    notifier.raise(event);
                }
            }
        }
        tokio::select! {
            changed = stats.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = role.changed() => {}
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

/// A failure is told when it was seen twice: the first may be a restart.
const FAILURES: u32 = 2;

/// Tells of checks that fail, and pass again. Each check is a source of its own: two of one kind end one by one.
pub(super) async fn tell_checks(mut reports: watch::Receiver<Option<Report>>, notifier: Notifier) {
    let startup = notifier.from("startup");
    loop {
        let report = reports.borrow_and_update().clone();
        if let Some(report) = report {
            if report.started {
                startup.resolve(Key::new(Kind::StartupError, ""));
                report.checks.iter().for_each(|outcome| tell_check(outcome, &notifier));
            } else if report.phase == Phase::Waiting {
                startup.raise(startup_error(&report));
            }
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}

fn startup_error(report: &Report) -> Event {
    let failing: Vec<String> =
        report.failing().map(|outcome| format!("{}: {}", outcome.check, outcome.detail)).collect();
    Event::new(
        Kind::StartupError,
        format!(
            "the checks did not pass at the start or in {} retries; waiting, and looking again. {}; see \
             RUNBOOK.md#startup_error",
            report.startup_retries,
            failing.join("; ")
        ),
    )
}

fn tell_check(outcome: &Outcome, notifier: &Notifier) {
    let notifier = notifier.from(outcome.check.as_str());
    let (kind, scope) = match outcome.check {
        Check::Postgres => (Kind::DatabaseError, ""),
        Check::Redis => (Kind::RedisDegraded, ""),
        Check::Bridge | Check::BridgeAuth => (Kind::BrokerError, ""),
        Check::BrokerSession => (Kind::BrokerSession, ""),
        Check::AnalyzerMode => (Kind::OperationalError, "WRONG_MODE"),
        Check::Clock | Check::Disk => (Kind::HostError, outcome.check.as_str()),
    };
    let anchor = if kind == Kind::OperationalError { scope } else { kind.as_str() }.to_lowercase();
    match outcome.up {
        Some(true) => notifier.resolve(Key::new(kind, scope)),
        // The session ends every night: once an episode is enough.
        Some(false) if kind == Kind::BrokerSession && outcome.failures > FAILURES => {}
        Some(false) if outcome.failures >= FAILURES => notifier.raise(Event::about(
            kind,
            scope,
            format!("{}: {}; see RUNBOOK.md#{anchor}", outcome.check, outcome.detail),
        )),
        _ => {}
    }
}

/// A start.
pub(super) fn started(member: &str, mode: &str) -> Event {
    let version = env!("CARGO_PKG_VERSION");
    Event::new(Kind::Started, format!("{member} started: version {version}, mode {mode}"))
}

/// A stop, told when it is known what became of it.
pub(super) fn stopped(member: &str, signal: &str, parting: &Parting) -> Event {
    match parting {
        Parting::Settled(what) => Event::new(Kind::Stopped, format!("{member} stopped on {signal}: {what}")),
        Parting::Unwatched(what) => Event::about(
            Kind::PositionsUnwatched,
            member,
            format!("{member} stopped on {signal}: {what}; see RUNBOOK.md#positions_unwatched"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::operational::OperationalState;
    use crate::telemetry::metrics::Metrics;

    /// Waits until an event of this kind was raised, and gives its message.
    async fn raised(notifier: &Notifier, kind: Kind) -> String {
        let asked = async {
            loop {
                if let Some(message) = notifier.message_of(kind) {
                    return message;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is raised")
    }

    // R: N5: said again and again while it waits; not by a follower that sees its leader
    #[tokio::test]
    async fn whoever_waits_for_long_says_so_again_and_a_follower_does_not() {
        let (state, _changes) = OperationalState::new(Arc::new(Metrics::new()));
        let (following, follows) = watch::channel(false);
        let notifier = Notifier::new();
        let every = Some(Duration::from_millis(30));
        let telling = tell_state(state.watch(), follows, Rounds::idle(), notifier.clone(), every);
        let task = tokio::spawn(telling);
        state.waiting("the bridge is not usable: connection refused");
        let first = raised(&notifier, Kind::StillWaiting).await;
        assert!(first.starts_with("still waiting after 0 s: the bridge is not usable"), "{first}");
        raised(&notifier, Kind::StillWaiting).await;
        following.send_replace(true);
        // Two turns of the loop: what it had raised before is taken away with the second.
        state.waiting("follower: b2 leads under epoch 2");
        tokio::time::sleep(Duration::from_millis(50)).await;
        notifier.message_of(Kind::StillWaiting);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(notifier.message_of(Kind::StillWaiting), None);
        task.abort();
    }

    // R: N6: entered: told; left: over; ended by the process: not over
    #[tokio::test]
    async fn an_error_is_told_with_its_code_and_its_end_too() {
        let (state, _changes) = OperationalState::new(Arc::new(Metrics::new()));
        let (_following, follows) = watch::channel(false);
        let notifier = Notifier::new();
        let task = tokio::spawn(tell_state(state.watch(), follows, Rounds::idle(), notifier.clone(), None));
        state.error("DATA_CORRUPT", "row 7 cannot be read");
        let message = raised(&notifier, Kind::OperationalError).await;
        assert_eq!(message, "row 7 cannot be read; see RUNBOOK.md#data_corrupt");
        state.shutdown("SIGTERM");
        task.await.unwrap();
        assert!(!notifier.withdrew(Kind::OperationalError), "nothing is mended by ending");
    }
}
