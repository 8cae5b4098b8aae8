//! The cluster's count of the last second's orders, in Redis.
//!
//! A sorted set by the server's time; one script drops what is old, counts, and adds the order if there is room. An order
//! is added under a name of its own, so asking again after an answer that was lost counts it once. The connection is the
//! budget's own: nothing here can hold up the lease's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ha::Line;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::WINDOW;
use crate::broker::settings::{SettingsError, SharedBudget};

/// The longest that an order waits for Redis.
pub(super) const BOUND: Duration = Duration::from_millis(20);
/// How long a connection waits for an answer before it is given up: less, so that it is.
const ANSWER: Duration = Duration::from_millis(15);
/// Connecting goes on in the background for so long.
const CONNECT: Duration = Duration::from_secs(1);
/// After a failure Redis is not asked for so long: an order in fifteen of a hung Redis waits, not each.
pub(super) const REST: Duration = Duration::from_millis(300);

// KEYS count; ARGV order, ceiling, window in µs, how many orders do not go after all and their names, then name and age in µs of
// orders that went without being counted.
// 0: it may go, and is counted; else µs until there may be room. What is dated ahead of the server's clock was dated by
// the clock before it was set back.
const ASK: &str = "
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local t = redis.call('TIME')
local now, window = t[1] * 1000000 + t[2], tonumber(ARGV[3])
local given = tonumber(ARGV[4])
for i = 5, 4 + given do redis.call('ZREM', KEYS[1], ARGV[i]) end
for i = 5 + given, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now - ARGV[i + 1]), ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 500))
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2])
if over >= 0 then
  local leaves = redis.call('ZRANGE', KEYS[1], over, over, 'WITHSCORES')
  if not leaves[2] then return window end
  return math.max(1, leaves[2] + window - now)
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 500))
return 0
";

/// The way to the count.
pub(super) struct Count {
    line: Line,
    key: String,
    /// What this process's orders are called by.
    process: Uuid,
    /// Not asked before this.
    away_until: Mutex<Option<Instant>>,
}

impl Count {
    /// Reads the address; connects at the first order.
    pub fn new(shared: &SharedBudget) -> Result<Self, SettingsError> {
        let line = Line::new(&shared.redis, ANSWER, CONNECT)
            .map_err(|error| SettingsError::SharedBudget { problem: error.to_string() })?;
        let key = format!("baton:{}:orders", shared.cluster);
        Ok(Self { line, key, process: Uuid::now_v7(), away_until: Mutex::default() })
    }

    /// Asks for a place among `ceiling`, has `uncounted` orders of this process counted, with their ages, and `returned` ones
    /// not any more. `Err` says
    /// after what time to ask again; none is no answer: Redis is away, or too slow.
    pub async fn ask(
        &self,
        order: u64,
        ceiling: usize,
        uncounted: &[(u64, Duration)],
        returned: &[u64],
    ) -> Option<Result<(), Duration>> {
        if self.away_until().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let mut eval = redis::cmd("EVAL");
        eval.arg(ASK).arg(1).arg(&self.key).arg(self.name(order)).arg(ceiling).arg(WINDOW.as_micros() as u64);
        eval.arg(returned.len());
        for order in returned {
            eval.arg(self.name(*order));
        }
        for (order, age) in uncounted {
            eval.arg(self.name(*order)).arg(age.as_micros() as u64);
        }
        let why = match timeout(BOUND, self.line.ask::<u64>(&eval)).await {
            Ok(Ok(0)) => return self.answered(Ok(())),
            Ok(Ok(micros)) => return self.answered(Err(Duration::from_micros(micros))),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", BOUND.as_millis()),
        };
        if self.away_until().replace(Instant::now() + REST).is_none() {
            tracing::warn!(
                "[FALLBACK] Redis does not count orders ({why}): this instance lets half of the rate through"
            );
        }
        None
    }

    fn answered(&self, answer: Result<(), Duration>) -> Option<Result<(), Duration>> {
        if self.away_until().take().is_some() {
            tracing::info!("[FALLBACK] over: Redis counts the cluster's orders again");
        }
        Some(answer)
    }

    /// It did not answer when it was asked last.
    #[cfg(test)]
    pub fn is_away(&self) -> bool {
        self.away_until().is_some()
    }

    fn name(&self, order: u64) -> String {
        format!("{}/{order}", self.process)
    }

    fn away_until(&self) -> MutexGuard<'_, Option<Instant>> {
        // A copy is put in or taken out; nothing panics in between.
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
