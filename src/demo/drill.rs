//! Drills: a fault in a demo's cluster, and how long until the cluster has noticed and healed.
//!
//! What a drill takes away it freezes: PostgreSQL, Redis and the bridge keep their connections and answer nobody, which is
//! the harder kind of outage. Everything runs again when the drill ends, whatever way it ends, but for a leader that was killed.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::sheet::{Own, Refused, Sheet};
use super::step::{Step, ms};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long an instance may take to answer; a frozen one never does.
const ANSWER: Duration = Duration::from_millis(500);
/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be drilled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drill {
    /// The leader dies.
    KillLeader,
    /// The leader stops for a while and wakes up.
    PauseLeader,
    /// Redis does not answer.
    RedisDown,
    /// PostgreSQL does not answer.
    PostgresDown,
    /// The bridge does not answer.
    BrokerDown,
}

/// A demo's cluster, as it is seen from outside.
struct Ground<'a> {
    sheet: &'a Sheet,
    http: reqwest::Client,
}

impl Drill {
    /// Brings the fault about and sees what comes of it.
    ///
    /// # Errors
    /// There is nothing to drill: nobody leads, nobody could take over, or the process is gone.
    pub async fn run(self, sheet: &Sheet) -> Result<Step, Refused> {
        let ground = Ground { sheet, http: reqwest::Client::new() };
        match self {
            Self::KillLeader => ground.kill_leader().await,
            Self::PauseLeader => ground.pause_leader().await,
            Self::RedisDown => ground.redis_down().await,
            Self::PostgresDown => {
                let promise = "while PostgreSQL is away nobody trades; then somebody does";
                ground.away("postgres-down", promise, "PostgreSQL", sheet.postgres).await
            }
            Self::BrokerDown => {
                let promise = "while the bridge is away the leader waits; then somebody trades";
                ground.away("broker-down", promise, "the bridge", sheet.bridge).await
            }
        }
    }
}

impl Ground<'_> {
    async fn kill_leader(&self) -> Result<Step, Refused> {
        let (old, own) = self.leader_with_successor().await?;
        own.kill();
        let begun = Instant::now();
        let new = self.until(async || self.trader().await.filter(|name| *name != old)).await;
        let step = Step::new("kill-leader", "another instance leads and trades")
            .took(begun.elapsed())
            .saw(format!("{old} was killed, and is not started again"))
            .figure("from", old);
        Ok(told(step, new))
    }

    async fn pause_leader(&self) -> Result<Step, Refused> {
        let (old, own) = self.leader_with_successor().await?;
        let frozen = own.freeze();
        let begun = Instant::now();
        let new = self.until(async || self.trader().await.filter(|name| *name != old)).await;
        let took = begun.elapsed();
        drop(frozen);
        let pid = self.sheet.members.get(&old).map_or(0, |member| member.pid);
        let after = self
            .until(async || match self.sheet.own(pid) {
                None => Some("ended itself when it woke up"),
                Some(_) => self.follows(&old).await.then_some("follows since it woke up"),
            })
            .await;
        let step =
            Step::new("pause-leader", "another instance takes over, and who wakes up knows it").took(took);
        let step = step.check(after.is_some(), || format!("{old} does not follow"));
        let step =
            step.saw(format!("{old} was stopped and {}", after.unwrap_or("is awake"))).figure("from", old);
        Ok(told(step, new))
    }

    async fn redis_down(&self) -> Result<Step, Refused> {
        let redis = self.own("Redis", self.sheet.redis)?;
        let leader = self.trader().await.ok_or(Refused::NoLeader)?;
        let frozen = redis.freeze();
        let begun = Instant::now();
        let noticed = self.until(async || self.degraded().await.contains(&true).then_some(())).await;
        let noticed_after = begun.elapsed();
        let trades = self.until(async || self.trader().await).await;
        drop(frozen);
        let woken = Instant::now();
        let healed = self.until(async || (!self.degraded().await.contains(&true)).then_some(())).await;
        let step = Step::new("redis-down", "without Redis the leader trades on, and says that it is away")
            .took(noticed_after)
            .check(noticed.is_some(), || "nobody has noticed".to_owned())
            .check(trades.is_some(), || "nobody trades".to_owned())
            .check(healed.is_some(), || "it is still said to be away".to_owned())
            .figure("healed_ms", ms(woken.elapsed()));
        let trader = trades.unwrap_or_default();
        let kept = if trader == leader { "leads on" } else { "leads now" };
        Ok(step.saw(format!("{trader} {kept}")).saw(healed_after(woken)).figure("leader", trader))
    }

    /// Without this process nobody can trade.
    async fn away(&self, name: &'static str, promise: &str, what: &str, pid: u32) -> Result<Step, Refused> {
        let own = self.own(what, pid)?;
        self.trader().await.ok_or(Refused::NoLeader)?;
        let frozen = own.freeze();
        let begun = Instant::now();
        let noticed = self.until(async || self.trader().await.is_none().then_some(())).await;
        let noticed_after = begun.elapsed();
        let said = self.reason().await;
        drop(frozen);
        let woken = Instant::now();
        let trader = self.until(async || self.trader().await).await;
        let step = Step::new(name, promise)
            .took(noticed_after)
            .check(noticed.is_some(), || format!("somebody trades without {what}"))
            .check(trader.is_some(), || "nobody trades again".to_owned())
            .figure("healed_ms", ms(woken.elapsed()))
            .saw(healed_after(woken));
        let step = said.into_iter().fold(step, Step::saw);
        let trader = trader.unwrap_or_default();
        Ok(step.saw(format!("{trader} leads and trades")).figure("leader", trader))
    }

    fn own(&self, name: &str, pid: u32) -> Result<Own, Refused> {
        self.sheet.own(pid).ok_or_else(|| Refused::Gone { name: name.to_owned() })
    }

    /// The leader's name and process, once another instance could take over.
    async fn leader_with_successor(&self) -> Result<(String, Own), Refused> {
        let leader = self.trader().await.ok_or(Refused::NoLeader)?;
        let own = self.sheet.members.get(&leader).and_then(|member| self.sheet.own(member.pid));
        let others: Vec<&str> = self
            .sheet
            .running()
            .filter(|(name, _)| *name != leader)
            .map(|(_, other)| other.address.as_str())
            .collect();
        if others.is_empty() {
            return Err(Refused::NoSuccessor);
        }
        let ready = async || {
            for address in &others {
                if self.get(address, "/readyz").await.is_some_and(|(success, _)| success) {
                    return Some(());
                }
            }
            None
        };
        self.until(ready).await.ok_or(Refused::NoSuccessor)?;
        Ok((leader, own.ok_or(Refused::NoLeader)?))
    }

    /// Looks until there is something, or patience is over.
    async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = look().await {
                return Some(found);
            }
            sleep(LOOK).await;
        }
        None
    }

    async fn get(&self, address: &str, path: &str) -> Option<(bool, String)> {
        let answer = self.http.get(format!("{address}{path}")).timeout(ANSWER).send().await.ok()?;
        Some((answer.status().is_success(), answer.text().await.ok()?))
    }

    /// The instance that leads and trades.
    async fn trader(&self) -> Option<String> {
        for (name, member) in self.sheet.running() {
            if self.get(&member.address, "/leader").await.is_some_and(|(success, _)| success) {
                return Some(name.to_owned());
            }
        }
        None
    }

    /// The instance answers, and says that it follows.
    async fn follows(&self, name: &str) -> bool {
        let Some(member) = self.sheet.members.get(name) else { return false };
        let Some((_, text)) = self.get(&member.address, "/leader").await else { return false };
        serde_json::from_str::<Value>(&text).is_ok_and(|said| said["role"] == "follower")
    }

    /// What each instance says of Redis.
    async fn degraded(&self) -> Vec<bool> {
        let mut said = Vec::new();
        for (_, member) in self.sheet.running() {
            let scrape = self.get(&member.address, "/metrics").await;
            said.extend(scrape.map(|(_, text)| text.lines().any(|line| line == "baton_ha_degraded 1")));
        }
        said
    }

    /// Why who leads does not trade, by itself.
    async fn reason(&self) -> Option<String> {
        for (name, member) in self.sheet.running() {
            let Some((_, text)) = self.get(&member.address, "/leader").await else { continue };
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            let operational = &said["operational"];
            if said["role"] != "follower" {
                return Some(format!("{name} said: {}", operational["reason"].as_str().unwrap_or("nothing")));
            }
        }
        None
    }
}

/// Who took over, or that nobody did.
fn told(step: Step, new: Option<String>) -> Step {
    let step = step.check(new.is_some(), || "nobody took over".to_owned());
    let new = new.unwrap_or_default();
    step.saw(format!("{new} leads and trades")).figure("to", new)
}

fn healed_after(woken: Instant) -> String {
    format!("all is well {:.0} ms after it came back", ms(woken.elapsed()))
}
