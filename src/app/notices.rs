//! What is told of the instance itself: its operational state, its part in the cluster, its start and stop.
//!
//! Watched values are read here, so that the rooms which set them need not know that anybody is told.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ha::{Handle, Reason, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use super::night::Night;
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
    night: Night,
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
        // A session that ended in the night is told when somebody has to log in.
        let sleeps = now.code == Some(SESSION_EXPIRED) && night.rests(Utc::now());
        if !sleeps {
            error = tell_error(&notifier, &now, error);
        }
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
            () = tokio::time::sleep(night.look), if sleeps => {}
            () = until(next) => {
                if let Some((begun, next)) = &mut waiting {
                    if !night.excuses_waiting(Utc::now()) {
                        notifier.raise(still_waiting(&now, begun.elapsed()));
                    }
                    *next += still_waiting_every.unwrap_or_default();
                }
            }
        }
    }
}

/// The code of a session that has ended.
const SESSION_EXPIRED: &str = "SESSION_EXPIRED";

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
pub(super) async fn tell_checks(
    mut reports: watch::Receiver<Option<Report>>,
    notifier: Notifier,
    night: Night,
) {
    let mut session_told = false;
    loop {
        let report = reports.borrow_and_update().clone();
        if let Some(report) = report {
            tell_report(&report, &notifier, night.rests(Utc::now()), &mut session_told);
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}

fn tell_report(report: &Report, notifier: &Notifier, night: bool, session_told: &mut bool) {
    let startup = notifier.from("startup");
    if !report.started {
        let expected = night && report.failing().all(|outcome| needs_login(outcome.check));
        if report.phase == Phase::Waiting && !expected {
            startup.raise(startup_error(report));
        }
        return;
    }
    startup.resolve(Key::new(Kind::StartupError, ""));
    for outcome in &report.checks {
        let fails = outcome.up == Some(false) && outcome.failures >= FAILURES;
        match outcome.check {
            // It ends every night, and is mended when somebody logs in before the market opens.
            check if fails && night && needs_login(check) => {}
            // Once an episode is enough, however long it is.
            Check::BrokerSession if fails && *session_told => {}
            check => {
                if check == Check::BrokerSession && outcome.up.is_some() {
                    *session_told = fails;
                }
                tell_check(outcome, notifier);
            }
        }
    }
}

/// What a login at the bridge mends. After the nightly end a bridge may refuse the key itself: the two look alike.
fn needs_login(check: Check) -> bool {
    matches!(check, Check::BrokerSession | Check::BridgeAuth | Check::Websocket)
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
    // The feed is told of with more patience, by those who watch it all the time.
    if outcome.check == Check::Websocket {
        return;
    }
    let notifier = notifier.from(outcome.check.as_str());
    let (kind, scope) = match outcome.check {
        Check::Postgres => (Kind::DatabaseError, ""),
        Check::Redis => (Kind::RedisDegraded, ""),
        Check::Bridge | Check::BridgeAuth => (Kind::BrokerError, ""),
        Check::BrokerSession => (Kind::BrokerSession, ""),
        Check::Websocket => (Kind::WebsocketError, ""),
        Check::AnalyzerMode => (Kind::OperationalError, "WRONG_MODE"),
        Check::Clock | Check::Disk => (Kind::HostError, outcome.check.as_str()),
    };
    let anchor = if kind == Kind::OperationalError { scope } else { kind.as_str() }.to_lowercase();
    match outcome.up {
        Some(true) => notifier.resolve(Key::new(kind, scope)),
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
    use chrono::DateTime;

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

    fn session(up: bool, failures: u32) -> Report {
        let at = DateTime::UNIX_EPOCH;
        let check = |check, up: bool, failures| Outcome {
            check,
            up: Some(up),
            class: None,
            detail: "log in at the bridge".to_owned(),
            latency_ms: 1.0,
            checked_at: at,
            since: at,
            failures,
        };
        let checks = vec![check(Check::Bridge, true, 0), check(Check::BrokerSession, up, failures)];
        let phase = if up { Phase::Passing } else { Phase::Waiting };
        Report { phase, round: 1, started: true, startup_retries: 0, next_at: at, checks }
    }

    // R: B18, issue 7: the session ends at 03:00, and nobody is woken; half an hour before the market opens they are told
    #[test]
    fn a_session_that_ends_in_the_night_is_told_in_the_morning_and_once() {
        let (notifier, mut told) = (Notifier::new(), false);
        let look = |report: &Report, night: bool, told: &mut bool| {
            tell_report(report, &notifier, night, told);
            notifier.message_of(Kind::BrokerSession)
        };
        assert_eq!(look(&session(true, 0), true, &mut told), None);
        for failures in 1..60 {
            assert_eq!(look(&session(false, failures), true, &mut told), None, "in the night");
        }
        let morning = look(&session(false, 60), false, &mut told);
        assert_eq!(
            morning.as_deref(),
            Some("broker_session: log in at the bridge; see RUNBOOK.md#broker_session")
        );
        assert_eq!(look(&session(false, 61), false, &mut told), None, "once an episode");
        tell_report(&session(true, 0), &notifier, false, &mut told);
        assert!(notifier.withdrew(Kind::BrokerSession) && !told);
        // By day the first failure may be a blip, the second is told.
        assert_eq!(look(&session(false, 1), false, &mut told), None);
        assert!(look(&session(false, 2), false, &mut told).is_some());
        // A start in the night finds the session dead, which is as it should be; a dead database is not.
        let mut start = Report { started: false, ..session(false, 4) };
        tell_report(&start, &notifier, true, &mut told);
        assert_eq!(notifier.message_of(Kind::StartupError), None);
        start.checks[0].up = Some(false);
        tell_report(&start, &notifier, true, &mut told);
        assert!(notifier.message_of(Kind::StartupError).is_some());
    }

    // R: B18: the leader's ERROR for a dead session is a page, so it waits for the morning, too
    #[tokio::test]
    async fn an_error_for_a_dead_session_is_told_when_the_night_is_over() {
        let (state, _changes) = OperationalState::new(Arc::new(Metrics::new()));
        let (_following, follows) = watch::channel(false);
        let (notifier, morning) = (Notifier::new(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let over = Arc::clone(&morning);
        let night = Night::when(move |_| !over.load(std::sync::atomic::Ordering::Relaxed));
        let every = Some(Duration::from_millis(10));
        let task =
            tokio::spawn(tell_state(state.watch(), follows, Rounds::idle(), notifier.clone(), every, night));
        state.error(SESSION_EXPIRED, "the broker's session has expired");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(notifier.message_of(Kind::OperationalError), None, "in the night");
        state.waiting("the broker's session has expired");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(notifier.message_of(Kind::StillWaiting), None, "nor again and again");
        state.error(SESSION_EXPIRED, "the broker's session has expired");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(notifier.message_of(Kind::OperationalError), None, "still night");
        morning.store(true, std::sync::atomic::Ordering::Relaxed);
        let message = raised(&notifier, Kind::OperationalError).await;
        assert!(message.starts_with("the broker's session has expired"), "{message}");
        task.abort();
    }

    // R: N5: said again and again while it waits; not by a follower that sees its leader
    #[tokio::test]
    async fn whoever_waits_for_long_says_so_again_and_a_follower_does_not() {
        let (state, _changes) = OperationalState::new(Arc::new(Metrics::new()));
        let (following, follows) = watch::channel(false);
        let notifier = Notifier::new();
        let every = Some(Duration::from_millis(30));
        let day = Night::when(|_| false);
        let telling = tell_state(state.watch(), follows, Rounds::idle(), notifier.clone(), every, day);
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
        let day = Night::when(|_| false);
        let task =
            tokio::spawn(tell_state(state.watch(), follows, Rounds::idle(), notifier.clone(), None, day));
        state.error("DATA_CORRUPT", "row 7 cannot be read");
        let message = raised(&notifier, Kind::OperationalError).await;
        assert_eq!(message, "row 7 cannot be read; see RUNBOOK.md#data_corrupt");
        state.shutdown("SIGTERM");
        task.await.unwrap();
        assert!(!notifier.withdrew(Kind::OperationalError), "nothing is mended by ending");
    }
}
