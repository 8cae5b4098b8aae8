//! Marks in Redis: a symbol that somebody closes without the ledger, and what shows there of leaders and instances.

use std::collections::BTreeSet;
use std::time::Duration;

use ha::Line;
use redis::RedisError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Compared before it is changed: another's mark is not ours to lengthen or take off.
const COMPARED: &str = "
local held = redis.call('GET', KEYS[1])
if not held or cjson.decode(held).id ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// How long a leader waits for Redis before it sells: without Redis there is no mark to see.
const GLANCE: Duration = Duration::from_millis(100);

/// Who closes a symbol.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The close: the journal entry's id.
    pub id: Uuid,
    /// Where.
    pub host: String,
    /// By whom.
    pub operator: String,
}

/// An instance that publishes itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// Its member name.
    pub member: String,
    /// Where it is reached.
    pub address: String,
}

/// The cluster's keys in Redis that an emergency close is about.
pub struct Marks {
    line: Line,
    prefix: String,
}

impl Marks {
    /// Reads the addresses; connects at the first question.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub fn new(redis: &ha::Redis, cluster: &str, patience: Duration) -> Result<Self, RedisError> {
        Ok(Self { line: Line::new(redis, patience, patience)?, prefix: format!("baton:{cluster}") })
    }

    /// The same, for a leader's glance before it sells.
    ///
    /// # Errors
    /// As [`Marks::new`].
    pub fn glancing(redis: &ha::Redis, cluster: &str) -> Result<Self, RedisError> {
        Self::new(redis, cluster, GLANCE)
    }

    fn key(&self, symbol: &str) -> String {
        format!("{}:emergency:{symbol}", self.prefix)
    }

    /// Sets the mark, or says whose stands already and for how long still.
    ///
    /// # Errors
    /// Redis did not do it; whether it stands is then unknown, and it expires by itself.
    pub async fn set(
        &self,
        symbol: &str,
        mark: &Mark,
        ttl: Duration,
    ) -> Result<Result<(), (Option<Mark>, Duration)>, RedisError> {
        let key = self.key(symbol);
        let value = serde_json::json!(mark).to_string();
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(value).arg("NX").arg("PX").arg(millis(ttl));
        if self.line.ask::<Option<String>>(&set).await?.is_some() {
            return Ok(Ok(()));
        }
        let held: Option<String> = self.line.ask(redis::cmd("GET").arg(&key)).await?;
        let left: i64 = self.line.ask(redis::cmd("PTTL").arg(&key)).await?;
        let mark = held.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Err((mark, Duration::from_millis(u64::try_from(left).unwrap_or(0)))))
    }

    /// Has an own mark stand for `ttl` from now; false when it is gone, or another's.
    ///
    /// # Errors
    /// Redis did not do it.
    pub async fn lengthen(&self, symbol: &str, id: Uuid, ttl: Duration) -> Result<bool, RedisError> {
        self.compared(symbol, id, millis(ttl)).await
    }

    /// Takes an own mark off.
    ///
    /// # Errors
    /// Redis did not do it; the mark expires by itself.
    pub async fn clear(&self, symbol: &str, id: Uuid) -> Result<bool, RedisError> {
        self.compared(symbol, id, 0).await
    }

    async fn compared(&self, symbol: &str, id: Uuid, ttl_ms: u64) -> Result<bool, RedisError> {
        let mut eval = redis::cmd("EVAL");
        eval.arg(COMPARED).arg(1).arg(self.key(symbol)).arg(id.to_string()).arg(ttl_ms.to_string());
        Ok(self.line.ask::<i64>(&eval).await? == 1)
    }

    /// The symbols that are marked.
    ///
    /// # Errors
    /// Redis did not say.
    pub async fn marked(&self) -> Result<BTreeSet<String>, RedisError> {
        let prefix = self.key("");
        let keys = self.keys(&format!("{prefix}*")).await?;
        Ok(keys.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// The holder of the leader's lease, or of a candidate's: somebody is about to trade.
    ///
    /// # Errors
    /// Redis did not say.
    pub async fn lease(&self) -> Result<Option<String>, RedisError> {
        self.line.ask(redis::cmd("GET").arg(format!("{}:leader", self.prefix))).await
    }

    /// The highest epoch that was ever announced; none if Redis remembers none.
    ///
    /// # Errors
    /// Redis did not say.
    pub async fn epoch(&self) -> Result<Option<i64>, RedisError> {
        let said: Option<String> =
            self.line.ask(redis::cmd("GET").arg(format!("{}:epoch", self.prefix))).await?;
        Ok(said.and_then(|text| text.parse().ok()).filter(|epoch| *epoch > 0))
    }

    /// The instances that publish themselves.
    ///
    /// # Errors
    /// Redis did not say.
    pub async fn registered(&self) -> Result<Vec<Registered>, RedisError> {
        let prefix = format!("{}:instance:", self.prefix);
        let mut found = Vec::new();
        for key in self.keys(&format!("{prefix}*")).await? {
            let entry: Option<String> = self.line.ask(redis::cmd("GET").arg(&key)).await?;
            let Some(entry) = entry else { continue };
            let entry: Value = serde_json::from_str(&entry).unwrap_or_default();
            let member = key.strip_prefix(&prefix).unwrap_or(&key).to_owned();
            found.push(Registered {
                member,
                address: entry["address"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(found)
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>, RedisError> {
        let (mut cursor, mut found) = (0u64, Vec::new());
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) = self.line.ask(&scan).await?;
            found.extend(keys);
            if next == 0 {
                return Ok(found);
            }
            cursor = next;
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
