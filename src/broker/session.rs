//! The broker session as a state of its own: valid, expired or unknown.
//!
//! A session dies once a day, the bridge does not say so, and its own health stays green. What proves a session is
//! funds with figures, or a position book. What proves its end is that both say so; anything else leaves the state
//! unknown, which is neither. An expired session stays expired until a proof of the contrary: an operator logs in at the
//! bridge, and the next look finds out by itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveTime, Utc};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Broker, BrokerError};
use crate::domain::order::{UnknownName, named};
use crate::telemetry::metrics::Metrics;

/// Between two looks at a valid session.
const LOOK: Duration = Duration::from_secs(10);
/// Between two looks at one that is expired or unknown.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Looks without any answer before a valid session is called unknown.
const MISSES: u32 = 3;
/// The bridge's own end of a session, India Standard Time; what was proven before it proves nothing after it.
const BOUNDARY: NaiveTime = NaiveTime::from_hms_opt(3, 0, 0).expect("03:00 is a time");
/// India Standard Time has no daylight saving.
const IST: FixedOffset = FixedOffset::east_opt(5 * 3600 + 1800).expect("5 h 30 min is within a day");

/// What is known of the broker session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionState {
    /// Nothing proves it alive or dead: the bridge does not answer, or has not been asked.
    Unknown,
    /// The broker answered through it.
    Valid,
    /// Dead, or the API key is wrong: the bridge does not tell them apart. An operator has to log in there.
    Expired,
}
named!(SessionState { Unknown = "unknown", Valid = "valid", Expired = "expired" });

/// The session's state with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The state.
    pub state: SessionState,
    /// A sentence.
    pub reason: String,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// When it was proven valid or expired last.
    pub proven: Option<DateTime<Utc>>,
}

/// Looks at the session; one per process.
pub struct SessionWatch {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    state: watch::Sender<Session>,
    doubt: Arc<Notify>,
}

/// What one look found.
#[derive(Debug)]
enum Finding {
    Valid,
    Expired(String),
    Unknown(String),
}

// === impl SessionWatch ===

impl SessionWatch {
    /// A watch that has not looked yet.
    pub fn new(broker: Arc<dyn Broker>, metrics: Arc<Metrics>) -> Self {
        let session = Session {
            state: SessionState::Unknown,
            reason: "not looked at yet".to_owned(),
            since: Utc::now(),
            proven: None,
        };
        Self { broker, metrics, state: watch::Sender::new(session), doubt: Arc::default() }
    }

    /// The state, and its changes.
    pub fn session(&self) -> watch::Receiver<Session> {
        self.state.subscribe()
    }

    /// Notified, it looks at once: an answer elsewhere made the session doubtful, or somebody asks.
    pub fn doubt(&self) -> Arc<Notify> {
        Arc::clone(&self.doubt)
    }

    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.watch() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn watch(&self) {
        let mut misses = 0;
        loop {
            let finding = self.look().await;
            misses = if matches!(finding, Finding::Unknown(_)) { misses + 1 } else { 0 };
            self.learn(finding, misses, Utc::now());
            let valid = self.state.borrow().state == SessionState::Valid;
            let wait = if valid && misses == 0 { LOOK } else { LOOK_AGAIN };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // One look at a time, whoever doubts how often.
                () = self.doubt.notified() => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }

    async fn look(&self) -> Finding {
        let by_funds = match self.broker.funds().await {
            Ok(_) => return Finding::Valid,
            Err(error) => error,
        };
        match (by_funds, self.broker.positions().await) {
            (_, Ok(_)) => Finding::Valid,
            (BrokerError::SessionExpired { .. }, Err(BrokerError::SessionExpired { said })) => {
                Finding::Expired(said)
            }
            (BrokerError::SessionExpired { .. }, Err(error)) | (error, Err(_)) => {
                Finding::Unknown(error.to_string())
            }
        }
    }

    fn learn(&self, finding: Finding, misses: u32, now: DateTime<Utc>) {
        self.state.send_if_modified(|session| {
            let (state, reason, proven) = match finding {
                Finding::Valid => (SessionState::Valid, "the broker answers".to_owned(), Some(now)),
                Finding::Expired(said) => {
                    let reason = format!("dead, or the API key is wrong ({said}): log in at the bridge");
                    (SessionState::Expired, reason, Some(now))
                }
                // Still dead as far as anybody knows.
                Finding::Unknown(_) if session.state == SessionState::Expired => return false,
                Finding::Unknown(_) if misses < MISSES && !past_boundary(session.proven, now) => {
                    return false;
                }
                Finding::Unknown(why) => (SessionState::Unknown, why, session.proven),
            };
            session.proven = proven;
            if session.state == state {
                session.reason = reason;
                return false;
            }
            match state {
                SessionState::Valid => tracing::info!("[HEALTH-CHECK] the broker session is valid"),
                SessionState::Expired => tracing::error!("[HEALTH-CHECK] the broker session is {reason}"),
                SessionState::Unknown => {
                    tracing::warn!("[HEALTH-CHECK] the broker session is unknown: {reason}")
                }
            }
            *session = Session { state, reason, since: now, proven };
            self.metrics.broker_session_valid.set(i64::from(state == SessionState::Valid));
            true
        });
    }
}

/// Whether the daily end of sessions lies between the last proof and now.
fn past_boundary(proven: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let session_day = |at: DateTime<Utc>| {
        let local = at.with_timezone(&IST).naive_local();
        local.date() - chrono::Days::new(u64::from(local.time() < BOUNDARY))
    };
    proven.is_none_or(|proven| session_day(proven) != session_day(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{OpenAlgo, Settings};
    use crate::paper::{BridgeMode, Options, Paper};

    fn watch(url: String, mode: super::super::BridgeMode) -> (SessionWatch, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let mut settings = Settings::new(url, "paper");
        settings.mode = mode;
        settings.read_attempts = 1;
        (SessionWatch::new(Arc::new(OpenAlgo::new(settings).unwrap()), Arc::clone(&metrics)), metrics)
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    async fn fault(paper: &Paper, kind: Option<&str>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (client, url) = (reqwest::Client::new(), format!("{}/_ctl/faults", paper.control_url()));
        client.delete(&url).send().await.unwrap();
        if let Some(kind) = kind {
            let rule = serde_json::json!({ "fault": { "kind": kind } });
            assert!(client.post(&url).json(&rule).send().await.unwrap().status().is_success());
        }
    }

    #[tokio::test]
    async fn both_ways_of_dying_are_told_from_life_and_life_comes_back() {
        let paper = Paper::start(Options { mode: BridgeMode::Live, ..Options::default() }).await.unwrap();
        let (watch, metrics) = watch(paper.http_url(), super::super::BridgeMode::Live);
        let state = || watch.state.borrow().state;
        for kind in ["session_expired", "session_revoked"] {
            fault(&paper, None).await;
            watch.learn(watch.look().await, 0, Utc::now());
            assert_eq!((state(), metrics.broker_session_valid.get()), (SessionState::Valid, 1));
            fault(&paper, Some(kind)).await;
            watch.learn(watch.look().await, 0, Utc::now());
            assert_eq!((state(), metrics.broker_session_valid.get()), (SessionState::Expired, 0), "{kind}");
        }
        // A bridge that is gone proves nothing.
        paper.stop().await;
        watch.learn(watch.look().await, 99, Utc::now());
        assert_eq!(state(), SessionState::Expired);
    }

    #[tokio::test]
    async fn no_answer_is_unknown_after_a_few_looks_and_never_expired() {
        let (watch, _) = watch("http://127.0.0.1:1".to_owned(), super::super::BridgeMode::Analyze);
        // Far from the boundary, whatever time it is.
        let now = at("2026-01-05T10:00:00Z");
        watch.learn(Finding::Valid, 0, now);
        for misses in 1..=MISSES {
            watch.learn(watch.look().await, misses, now);
            let expected = if misses < MISSES { SessionState::Valid } else { SessionState::Unknown };
            assert_eq!(watch.state.borrow().state, expected, "after {misses}");
        }
    }

    #[tokio::test]
    async fn one_miss_after_the_boundary_makes_a_session_unknown_and_before_it_none() {
        let (watch, metrics) = watch("http://127.0.0.1:1".to_owned(), super::super::BridgeMode::Live);
        let state = || watch.state.borrow().state;
        let missed = || Finding::Unknown("no answer".to_owned());
        watch.learn(Finding::Valid, 0, at("2026-01-05T21:29:50Z"));
        watch.learn(missed(), 1, at("2026-01-05T21:29:59Z"));
        assert_eq!((state(), metrics.broker_session_valid.get()), (SessionState::Valid, 1));
        // 03:00 IST: it may have ended with the day.
        watch.learn(missed(), 2, at("2026-01-05T21:30:00Z"));
        assert_eq!((state(), metrics.broker_session_valid.get()), (SessionState::Unknown, 0));
        watch.learn(Finding::Valid, 0, at("2026-01-05T21:30:10Z"));
        watch.learn(missed(), 1, at("2026-01-05T21:30:20Z"));
        assert_eq!(state(), SessionState::Valid, "proven on this side");
    }

    #[test]
    fn a_proof_from_before_the_boundary_proves_nothing_after_it() {
        // 03:00 IST is 21:30 UTC of the day before.
        assert!(past_boundary(Some(at("2026-01-05T21:29:59Z")), at("2026-01-05T21:30:00Z")));
        assert!(!past_boundary(Some(at("2026-01-05T21:30:00Z")), at("2026-01-06T21:29:59Z")));
        assert!(past_boundary(None, at("2026-01-05T00:00:00Z")));
    }
}
