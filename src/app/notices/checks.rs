//! Checks that fail, and pass again.

use std::collections::BTreeSet;

use chrono::Utc;
use tokio::sync::watch;

use crate::app::night::Night;
use crate::broker::session::Session;
use crate::health::checks::{Check, Outcome};
use crate::health::classify::Class;
use crate::health::rounds::{Phase, Report, Rounds};
use crate::notify::{Event, Key, Kind, Notifier};

/// A failure is told when it was seen twice: the first may be a restart.
const FAILURES: u32 = 2;

/// Tells of checks that fail, and pass again. Each check is a source of its own: two of one kind end one by one.
pub(in crate::app) async fn tell_checks(
    mut reports: watch::Receiver<Option<Report>>,
    notifier: Notifier,
    night: Night,
) {
    let mut told = Told::default();
    loop {
        let report = reports.borrow_and_update().clone();
        if let Some(report) = report {
            told.report(&report, &notifier, night.rests(Utc::now()));
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}

/// Has everything looked at when somebody logged in, or the session died: a follower meets that nowhere else, and the next
/// round may be minutes away.
pub(in crate::app) async fn look_with_session(mut session: watch::Receiver<Session>, rounds: Rounds) {
    while session.changed().await.is_ok() {
        rounds.look();
    }
}

/// What of the checks was told.
#[derive(Default)]
struct Told {
    /// The start is over: all passed, or its retries are used up.
    begun: bool,
    /// What the start failed on, as long as it fails: one message, whatever it is about. Whatever fails beside it, or later,
    /// is told under its own name.
    start: BTreeSet<Check>,
    /// The broker's session is dead, or revoked.
    session: bool,
}

impl Told {
    fn report(&mut self, report: &Report, notifier: &Notifier, night: bool) {
        if !report.started && report.phase != Phase::Waiting {
            return;
        }
        if !std::mem::replace(&mut self.begun, true) && !report.started {
            // What a person has to mend has a name, and a section of the runbook, of its own from the start.
            let failed = report.vital_failing().filter(|outcome| outcome.class != Some(Class::Operator));
            // A refused key is told as the session's end, which it looks like.
            let failed = failed.filter(|outcome| outcome.check != Check::BridgeAuth);
            let failed = failed.filter(|outcome| !(night && needs_login(outcome.check)));
            self.start = failed.map(|outcome| outcome.check).collect();
        }
        let passes = |check: Check| report.checks.iter().any(|o| o.check == check && o.up == Some(true));
        self.start.retain(|check| !passes(*check));
        let startup = notifier.from("startup");
        if self.start.is_empty() {
            startup.resolve(Key::new(Kind::StartupError, ""));
        } else {
            let failing = report.failing().filter(|outcome| self.start.contains(&outcome.check));
            startup.raise(startup_error(failing, report.startup_retries));
        }
        for outcome in report.checks.iter().filter(|outcome| !self.start.contains(&outcome.check)) {
            let fails = outcome.up == Some(false) && outcome.failures >= FAILURES;
            match outcome.check {
                // It ends every night, and is mended when somebody logs in before the market opens.
                check if fails && night && needs_login(check) => {}
                // Once an episode is enough, however long it is, and whichever of the two meets it.
                Check::BridgeAuth | Check::BrokerSession if fails && self.session => {}
                // A bridge that takes the key again need not have a session: that check is asked next, and tells.
                Check::BridgeAuth if !fails => {}
                check => {
                    match check {
                        Check::BridgeAuth | Check::BrokerSession if fails => self.session = true,
                        Check::BrokerSession if outcome.up == Some(true) => self.session = false,
                        _ => {}
                    }
                    tell_check(outcome, notifier);
                }
            }
        }
    }
}

/// What a login at the bridge mends. After the nightly end a bridge may refuse the key itself: the two look alike.
fn needs_login(check: Check) -> bool {
    matches!(check, Check::BrokerSession | Check::BridgeAuth | Check::Websocket)
}

fn startup_error<'a>(failing: impl Iterator<Item = &'a Outcome>, retries: u32) -> Event {
    let failing: Vec<String> =
        failing.map(|outcome| format!("{}: {}", outcome.check, outcome.detail)).collect();
    Event::new(
        Kind::StartupError,
        format!(
            "the checks did not pass at the start or in {retries} retries; waiting, and looking again. {}; see \
             RUNBOOK.md#startup_error",
            failing.join("; ")
        ),
    )
}

fn tell_check(outcome: &Outcome, notifier: &Notifier) {
    // The feed is told of with more patience, by those who watch it all the time.
    if outcome.check == Check::Websocket {
        return;
    }
    // The bridge refuses the key of a session that it has revoked, and a wrong one, with the same words: one piece of news, which
    // ends when the session lives.
    let source = if outcome.check == Check::BridgeAuth { Check::BrokerSession } else { outcome.check };
    let notifier = notifier.from(source.as_str());
    let (kind, scope) = match outcome.check {
        Check::Postgres => (Kind::DatabaseError, ""),
        Check::Redis => (Kind::RedisDegraded, ""),
        Check::Bridge => (Kind::BrokerError, ""),
        Check::BridgeAuth | Check::BrokerSession => (Kind::BrokerSession, ""),
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn outcome(check: Check, up: Option<bool>, failures: u32) -> Outcome {
        let at = DateTime::UNIX_EPOCH;
        let class = match check {
            Check::BrokerSession => Class::Operator,
            Check::BridgeAuth => Class::Permanent,
            _ => Class::Transient,
        };
        Outcome {
            check,
            vital: check.is_vital(),
            up,
            class: Some(class).filter(|_| up == Some(false)),
            detail: "look at the bridge".to_owned(),
            latency_ms: 1.0,
            checked_at: at,
            since: at,
            failures,
        }
    }

    fn report(checks: &[(Check, Option<bool>)], started: bool, failures: u32) -> Report {
        let checks: Vec<_> = checks.iter().map(|(check, up)| outcome(*check, *up, failures)).collect();
        let passing = checks.iter().all(|outcome| outcome.up == Some(true));
        let phase = if passing { Phase::Passing } else { Phase::Waiting };
        let next_at = DateTime::UNIX_EPOCH;
        Report { phase, round: 1, started, startup_retries: 3, next_at, checks }
    }

    fn session(up: bool, failures: u32) -> Report {
        report(&[(Check::Bridge, Some(true)), (Check::BrokerSession, Some(up))], true, failures)
    }

    // R: B18, issue 7: the session ends at 03:00, and nobody is woken; half an hour before the market opens they are told
    #[test]
    fn a_session_that_ends_in_the_night_is_told_in_the_morning_and_once() {
        let (notifier, mut told) = (Notifier::new(), Told::default());
        let mut look = |report: &Report, night: bool| {
            told.report(report, &notifier, night);
            notifier.message_of(Kind::BrokerSession)
        };
        assert_eq!(look(&session(true, 0), true), None);
        for failures in 1..60 {
            assert_eq!(look(&session(false, failures), true), None, "in the night");
        }
        let morning = look(&session(false, 60), false);
        assert_eq!(
            morning.as_deref(),
            Some("broker_session: look at the bridge; see RUNBOOK.md#broker_session")
        );
        assert_eq!(look(&session(false, 61), false), None, "once an episode");
        // By day the first failure may be a blip, the second is told.
        assert_eq!(look(&session(true, 0), false), None);
        assert_eq!(look(&session(false, 1), false), None);
        assert!(look(&session(false, 2), false).is_some());
        told.report(&session(true, 0), &notifier, false);
        assert!(notifier.withdrew(Kind::BrokerSession) && !told.session);
    }

    // R: B18: a start in the night finds the session dead, which is as it should be; a dead bridge is not
    #[test]
    fn a_start_in_the_night_is_no_failure_for_a_dead_session_and_the_morning_calls_it_by_its_name() {
        let (notifier, mut told) = (Notifier::new(), Told::default());
        let dead = Report { started: false, ..session(false, 4) };
        told.report(&dead, &notifier, true);
        assert_eq!(notifier.message_of(Kind::StartupError), None);
        told.report(&dead, &notifier, false);
        assert!(notifier.message_of(Kind::BrokerSession).is_some());
        let mut told = Told::default();
        let bridge = [(Check::Bridge, Some(false)), (Check::BrokerSession, None)];
        told.report(&report(&bridge, false, 4), &notifier, true);
        assert!(notifier.message_of(Kind::StartupError).is_some());
    }

    // R: N6: a revoked session is a refused key at the bridge: the same news, once, until a session lives
    #[test]
    fn a_session_that_is_revoked_is_told_once_and_as_the_session() {
        use Check::{Bridge, BridgeAuth, BrokerSession};
        let (notifier, mut told) = (Notifier::new(), Told::default());
        let mut look = |key: bool, session: Option<bool>, failures: u32| {
            let checks = [(Bridge, Some(true)), (BridgeAuth, Some(key)), (BrokerSession, session)];
            told.report(&report(&checks, session == Some(true), failures), &notifier, false);
            let taken = notifier.taken();
            let raised = taken.iter().filter(|(_, tally)| tally.count > 0).map(|(key, _)| key.kind);
            let session = |key: &Key| key.kind == Kind::BrokerSession;
            let over = taken.iter().any(|(key, tally)| session(key) && !tally.withdrawn.is_empty());
            (raised.collect::<Vec<_>>(), over)
        };
        let (news, none) = ((vec![Kind::BrokerSession], false), (vec![], false));
        assert_eq!(look(false, None, 4), news, "at the start, too, and no error of the start beside it");
        assert_eq!(look(false, None, 5), none, "once an episode");
        for failures in [1, 2] {
            assert_eq!(look(true, Some(false), failures), none, "the key is taken, the session is dead");
        }
        assert_eq!(look(false, None, 2), none, "and revoked once more");
        assert_eq!(look(true, Some(true), 0), (vec![], true));
        assert_eq!(look(false, None, 1), none, "it may be a blip");
        assert_eq!(look(false, None, 2), news, "the next time it is news");
    }

    // R: N3: what the start failed on is one message until it passes; what comes after it has its own name
    #[test]
    fn what_fails_after_the_start_is_told_under_its_own_name_and_the_starts_error_ends() {
        use Check::{Bridge, BridgeAuth, BrokerSession};
        let (notifier, mut told) = (Notifier::new(), Told::default());
        let mut look = |bridge: Option<bool>, key: Option<bool>, session: Option<bool>| {
            let checks = [(Bridge, bridge), (BridgeAuth, key), (BrokerSession, session)];
            told.report(&report(&checks, false, 4), &notifier, false);
            let taken = notifier.taken();
            let raised = |kind| taken.iter().any(|(key, tally)| key.kind == kind && tally.count > 0);
            let over =
                |kind| taken.iter().any(|(key, tally)| key.kind == kind && !tally.withdrawn.is_empty());
            let own = raised(Kind::BrokerError) || raised(Kind::BrokerSession);
            (raised(Kind::StartupError), own, over(Kind::StartupError))
        };
        assert_eq!(look(Some(false), None, None), (true, false, false));
        assert_eq!(look(Some(false), None, None), (true, false, false));
        // The bridge comes, and refuses the key: another matter.
        assert_eq!(look(Some(true), Some(false), None), (false, true, true));
        // It takes the key, and has no session: the same news.
        assert_eq!(look(Some(true), Some(true), Some(false)), (false, false, true));
        // It goes once more: no start any longer.
        assert_eq!(look(Some(false), None, None), (false, true, true));
    }

    // R: N1, D3: without a live feed prices come over REST: no failure of the start, and the feed's watchers tell of it
    #[test]
    fn a_missing_live_feed_is_no_failure_of_the_start() {
        let (notifier, mut told) = (Notifier::new(), Told::default());
        let checks = [(Check::Bridge, Some(true)), (Check::Websocket, Some(false))];
        told.report(&report(&checks, true, 9), &notifier, false);
        let raised = notifier.taken().into_iter().filter(|(_, tally)| tally.count > 0).count();
        assert_eq!(raised, 0);
    }
}
