//! Carries faults out and puts them right again.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fault::{Fault, Loss, Server, T};
use crate::support::proxy::Link;
use crate::support::{database, faketime};
use crate::world::World;

/// Something that is to be put right at a moment.
pub struct Wound {
    due: Instant,
    remedy: Remedy,
}

/// How it is put right.
#[derive(Clone, Copy, Debug)]
enum Remedy {
    Wake(usize),
    WakeAll,
    Revive,
    Link(usize, Server),
    Clock(usize),
    Redis,
    Postgres,
    Bridge,
}

/// How long a member may take over its orderly end, whatever else is wrong, and how long a roll waits for the next one.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
const READY_PATIENCE: Duration = Duration::from_secs(3);

/// One session of a member's, or the pin.
const END_SESSION: &str = "
SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT a.pid FROM pg_stat_activity a
     WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.application_name <> ''
       AND ($1 = (a.pid = (SELECT backend_pid FROM leadership)))
     ORDER BY random() LIMIT 1) s";

impl World {
    /// Has something happen; what lasts is put right later.
    pub async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(who, lasting) => {
                let index = self.index(who).await;
                self.cluster.members[index].process.kill().await;
                self.wound("kill -9", Remedy::Revive, lasting);
            }
            Fault::Stop(who, lasting) => {
                let index = self.index(who).await;
                self.cluster.members[index].process.signal(Signal::STOP);
                self.wound("SIGSTOP", Remedy::Wake(index), lasting);
            }
            Fault::Terminate(who) => {
                let index = self.index(who).await;
                self.cluster.members[index].process.signal(Signal::TERM);
                self.wound("SIGTERM", Remedy::Revive, T);
            }
            Fault::At(place, action, lasting) => {
                self.cluster.arm(place, action);
                let remedy = if action == "stop" { Remedy::WakeAll } else { Remedy::Revive };
                self.wound("fail point", remedy, lasting);
            }
            Fault::Link(who, server, link, lasting) => {
                let index = self.index(who).await;
                self.links[&(index, server)].set(link);
                self.wound("link", Remedy::Link(index, server), lasting);
            }
            Fault::Roll => {
                self.roll().await;
                self.count("rolling restart");
            }
            Fault::Clock(who, seconds, lasting) => {
                let index = self.index(who).await;
                if self.step_clock(index, seconds) {
                    self.wound("clock stepped", Remedy::Clock(index), lasting);
                } else {
                    self.count("no clock to step");
                }
            }
            Fault::KillRedis(lasting) => {
                self.cluster.stores.redis().kill().await.unwrap();
                self.wound("Redis killed", Remedy::Redis, lasting);
            }
            Fault::RestartRedis(lasting) => {
                self.cluster.stores.redis().stop().await.unwrap();
                self.wound("Redis restarted", Remedy::Redis, lasting);
            }
            Fault::StopRedis(lasting) => {
                self.cluster.stores.redis().pause();
                self.wound("Redis stopped", Remedy::Redis, lasting);
            }
            Fault::Lose(loss) => {
                self.lose(loss).await;
                self.count("Redis keys lost");
            }
            Fault::KillPostgres(lasting) => {
                self.cluster.stores.postgres().kill().await.unwrap();
                self.wound("PostgreSQL killed", Remedy::Postgres, lasting);
            }
            Fault::RestartPostgres(lasting) => {
                self.cluster.stores.postgres().stop().await.unwrap();
                self.wound("PostgreSQL restarted", Remedy::Postgres, lasting);
            }
            Fault::EndSession { pin } => {
                // Without a database there is no session to end.
                let _ = self.cluster.sql.query(END_SESSION, &[&pin]).await;
                self.count("session ended");
            }
            Fault::Bridge(rule, lasting) => {
                self.cluster.paper.fault(rule).await;
                self.wound("bridge", Remedy::Bridge, lasting);
            }
        }
    }

    /// Puts right whatever has lasted long enough.
    pub async fn heal_what_is_due(&mut self) {
        let now = Instant::now();
        let (due, rest) = std::mem::take(&mut self.wounds).into_iter().partition(|wound| wound.due <= now);
        self.wounds = rest;
        self.heal(due).await;
    }

    /// Puts everything right, armed fail points included.
    pub async fn heal_everything(&mut self) {
        self.cluster.disarm();
        let wounds = std::mem::take(&mut self.wounds);
        self.heal(wounds).await;
        for index in 0..self.members() {
            self.cluster.members[index].process.signal(Signal::CONT);
        }
        self.revive().await;
    }

    /// Starts the members that have ended, whatever ended them.
    pub async fn revive(&mut self) {
        if self.cluster.revive().await > 0 {
            self.publish();
        }
    }

    /// Replaces every member, one after the other; each is waited for only as long as a deployment in a hurry would.
    async fn roll(&mut self) {
        for index in 0..self.members() {
            let process = &mut self.cluster.members[index].process;
            // One that another fault has stopped could not act on it.
            process.signal(Signal::CONT);
            process.signal(Signal::TERM);
            process.exit(STOP_PATIENCE).await;
            self.revive().await;
            let ready = async {
                while !self.cluster.members[index].is_ready().await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            // Not ready in time: a store is away, or its link. A roll that goes on regardless is the worse one.
            let _ = tokio::time::timeout(READY_PATIENCE, ready).await;
        }
    }

    fn step_clock(&self, index: usize, seconds: i64) -> bool {
        if self.clocks {
            faketime::step(self.cluster.folder(), &self.cluster.members[index].name, seconds);
        }
        self.clocks
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn wound(&mut self, name: &'static str, remedy: Remedy, lasting: Duration) {
        self.count(name);
        self.wounds.push(Wound { due: Instant::now() + lasting, remedy });
    }

    async fn heal(&mut self, wounds: Vec<Wound>) {
        for Wound { remedy, .. } in wounds {
            match remedy {
                Remedy::Wake(index) => self.cluster.members[index].process.signal(Signal::CONT),
                Remedy::WakeAll => {
                    self.cluster.disarm();
                    for member in &mut self.cluster.members {
                        member.process.signal(Signal::CONT);
                    }
                }
                Remedy::Revive => self.revive().await,
                Remedy::Clock(index) => {
                    self.step_clock(index, 0);
                }
                Remedy::Link(index, server) => self.links[&(index, server)].set(Link::Open),
                Remedy::Redis => {
                    self.cluster.stores.redis().resume();
                    self.cluster.stores.redis().start().await.unwrap();
                }
                Remedy::Postgres => {
                    self.cluster.stores.postgres().start().await.unwrap();
                    self.cluster.sql = database::connect(&self.cluster.stores.database_url()).await;
                }
                Remedy::Bridge => self.cluster.paper.heal().await,
            }
        }
    }

    /// Takes keys from Redis; nothing to take when it is away.
    async fn lose(&self, loss: Loss) {
        let mut command = match loss {
            Loss::Everything => redis::cmd("FLUSHALL"),
            Loss::Lease => redis::cmd("DEL"),
            Loss::LeaseExpires => redis::cmd("PEXPIRE"),
            Loss::Epoch => redis::cmd("DEL"),
        };
        match loss {
            Loss::Everything => {}
            Loss::Lease => drop(command.arg("baton:{test}:leader")),
            Loss::LeaseExpires => drop(command.arg("baton:{test}:leader").arg(1)),
            Loss::Epoch => drop(command.arg("baton:{test}:epoch")),
        }
        let client = redis::Client::open(self.cluster.stores.redis_url()).unwrap();
        let work = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            command.query_async::<()>(&mut connection).await
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), work).await;
    }
}
