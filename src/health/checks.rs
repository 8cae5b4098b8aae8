//! The checks: what this instance depends on, each asked by itself, within a time limit, and judged.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ha::Line;
use serde::Serialize;
use tokio::sync::watch;

use super::classify::{self, Class};
use crate::broker::{BridgeMode, Broker, BrokerError};
use crate::causes::with_causes;
use crate::domain::order::{UnknownName, named};
use crate::feed::{LiveState, LiveStatus};
use crate::ledger::Ledger;

/// What is checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The ledger answers.
    Postgres,
    /// The lease's store answers.
    Redis,
    /// The bridge answers.
    Bridge,
    /// The bridge takes our key.
    BridgeAuth,
    /// The broker's session lives.
    BrokerSession,
    /// The bridge is in the mode that this instance is armed for.
    AnalyzerMode,
    /// The live feed has an authenticated socket, and ticks come.
    Websocket,
    /// This machine's clock agrees with the database's.
    Clock,
    /// There is room on the disk.
    Disk,
}
named!(Check {
    Postgres = "postgres",
    Redis = "redis",
    Bridge = "bridge",
    BridgeAuth = "bridge_auth",
    BrokerSession = "broker_session",
    AnalyzerMode = "analyzer_mode",
    Websocket = "websocket",
    Clock = "clock",
    Disk = "disk",
});

impl Check {
    /// Says whether nothing can be traded while it fails. Without a live feed prices come over REST, and stops are watched
    /// by them.
    pub fn is_vital(self) -> bool {
        self != Self::Websocket
    }
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is well.
    Pass(String),
    /// It is not.
    Fail(Class, String),
    /// It could not be asked, because what it stands on failed.
    Unknown(String),
}

/// A check's last result.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// Which.
    pub check: Check,
    /// Nothing can be traded while it fails.
    pub vital: bool,
    /// Well, not, or null: not known.
    pub up: Option<bool>,
    /// Who can mend it.
    pub class: Option<Class>,
    /// One sentence.
    pub detail: String,
    /// How long it took.
    pub latency_ms: f64,
    /// When it ended.
    pub checked_at: DateTime<Utc>,
    /// Since when it is as it is.
    pub since: DateTime<Utc>,
    /// Failures in a row.
    pub failures: u32,
}

/// Asks everything.
pub struct Checks {
    /// The ledger, on connections of its own.
    pub ledger: Ledger,
    /// Redis.
    pub redis: Line,
    /// The bridge.
    pub broker: Arc<dyn Broker>,
    /// The live feed.
    pub live: watch::Receiver<LiveStatus>,
    /// Where it is looked for; none while it is switched off.
    pub feed_url: Option<String>,
    /// The mode it must be in.
    pub armed: BridgeMode,
    /// How long one check may take.
    pub timeout: Duration,
    /// How far the clocks may be apart.
    pub max_clock_skew: Duration,
    /// The folder whose disk is looked at.
    pub disk_path: PathBuf,
    /// Free space below this is a failure.
    pub min_disk_free_mb: u64,
}

/// How long the live feed may take to have a socket: less than whoever asks for a round waits for it.
const SOCKET_PATIENCE: Duration = Duration::from_secs(3);

/// A verdict and how long it took.
pub type Timed = (Check, Verdict, Duration);

impl Checks {
    /// Asks everything at once; takes about as long as the slowest.
    pub async fn run(&self) -> Vec<Timed> {
        let (mut results, redis, bridge, live) =
            tokio::join!(self.postgres(), self.redis(), self.bridge(), self.live());
        results.push(redis);
        results.push(live);
        results.extend(bridge);
        results.push(self.disk());
        results.sort_by_key(|(check, ..)| *check);
        results
    }

    async fn within<T, E>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> (Option<Result<T, E>>, Duration) {
        let begun = Instant::now();
        let answer = tokio::time::timeout(self.timeout, asked).await.ok();
        (answer, begun.elapsed())
    }

    fn late(&self, who: &str) -> String {
        let within = self.timeout.as_secs();
        format!(
            "no answer within {within} s; see whether {who} hangs or is overloaded, and whether the way to it is cut"
        )
    }

    async fn postgres(&self) -> Vec<Timed> {
        let begun = Utc::now();
        let (answer, took) = self.within(self.ledger.clock()).await;
        let (database, clock) = match answer {
            Some(Ok(theirs)) => {
                let skew = skew(theirs, begun, took);
                (Verdict::Pass("answers".to_owned()), judge_skew(skew, took, self.max_clock_skew))
            }
            Some(Err(error)) => {
                let detail =
                    format!("{}; check that PostgreSQL runs and postgres.url is right", with_causes(&error));
                let unknown = Verdict::Unknown("PostgreSQL does not answer".to_owned());
                (Verdict::Fail(classify::of_ledger(&error), detail), unknown)
            }
            None => {
                let unknown = Verdict::Unknown("PostgreSQL does not answer".to_owned());
                (Verdict::Fail(Class::Transient, self.late("PostgreSQL")), unknown)
            }
        };
        vec![(Check::Postgres, database, took), (Check::Clock, clock, took)]
    }

    async fn redis(&self) -> Timed {
        let ping = redis::cmd("PING");
        let (answer, took) = self.within(self.redis.ask::<String>(&ping)).await;
        let verdict = match answer {
            Some(Ok(_)) => Verdict::Pass("answers".to_owned()),
            Some(Err(error)) => {
                let detail = format!("{error}; check that Redis runs and redis.url is right");
                Verdict::Fail(classify::of_redis(&error), detail)
            }
            None => Verdict::Fail(Class::Transient, self.late("Redis")),
        };
        (Check::Redis, verdict, took)
    }

    /// The bridge first; what stands on it is asked only when it answers.
    async fn bridge(&self) -> Vec<Timed> {
        let (answer, took) = self.within(self.broker.ping()).await;
        let (bridge, key) = match answer {
            Some(Ok(())) => (Verdict::Pass("answers".to_owned()), Verdict::Pass("takes the key".to_owned())),
            // It answered: what it refuses is the key.
            Some(Err(error @ BrokerError::SessionExpired { .. })) => {
                let key = Verdict::Fail(classify::of_key(&error), error.to_string());
                (Verdict::Pass("answers".to_owned()), key)
            }
            Some(Err(error)) => {
                let class = classify::of_key(&error);
                (Verdict::Fail(class, error.to_string()), unknown())
            }
            None => (Verdict::Fail(Class::Transient, self.late("the bridge")), unknown()),
        };
        let usable = matches!(key, Verdict::Pass(_));
        let mut results = vec![(Check::Bridge, bridge, took), (Check::BridgeAuth, key, took)];
        if usable {
            let (session, mode) = tokio::join!(self.session(), self.mode());
            results.extend([session, mode]);
        } else {
            let none = Duration::ZERO;
            results.extend([(Check::BrokerSession, unknown(), none), (Check::AnalyzerMode, unknown(), none)]);
        }
        results
    }

    async fn session(&self) -> Timed {
        let (answer, took) = self.within(self.broker.funds()).await;
        let verdict = match answer {
            Some(Ok(_)) => Verdict::Pass("lives".to_owned()),
            // The mode is a check of its own.
            Some(Err(BrokerError::WrongMode { .. })) => {
                Verdict::Unknown("the bridge is in the wrong mode".to_owned())
            }
            Some(Err(error)) => Verdict::Fail(classify::of_broker(&error), error.to_string()),
            None => Verdict::Fail(Class::Transient, self.late("the bridge")),
        };
        (Check::BrokerSession, verdict, took)
    }

    async fn mode(&self) -> Timed {
        let (answer, took) = self.within(self.broker.mode()).await;
        let verdict = match answer {
            Some(Ok(found)) if found == self.armed => Verdict::Pass(format!("{found}")),
            Some(Ok(found)) => {
                let error = BrokerError::WrongMode { expected: self.armed, found };
                Verdict::Fail(Class::Operator, error.to_string())
            }
            Some(Err(error)) => Verdict::Fail(classify::of_broker(&error), error.to_string()),
            None => Verdict::Fail(Class::Transient, self.late("the bridge")),
        };
        (Check::AnalyzerMode, verdict, took)
    }

    /// A socket that is being opened anew has a moment to stand.
    async fn live(&self) -> Timed {
        let begun = Instant::now();
        let mut live = self.live.clone();
        let up = |status: &LiveStatus| matches!(status.state, LiveState::Connected | LiveState::Disabled);
        let waited = tokio::time::timeout(self.timeout.min(SOCKET_PATIENCE), live.wait_for(up)).await;
        let verdict = match waited {
            Ok(Ok(status)) if status.state == LiveState::Disabled => Verdict::Pass("switched off".to_owned()),
            Ok(Ok(_)) => Verdict::Pass("connected".to_owned()),
            Ok(Err(_)) | Err(_) => {
                let url = self.feed_url.as_deref().unwrap_or_default();
                Verdict::Fail(Class::Transient, without_feed(&self.live.borrow(), url))
            }
        };
        (Check::Websocket, verdict, begun.elapsed())
    }

    fn disk(&self) -> Timed {
        let begun = Instant::now();
        let path = self.disk_path.display();
        let verdict = match rustix::fs::statvfs(&self.disk_path) {
            Ok(stat) => {
                let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) / 1_000_000;
                if free_mb < self.min_disk_free_mb {
                    let least = self.min_disk_free_mb;
                    let detail = format!("{free_mb} MB are free at {path}, less than {least}: make room");
                    Verdict::Fail(Class::Operator, detail)
                } else {
                    Verdict::Pass(format!("{free_mb} MB are free at {path}"))
                }
            }
            Err(error) => {
                let detail = format!("{path} cannot be looked at ({error}): check health.disk_path");
                Verdict::Fail(Class::Permanent, detail)
            }
        };
        (Check::Disk, verdict, begun.elapsed())
    }
}

/// What a feed that is down means, and what can be done about it.
fn without_feed(status: &LiveStatus, url: &str) -> String {
    let what = match status.state {
        LiveState::Mute => "if this lasts, restart the proxy",
        _ => {
            "start the bridge's WebSocket proxy there, or set feed.url to where it listens, or feed.enabled = false if \
              there is none"
        }
    };
    format!(
        "the live feed at {url} is {}: {}; trading goes on with prices over REST; {what}",
        status.state, status.reason
    )
}

fn unknown() -> Verdict {
    Verdict::Unknown("the bridge is not usable".to_owned())
}

/// How far the database's clock is ahead of ours, judged at the middle of the call.
fn skew(theirs: DateTime<Utc>, begun: DateTime<Utc>, took: Duration) -> TimeDelta {
    theirs - (begun + took / 2)
}

/// Half the call's time is not known to be either clock's.
fn judge_skew(skew: TimeDelta, took: Duration, most: Duration) -> Verdict {
    let ms = skew.num_milliseconds();
    let sure = ms.unsigned_abs().saturating_sub(u64::try_from(took.as_millis() / 2).unwrap_or(u64::MAX));
    if u128::from(sure) > most.as_millis() {
        let ahead = if ms > 0 { "behind" } else { "ahead of" };
        let detail = format!(
            "this machine's clock is {} ms {ahead} the database's: check time synchronisation on both",
            ms.abs()
        );
        return Verdict::Fail(Class::Operator, detail);
    }
    Verdict::Pass(format!("within {} ms of the database's", ms.unsigned_abs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_only_beyond_what_the_call_itself_may_explain() {
        let judge = |skew_ms, took_ms| {
            let took = Duration::from_millis(took_ms);
            judge_skew(TimeDelta::milliseconds(skew_ms), took, Duration::from_millis(1000))
        };
        assert!(matches!(judge(900, 2), Verdict::Pass(_)));
        assert!(matches!(judge(1100, 400), Verdict::Pass(_)), "half the call is 200 ms");
        let Verdict::Fail(Class::Operator, behind) = judge(1500, 2) else { panic!() };
        assert!(behind.contains("1500 ms behind"), "{behind}");
        let Verdict::Fail(Class::Operator, ahead) = judge(-60_000, 2) else { panic!() };
        assert!(ahead.contains("60000 ms ahead of"), "{ahead}");
    }
}
