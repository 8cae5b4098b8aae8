//! A cluster that does nothing but trade: every commit synced, no limit in the way, and the relay before its bridge.

use serde_json::Value;

use crate::relay::Relay;
use crate::shared::processors::Spent;
use crate::signals::{base, exit};
use crate::support::cluster::{Cluster, Options, independent};

/// What every instrument costs.
pub const PRICE: i64 = 1000;

/// The cluster with its relay.
pub struct Desk {
    pub cluster: Cluster,
    pub relay: Relay,
}

/// An instrument that is bought and sold in turn.
pub struct Lane {
    name: String,
    symbol: String,
    signals: usize,
}

// === impl Desk ===

impl Desk {
    /// Three members with the program's own timing and no fail points, which trade so many instruments.
    pub async fn start(instruments: usize) -> Self {
        let mut env = independent();
        for (key, value) in [
            ("BATON_TIMING__LEASE_TTL_MS", "3000"),
            ("BATON_TRADING__AGE__REJECT_S", "600"),
            ("BATON_TRADING__GATES__BASE_RISK_PERCENT", "100"),
            ("BATON_TRADING__GATES__BASE_VOLATILITY_PERCENT", "100"),
            ("RUST_LOG", "warn"),
        ] {
            env.push((key, value.to_owned()));
        }
        let instruments = (0..instruments).map(|number| Lane::new(number).name).collect();
        let options = Options { env, instruments, synced: true, ..Options::default() };
        let mut relay = None;
        let cluster = Cluster::wired(options, async |launch| {
            launch.env.remove("BATON_FAIL_POINT_FILE");
            if relay.is_none() {
                relay = Some(Relay::before(launch).await);
            }
            relay.as_ref().expect("it was made").lead(launch);
        })
        .await;
        Self { cluster, relay: relay.expect("a cluster has members") }
    }

    /// The time of the processors so far, by whose work they did.
    pub fn spent(&self, leader: usize) -> Spent {
        let leader = self.cluster.members[leader].process.id();
        let members: Vec<u32> = self.cluster.members.iter().map(|member| member.process.id()).collect();
        Spent::so_far(|pid, program| {
            let name = match program {
                _ if pid == std::process::id() => "senders and relay",
                _ if pid == leader => "leader",
                _ if members.contains(&pid) => "followers",
                "baton" => "bridge",
                other => other,
            };
            name.to_owned()
        })
    }

    /// When the order of a lane's last signal came by.
    pub async fn ordered(&self, lane: &Lane) -> std::time::Instant {
        self.relay.passed(&lane.symbol, lane.signals - 1).await
    }
}

// === impl Lane ===

impl Lane {
    pub fn new(number: usize) -> Self {
        let name = format!("ORD{number}");
        Self { symbol: format!("{name}FUT"), name, signals: 0 }
    }

    /// The next signal: in, out, in, out.
    pub fn signal(&mut self) -> Value {
        self.signals += 1;
        let id = format!("{}-{}", self.name, self.signals);
        if self.enters() { base(&id, &self.name, PRICE) } else { exit(&id, &self.name, "ALL", PRICE) }
    }

    /// One more entry, whatever is held.
    pub fn entry(&mut self) -> Value {
        self.signals += 1;
        base(&format!("{}-{}", self.name, self.signals), &self.name, PRICE)
    }

    /// The last signal was to buy.
    pub fn enters(&self) -> bool {
        self.signals % 2 == 1
    }
}
