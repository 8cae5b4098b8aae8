//! ERROR entered and left, and waiting that lasts.

use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::night::Night;
use crate::health::operational::{Operational, State};
use crate::health::rounds::Rounds;
use crate::notify::compose::span;
use crate::notify::{Event, Key, Kind, Notifier};

/// Tells of ERROR entered and left, and of waiting that lasts.
pub(in crate::app) async fn tell_state(
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
        notifier.resolve(key(over));
    }
    if let Some(code) = code {
        let message = format!("{}; see RUNBOOK.md#{}", now.reason, code.to_lowercase());
        notifier.raise(Event { key: key(code), message });
    }
    code
}

/// A dead session is one piece of news, whether a leader's ERROR or an instance's check is the first to meet it.
fn key(code: &str) -> Key {
    match code {
        SESSION_EXPIRED => Key::new(Kind::BrokerSession, ""),
        code => Key::new(Kind::OperationalError, code),
    }
}

fn still_waiting(now: &Operational, since: Duration) -> Event {
    let since = span(chrono::TimeDelta::from_std(since).unwrap_or_default());
    Event::new(Kind::StillWaiting, format!("still waiting after {since}: {}", now.reason))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

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

    // R: B18: the leader's ERROR for a dead session is a page, so it waits for the morning, too
    #[tokio::test]
    async fn an_error_for_a_dead_session_is_told_when_the_night_is_over() {
        let (state, _changes) = OperationalState::new(Arc::new(Metrics::new()));
        let (_following, follows) = watch::channel(false);
        let (notifier, morning) = (Notifier::new(), Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&morning);
        let night = Night::when(move |_| !over.load(Ordering::Relaxed));
        let every = Some(Duration::from_millis(10));
        let task =
            tokio::spawn(tell_state(state.watch(), follows, Rounds::idle(), notifier.clone(), every, night));
        state.error(SESSION_EXPIRED, "the broker's session has expired");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(notifier.message_of(Kind::BrokerSession), None, "in the night");
        state.waiting("the broker's session has expired");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(notifier.message_of(Kind::StillWaiting), None, "nor again and again");
        state.error(SESSION_EXPIRED, "the broker's session has expired");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(notifier.message_of(Kind::BrokerSession), None, "still night");
        morning.store(true, Ordering::Relaxed);
        let message = raised(&notifier, Kind::BrokerSession).await;
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
