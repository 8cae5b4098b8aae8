//! The Redis lock. It elects, fast; it authorises nothing.
//!
//! Three kinds of keys, all under `baton:{cluster}:`. `leader` is the lease, JSON
//! `{"instance","epoch","state"}`, with a TTL. `epoch` remembers the highest epoch, without one.
//! `instance:{member}` is the registry. Whatever is done to them from outside (FLUSHALL, DEL, PEXPIRE, garbage)
//! moves no leadership: the incumbent writes its lease again, and a number that is no epoch counts as none.
//!
//! Every change is one Lua script that compares before it sets, and repeating one is harmless; so an answer
//! that timed out is dealt with by asking again.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Timing};
use crate::election::Patience;
use crate::ids::{Epoch, Instance};
use crate::line::Line;
use crate::session::sentence;

/// What the lock says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// `{member}/{incarnation}` of the one it belongs to.
    pub(crate) instance: String,
    /// The epoch it was written under; a candidate's carries the epoch it wants to end.
    pub(crate) epoch: Epoch,
    /// What its owner is.
    pub(crate) state: LeaseState,
}

/// What the owner of a lease is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LeaseState {
    /// Leads.
    Leader,
    /// Stands for election.
    Candidate,
    /// Was named by a handover; nobody else may stand until it expires.
    Reserved,
}

/// The outcome of an attempt to win the lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    Won { highest: Epoch },
    Refused { by: String },
}

/// The outcome of writing the leader's lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Renewal {
    Held,
    /// Somebody else's lease at the same epoch; it expires by itself.
    Waiting {
        by: String,
    },
    Outbid {
        highest: Epoch,
    },
}

/// Redis did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("cannot connect to Redis: {}; check the address and that Redis is up", sentence(.0))]
    Connect(RedisError),
    #[error("Redis did not {what}: {}", sentence(.source))]
    Request { what: &'static str, source: RedisError },
    #[error("Redis did not {what} within {} ms", .patience.as_millis())]
    TimedOut { what: &'static str, patience: Duration },
}

/// The lease, the epoch key and the registry in one Redis.
#[derive(Clone)]
pub(crate) struct RedisLease(Arc<Inner>);

struct Inner {
    line: Line,
    patience: Duration,
    leader_key: String,
    epoch_key: String,
    registry_prefix: String,
    win: Script,
    hold: Script,
    reserve: Script,
    give_back: Script,
}

// The scripts read a lease defensively: what does not decode to a table with an epoch counts as absent.
// A trillion promotions do not happen: a larger number is damage, and believing it would use up the epochs.
const READ: &str = "
local function plausible(n)
  return type(n) == 'number' and n >= 0 and n <= 1099511627776 and n == math.floor(n)
end
local function lease(raw)
  if not raw then return nil end
  local ok, l = pcall(cjson.decode, raw)
  if not ok or type(l) ~= 'table' or not plausible(l.epoch) then return nil end
  return l
end
local function highest(key)
  local ok, raw = pcall(redis.call, 'GET', key)
  local n = ok and type(raw) == 'string' and tonumber(raw) or 0
  if plausible(n) then return n end
  return 0
end
local function current(key)
  local ok, raw = pcall(redis.call, 'GET', key)
  if ok and type(raw) == 'string' then return raw end
  return nil
end
";

// KEYS leader, epoch; ARGV instance, the row's epoch, value, TTL in ms, patience 0..2.
const WIN: &str = "
local row, patience = tonumber(ARGV[2]), tonumber(ARGV[5])
local raw = current(KEYS[1])
local l = lease(raw)
local free = l == nil or l.instance == ARGV[1] or l.epoch < row
  or (l.epoch == row and l.state == 'leader')
  or (l.state == 'reserved' and patience >= 1) or patience >= 2
if not free then return {0, 0, raw} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return {1, highest(KEYS[2]), ''}
";

// KEYS leader, epoch; ARGV instance, epoch, value, TTL in ms, 1 if it announces.
// An announcement that finds its own number was either made before, and then the lease is its own, or another minted the
// same: PostgreSQL lost that one's epoch with its tail.
const HOLD: &str = "
local mine, seen = tonumber(ARGV[2]), highest(KEYS[2])
if seen > mine then return {2, seen, ''} end
local raw = current(KEYS[1])
local l = lease(raw)
if ARGV[5] == '1' and seen == mine and (l == nil or l.instance ~= ARGV[1]) then return {2, seen, raw or ''} end
if seen < mine or redis.call('TYPE', KEYS[2]).ok ~= 'string' then redis.call('SET', KEYS[2], ARGV[2]) end
if l and l.epoch > mine then return {2, l.epoch, raw} end
if l and l.epoch == mine and l.instance ~= ARGV[1] then return {0, seen, raw} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return {1, mine, ''}
";

// KEYS leader; ARGV instance, epoch, value, TTL in ms.
const RESERVE: &str = "
local l = lease(current(KEYS[1]))
if l and l.instance ~= ARGV[1] and l.epoch >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
";

// KEYS leader; ARGV instance.
const GIVE_BACK: &str = "
local l = lease(current(KEYS[1]))
if l and l.instance == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

// === impl RedisLease ===

impl RedisLease {
    /// Prepares the scripts; connects at the first request.
    pub(crate) fn new(config: &Config) -> Result<Self, RedisError> {
        let script = |body: &str| Script::new(&format!("{READ}{body}"));
        let prefix = format!("baton:{}", config.cluster);
        let patience = config.timing.redis_timeout();
        Ok(Self(Arc::new(Inner {
            line: Line::new(&config.redis, patience, config.timing.acknowledgement())?,
            patience,
            leader_key: format!("{prefix}:leader"),
            epoch_key: format!("{prefix}:epoch"),
            registry_prefix: format!("{prefix}:instance:"),
            win: script(WIN),
            hold: script(HOLD),
            reserve: script(RESERVE),
            give_back: script(GIVE_BACK),
        })))
    }

    /// Tries to take the lease of a leader that is gone, as a candidate for the epoch after `row`.
    pub(crate) async fn win(
        &self,
        me: &Instance,
        row: Epoch,
        patience: Patience,
    ) -> Result<Attempt, LeaseError> {
        let mut call = self.0.win.prepare_invoke();
        call.key(&self.0.leader_key)
            .key(&self.0.epoch_key)
            .arg(me.to_string())
            .arg(row.get())
            .arg(value(me, row, LeaseState::Candidate))
            .arg(millis(Timing::CANDIDATE_TTL))
            .arg(patience as u8);
        let (won, highest, raw): (i64, i64, String) = self.invoke("give the lease", &call).await?;
        Ok(match won {
            1 => Attempt::Won { highest: Epoch::new(highest) },
            _ => Attempt::Refused { by: describe(&raw) },
        })
    }

    /// Makes a new epoch known as [`RedisLease::hold`] does; an equal one found there that is not this candidate's own
    /// puts it out, too.
    pub(crate) async fn announce(
        &self,
        me: &Instance,
        epoch: Epoch,
        ttl: Duration,
    ) -> Result<Renewal, LeaseError> {
        self.write(me, epoch, ttl, true).await
    }

    /// Writes the leader's lease and raises the epoch key; a higher epoch found there puts the leader out. The epoch is
    /// this leader's own: a lost lease or key is written again.
    pub(crate) async fn hold(
        &self,
        me: &Instance,
        epoch: Epoch,
        ttl: Duration,
    ) -> Result<Renewal, LeaseError> {
        self.write(me, epoch, ttl, false).await
    }

    async fn write(
        &self,
        me: &Instance,
        epoch: Epoch,
        ttl: Duration,
        announces: bool,
    ) -> Result<Renewal, LeaseError> {
        let mut call = self.0.hold.prepare_invoke();
        call.key(&self.0.leader_key)
            .key(&self.0.epoch_key)
            .arg(me.to_string())
            .arg(epoch.get())
            .arg(value(me, epoch, LeaseState::Leader))
            .arg(millis(ttl))
            .arg(u8::from(announces));
        let (held, highest, raw): (i64, i64, String) = self.invoke("renew the lease", &call).await?;
        Ok(match held {
            1 => Renewal::Held,
            2 => Renewal::Outbid { highest: Epoch::new(highest) },
            _ => Renewal::Waiting { by: describe(&raw) },
        })
    }

    /// Turns the leader's lease into a reservation for its successor.
    pub(crate) async fn reserve(
        &self,
        me: &Instance,
        to: &Instance,
        epoch: Epoch,
    ) -> Result<bool, LeaseError> {
        let mut call = self.0.reserve.prepare_invoke();
        call.key(&self.0.leader_key)
            .arg(me.to_string())
            .arg(epoch.get())
            .arg(value(to, epoch, LeaseState::Reserved))
            .arg(millis(Timing::RESERVATION));
        let done: i64 = self.invoke("reserve the lease", &call).await?;
        Ok(done == 1)
    }

    /// Removes the lease if it belongs to `me`.
    pub(crate) async fn give_back(&self, me: &Instance) -> Result<(), LeaseError> {
        let mut call = self.0.give_back.prepare_invoke();
        call.key(&self.0.leader_key).arg(me.to_string());
        let _removed: i64 = self.invoke("take the lease back", &call).await?;
        Ok(())
    }

    /// Publishes one instance in the registry.
    pub(crate) async fn publish(&self, me: &Instance, entry: &str, ttl: Duration) -> Result<(), LeaseError> {
        let mut set = redis::cmd("SET");
        set.arg(self.registry_key(me)).arg(entry).arg("PX").arg(millis(ttl));
        self.request("store the registry entry", async |mut c| set.query_async::<()>(&mut c).await).await
    }

    /// Removes an instance from the registry.
    pub(crate) async fn retract(&self, me: &Instance) -> Result<(), LeaseError> {
        let mut del = redis::cmd("DEL");
        del.arg(self.registry_key(me));
        self.request("remove the registry entry", async |mut c| del.query_async::<()>(&mut c).await).await
    }

    /// All registry entries, as they were published.
    pub(crate) async fn entries(&self) -> Result<Vec<String>, LeaseError> {
        let pattern = format!("{}*", self.0.registry_prefix);
        self.request("list the registry", async |mut c| {
            let mut keys: Vec<String> = Vec::new();
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(200);
                let (next, found): (u64, Vec<String>) = scan.query_async(&mut c).await?;
                keys.extend(found);
                cursor = next;
                // A bound against a keyspace that grows while it is scanned.
                if cursor == 0 || keys.len() > 1000 {
                    break;
                }
            }
            let mut entries = Vec::with_capacity(keys.len());
            for key in keys {
                let entry: Option<String> = redis::cmd("GET").arg(key).query_async(&mut c).await?;
                entries.extend(entry);
            }
            Ok(entries)
        })
        .await
    }

    fn registry_key(&self, me: &Instance) -> String {
        format!("{}{}", self.0.registry_prefix, me.member)
    }

    async fn invoke<T: redis::FromRedisValue>(
        &self,
        what: &'static str,
        call: &redis::ScriptInvocation<'_>,
    ) -> Result<T, LeaseError> {
        self.request(what, async |mut c| call.invoke_async::<T>(&mut c).await).await
    }

    /// Runs one request within the patience; after a failure the next request connects anew.
    async fn request<T>(
        &self,
        what: &'static str,
        run: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, LeaseError> {
        let patience = self.0.patience;
        let mut used = None;
        let bounded = tokio::time::timeout(patience, async {
            let lent = self.0.line.connection().await.map_err(LeaseError::Connect)?;
            used = Some(lent.serial());
            run(lent.connection).await.map_err(|source| LeaseError::Request { what, source })
        });
        let outcome = bounded.await.unwrap_or(Err(LeaseError::TimedOut { what, patience }));
        if let (Err(_), Some(serial)) = (&outcome, used) {
            self.0.line.forget(serial).await;
        }
        outcome
    }
}

fn value(owner: &Instance, epoch: Epoch, state: LeaseState) -> String {
    serde_json::json!(Lease { instance: owner.to_string(), epoch, state }).to_string()
}

/// Says whose lease stands in the way.
fn describe(raw: &str) -> String {
    match serde_json::from_str::<Lease>(raw) {
        Ok(lease) => format!("{} as {} at epoch {}", lease.instance, lease.state.name(), lease.epoch),
        Err(_) => format!("an unreadable lease {raw:?}"),
    }
}

impl LeaseState {
    fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Candidate => "candidate",
            Self::Reserved => "reserved successor",
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
