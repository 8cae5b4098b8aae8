//! Who tells, while the database is away: a key in Redis for each key of trouble. Its holder's word is short and renewed
//! until the message is delivered; then it says so for the rest of the window.

use std::time::Duration;

use ha::Line;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::event::Key;
use super::super::{Settings, sender};

/// How long Redis may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it is not asked again when it did not answer: there may be hundreds of keys.
const SILENCE: Duration = Duration::from_secs(2);
/// What stands in place of the holder when the operator was told.
const TOLD: &str = "told";
/// Takes the key or renews it; answers whose it is.
const TAKE: &str = "local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return ARGV[1] end
return holder";

/// Whose business a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// This process's; also when Redis cannot say.
    Me,
    /// Another one's, which has not delivered yet.
    Another,
    /// Nobody's any more: the operator was told.
    Told,
}

/// This process's words in Redis.
pub(super) struct Claims {
    /// None only for addresses that the configuration would have refused.
    redis: Option<Line>,
    cluster: String,
    me: String,
    lease: Duration,
    silent_until: Option<Instant>,
}

impl Claims {
    pub fn new(settings: &Settings) -> Self {
        Self {
            redis: Line::new(&settings.redis, PATIENCE, PATIENCE).ok(),
            cluster: settings.cluster.clone(),
            // The process, not the member: a successor of the same name has nothing in hand.
            me: Uuid::now_v7().to_string(),
            lease: settings.timeout + sender::LEASE_SLACK,
            silent_until: None,
        }
    }

    /// How long another's word is waited for.
    pub fn longest_wait(&self) -> Duration {
        self.lease * 2
    }

    /// Takes or renews a key.
    pub async fn ask(&mut self, key: &Key) -> Holder {
        let mut take = redis::cmd("EVAL");
        take.arg(TAKE).arg(1).arg(self.name(key)).arg(&self.me).arg(millis(self.lease));
        self.holder(&take).await
    }

    /// Looks whose a key is; nobody's is like this process's.
    pub async fn look(&mut self, key: &Key) -> Holder {
        let mut get = redis::cmd("GET");
        get.arg(self.name(key));
        self.holder(&get).await
    }

    /// Says that the operator was told.
    pub async fn told(&mut self, key: &Key, settings: &Settings) {
        let mut set = redis::cmd("SET");
        set.arg(self.name(key)).arg(TOLD).arg("PX").arg(millis(settings.window(key.kind)));
        self.answer(&set).await;
    }

    async fn holder(&mut self, command: &redis::Cmd) -> Holder {
        match self.answer(command).await {
            Some(holder) if holder == TOLD => Holder::Told,
            Some(holder) if holder != self.me => Holder::Another,
            _ => Holder::Me,
        }
    }

    async fn answer(&mut self, command: &redis::Cmd) -> Option<String> {
        let redis = self.redis.as_ref()?;
        if self.silent_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let answer: Result<Option<String>, _> = redis.ask(command).await;
        self.silent_until = answer.is_err().then(|| Instant::now() + SILENCE);
        answer.ok().flatten()
    }

    fn name(&self, key: &Key) -> String {
        format!("baton:{}:notified:{}:{}", self.cluster, key.kind, key.scope)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
