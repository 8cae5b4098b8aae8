//! Rounds of checks: a few retries at the start, then patience; at once when somebody asks, or a store, the bridge or the
//! broker's session comes back.
//!
//! ```text
//! STARTING ─ all pass ─▶ PASSING ⇄ FAILING (once) ─ again ─▶ WAITING ─ all pass ─▶ PASSING
//!     └─ retries used up ─────────────────────────────────────▲
//! ```
//!
//! "All" are those that are vital: without a live feed prices come over REST, so that check is shown, and holds nothing up.
//!
//! The rounds tell; they do not trade. The engine finds out by itself, and sooner, when the bridge fails under it, and
//! returns by itself. Nothing here exits, whatever fails.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::checks::{Check, Checks, Outcome, Timed, Verdict};
use crate::config::Health;
use crate::telemetry::metrics::Metrics;

/// A retry at the start may come later by up to this part of its wait: instances that start together look one by one.
const SPREAD: f64 = 0.1;
/// However often somebody asks, rounds are at least this far apart.
const PACE: Duration = Duration::from_millis(500);

/// How far the checks have got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// They have never all passed, and retries are left.
    Starting,
    /// All pass.
    Passing,
    /// One failed for the first time.
    Failing,
    /// Something fails: it is looked at less often.
    Waiting,
}

/// The last round.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// How far they have got.
    pub phase: Phase,
    /// Rounds so far.
    pub round: u64,
    /// They have all passed at least once.
    pub started: bool,
    /// Retries of the start that were used.
    pub startup_retries: u32,
    /// The next round, unless somebody asks sooner.
    pub next_at: DateTime<Utc>,
    /// Each check's last result.
    pub checks: Vec<Outcome>,
}

impl Report {
    /// Checks that fail.
    pub fn failing(&self) -> impl Iterator<Item = &Outcome> {
        self.checks.iter().filter(|outcome| outcome.up == Some(false))
    }

    /// Those of them without which nothing can be traded.
    pub fn vital_failing(&self) -> impl Iterator<Item = &Outcome> {
        self.failing().filter(|outcome| outcome.vital)
    }
}

/// Asks for a round, and reads the last one; cheap to clone.
#[derive(Clone)]
pub struct Rounds {
    reports: watch::Receiver<Option<Report>>,
    wanted: Arc<Notify>,
}

impl Rounds {
    /// Rounds that never come.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        let (_, reports) = watch::channel(None);
        Self { reports, wanted: Arc::default() }
    }

    /// The last round, and every one to come.
    pub fn watch(&self) -> watch::Receiver<Option<Report>> {
        self.reports.clone()
    }

    /// Wants a round now.
    pub fn look(&self) {
        self.wanted.notify_one();
    }

    /// Wants a round now and waits for it, for at most `patience`; the last one if it does not come.
    pub async fn looked(&self, patience: Duration) -> Option<Report> {
        let mut reports = self.reports.clone();
        let before = reports.borrow_and_update().as_ref().map_or(0, |report| report.round);
        self.look();
        let newer = reports.wait_for(|report| report.as_ref().is_some_and(|report| report.round > before));
        let _ = tokio::time::timeout(patience, newer).await;
        self.reports.borrow().clone()
    }
}

/// Starts the rounds; they end with the process.
pub fn start(checks: Checks, health: Health, metrics: Arc<Metrics>) -> Rounds {
    let (sender, reports) = watch::channel(None);
    let wanted = Arc::new(Notify::new());
    tokio::spawn(run(checks, health, metrics, sender, Arc::clone(&wanted)));
    Rounds { reports, wanted }
}

async fn run(
    checks: Checks,
    health: Health,
    metrics: Arc<Metrics>,
    reports: watch::Sender<Option<Report>>,
    wanted: Arc<Notify>,
) {
    let mut last: Option<Report> = None;
    let mut left = Duration::ZERO;
    loop {
        let found = checks.run().await;
        let now = Utc::now();
        count(&metrics, &found);
        let (report, wait) = judge(last.as_ref(), &found, &health, left, draw(), now);
        let begun = Instant::now();
        tell(last.as_ref(), &report);
        reports.send_replace(Some(report.clone()));
        last = Some(report);
        tokio::time::sleep(PACE).await;
        tokio::select! {
            () = tokio::time::sleep(wait.saturating_sub(PACE)) => left = Duration::ZERO,
            () = wanted.notified() => left = wait.saturating_sub(begun.elapsed()),
        }
    }
}

/// What a round means after the last one, and how long to wait for the next. A round that somebody asked for, with time
/// `left` to the one that was due, finds out what is well; a failure it sees again uses up neither a retry nor patience. The
/// number `drawn` from 0 to 1 spreads the retries.
fn judge(
    last: Option<&Report>,
    found: &[Timed],
    health: &Health,
    left: Duration,
    drawn: f64,
    now: DateTime<Utc>,
) -> (Report, Duration) {
    let asked = !left.is_zero();
    let checks: Vec<Outcome> = found.iter().map(|timed| outcome(last, timed, asked, now)).collect();
    let fails = checks.iter().any(|outcome| outcome.up == Some(false) && outcome.vital);
    let started = !fails || last.is_some_and(|last| last.started);
    let retries = last.map_or(0, |last| last.startup_retries);
    let before = last.map_or(Phase::Starting, |last| last.phase);
    let (phase, retries, wait) = match (fails, before) {
        (false, _) => (Phase::Passing, retries, health.check_interval),
        (true, Phase::Starting | Phase::Failing | Phase::Waiting) if asked => (before, retries, left),
        (true, Phase::Starting) if retries < health.max_startup_retries => {
            let wait = health.startup_retry_delay_base.saturating_mul(1 << retries.min(16));
            (Phase::Starting, retries + 1, wait.mul_f64(1.0 + SPREAD * drawn))
        }
        (true, Phase::Passing) => (Phase::Failing, retries, health.check_interval),
        (true, _) => (Phase::Waiting, retries, health.waiting_mode_check_interval),
    };
    let round = last.map_or(0, |last| last.round) + 1;
    (Report { phase, round, started, startup_retries: retries, next_at: now + wait, checks }, wait)
}

/// A number from 0 to 1, another one in each process. It spreads retries, and guards nothing.
fn draw() -> f64 {
    (uuid::Uuid::now_v7().as_u128() & 0xffff_ffff) as f64 / f64::from(u32::MAX)
}

fn outcome(
    last: Option<&Report>,
    (check, verdict, took): &Timed,
    asked: bool,
    now: DateTime<Utc>,
) -> Outcome {
    let before = last.and_then(|last| last.checks.iter().find(|outcome| outcome.check == *check));
    let (up, class, detail) = match verdict {
        Verdict::Pass(detail) => (Some(true), None, detail),
        Verdict::Fail(class, detail) => (Some(false), Some(*class), detail),
        Verdict::Unknown(detail) => (None, None, detail),
    };
    let since = before.filter(|before| before.up == up).map_or(now, |before| before.since);
    let failures = match up {
        Some(false) => match before.map_or(0, |before| before.failures) {
            0 => 1,
            failures => failures.saturating_add(u32::from(!asked)),
        },
        _ => 0,
    };
    Outcome {
        check: *check,
        vital: check.is_vital(),
        up,
        class,
        detail: detail.clone(),
        latency_ms: took.as_secs_f64() * 1000.0,
        checked_at: now,
        since,
        failures,
    }
}

fn count(metrics: &Metrics, found: &[Timed]) {
    for (check, verdict, took) in found {
        let up = i64::from(matches!(verdict, Verdict::Pass(_)));
        metrics.health_check_up.with_label_values(&[check.as_str()]).set(up);
        if !matches!(verdict, Verdict::Unknown(_)) {
            metrics.health_check_duration.with_label_values(&[check.as_str()]).observe(took.as_secs_f64());
        }
    }
}

/// One sentence a change.
fn tell(last: Option<&Report>, now: &Report) {
    let before = |check: Check| last?.checks.iter().find(|outcome| outcome.check == check);
    for outcome in &now.checks {
        match (before(outcome.check).and_then(|before| before.up), outcome.up) {
            (Some(false), Some(true)) => {
                tracing::info!(
                    latency_ms = outcome.latency_ms,
                    "[HEALTH-CHECK] {} passes again",
                    outcome.check
                );
            }
            (was, Some(false)) if was != Some(false) => tracing::warn!(
                class = ?outcome.class, latency_ms = outcome.latency_ms,
                "[HEALTH-CHECK] {} fails: {}", outcome.check, outcome.detail
            ),
            _ => {}
        }
    }
    if last.map(|last| (last.phase, last.startup_retries)) != Some((now.phase, now.startup_retries)) {
        tracing::info!(
            round = now.round,
            "[HEALTH-CHECK] {:?} after {} start-up retries; the next round in {} s",
            now.phase,
            now.startup_retries,
            (now.next_at - Utc::now()).num_seconds().max(0)
        );
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::classify::Class;
    use super::*;

    fn health() -> Health {
        Health {
            max_startup_retries: 3,
            startup_retry_delay_base: Duration::from_secs(30),
            check_interval: Duration::from_secs(30),
            waiting_mode_check_interval: Duration::from_secs(300),
            waiting_mode_send_hourly_status: true,
            waiting_mode_status_interval: Duration::from_secs(3600),
            check_timeout: Duration::from_secs(10),
            max_clock_skew: Duration::from_secs(1),
            disk_path: ".".into(),
            min_disk_free_mb: 0,
            max_restarts: 10,
            restart_window: Duration::from_secs(600),
        }
    }

    fn round(bridge: bool) -> Vec<Timed> {
        let verdict = match bridge {
            true => Verdict::Pass("answers".to_owned()),
            false => Verdict::Fail(Class::Transient, "connection refused".to_owned()),
        };
        let pass = Verdict::Pass("answers".to_owned());
        vec![(Check::Postgres, pass, Duration::ZERO), (Check::Bridge, verdict, Duration::ZERO)]
    }

    /// Plays rounds; gives each one's phase, waited seconds, and whether it has started.
    fn play(rounds: &[bool]) -> Vec<(Phase, u64, bool)> {
        let mut last = None;
        let mut now = DateTime::UNIX_EPOCH;
        let mut seen = Vec::new();
        for bridge in rounds {
            let (report, wait) = judge(last.as_ref(), &round(*bridge), &health(), Duration::ZERO, 0.0, now);
            seen.push((report.phase, wait.as_secs(), report.started));
            now += TimeDelta::from_std(wait).unwrap();
            last = Some(report);
        }
        seen
    }

    // R: N3: three retries after 30, 60 and 120 s, then WAITING every five minutes, and back
    #[test]
    fn a_bridge_that_is_down_from_the_start_is_retried_three_times_and_then_waited_for() {
        use Phase::*;
        let seen = play(&[false, false, false, false, false, true, true]);
        let expected = [
            (Starting, 30, false),
            (Starting, 60, false),
            (Starting, 120, false),
            (Waiting, 300, false),
            (Waiting, 300, false),
            (Passing, 30, true),
            (Passing, 30, true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn retries_are_spread_and_never_come_early() {
        let wait =
            |drawn| judge(None, &round(false), &health(), Duration::ZERO, drawn, DateTime::UNIX_EPOCH).1;
        assert_eq!((wait(0.0), wait(1.0)), (Duration::from_secs(30), Duration::from_secs(33)));
        let drawn: Vec<f64> = (0..100).map(|_| draw()).collect();
        assert!(drawn.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(drawn.iter().any(|number| *number < 0.5) && drawn.iter().any(|number| *number > 0.5));
    }

    // R: D3: a live feed that is not there holds up nothing that can go on without it
    #[test]
    fn a_missing_live_feed_is_shown_and_holds_nothing_up() {
        let mut found = round(true);
        let down = Verdict::Fail(Class::Transient, "connection refused".to_owned());
        found.push((Check::Websocket, down, Duration::ZERO));
        let (report, wait) = judge(None, &found, &health(), Duration::ZERO, 0.0, DateTime::UNIX_EPOCH);
        assert_eq!((report.phase, report.started, wait.as_secs()), (Phase::Passing, true, 30));
        assert_eq!((report.failing().count(), report.vital_failing().count()), (1, 0));
    }

    // R: N5: one failure alone is looked at again soon; the second makes it wait
    #[test]
    fn a_bridge_that_fails_later_is_looked_at_again_before_it_is_waited_for() {
        use Phase::*;
        let seen = play(&[true, false, true, false, false, false, true]);
        let phases: Vec<_> = seen.iter().map(|(phase, wait, _)| (*phase, *wait)).collect();
        let expected = [
            (Passing, 30),
            (Failing, 30),
            (Passing, 30),
            (Failing, 30),
            (Waiting, 300),
            (Waiting, 300),
            (Passing, 30),
        ];
        assert_eq!(phases, expected);
    }

    #[test]
    fn a_round_that_was_asked_for_uses_up_no_retry_and_no_patience() {
        let now = DateTime::UNIX_EPOCH;
        let (first, wait) = judge(None, &round(false), &health(), Duration::ZERO, 0.0, now);
        let left = wait - Duration::from_secs(7);
        let (asked, again) = judge(Some(&first), &round(false), &health(), left, 0.0, now);
        assert_eq!((asked.phase, asked.startup_retries, again), (Phase::Starting, 1, left));
        assert_eq!(asked.checks[1].failures, 1);
        let (well, _) = judge(Some(&asked), &round(true), &health(), left, 0.0, now);
        assert_eq!((well.phase, well.started), (Phase::Passing, true));
    }

    #[test]
    fn an_outcome_remembers_since_when_and_how_often_it_failed() {
        let at = |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let (first, _) = judge(None, &round(false), &health(), Duration::ZERO, 0.0, at(0));
        let (second, _) = judge(Some(&first), &round(false), &health(), Duration::ZERO, 0.0, at(30));
        let bridge = &second.checks[1];
        assert_eq!((bridge.since, bridge.checked_at, bridge.failures), (at(0), at(30), 2));
        let (third, _) = judge(Some(&second), &round(true), &health(), Duration::ZERO, 0.0, at(60));
        assert_eq!((third.checks[1].since, third.checks[1].failures), (at(60), 0));
    }
}
