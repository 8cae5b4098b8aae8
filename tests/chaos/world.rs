//! The cluster under test, with a proxy on every link, and what is wrong with it at the moment.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use baton::mutant::Mutant;

use crate::disturb::Wound;
use crate::fault::{Server, Who};
use crate::setting;
use crate::support::checker::{Check, SETTLE};
use crate::support::cluster::independent;
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::faketime;
use crate::support::proxy::Proxy;
use crate::support::seed::Seed;
use crate::support::wait::spread;
use crate::traffic::{Addresses, INSTRUMENTS, Traffic, instrument};

/// How long a time of calm may take to come to rest where stops rest at the broker: a few exits of 20 s each, one behind the
/// other on an instrument.
const SETTLE_RESTING: Duration = Duration::from_secs(120);

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Members of each cluster.
    pub members: usize,
    /// Stops rest at the broker.
    pub resting: bool,
    /// A guard that the members lack.
    pub mutant: Option<Mutant>,
}

/// The cluster, its links and its senders.
pub struct World {
    pub(super) cluster: Cluster,
    pub(super) links: BTreeMap<(usize, Server), Proxy>,
    pub(super) wounds: Vec<Wound>,
    /// Faults by name.
    pub(super) counts: BTreeMap<&'static str, usize>,
    /// Each member has a wall clock of its own.
    pub(super) clocks: bool,
    addresses: Addresses,
    stretch: usize,
    senders: Seed,
    traffic: Option<Traffic>,
    delivered: usize,
    leaderless: Vec<Duration>,
    resting: bool,
}

/// How a time of calm went.
pub struct Calm {
    leader_after: Duration,
    check: Check,
}

// === impl World ===

impl World {
    /// Starts everything, the senders too.
    pub async fn start(trial: Trial, seed: &mut Seed) -> Self {
        let Trial { members, resting, mutant } = trial;
        let mut env = independent();
        // Stepped clocks make signals an hour old, or an hour early; that they trade is what makes trouble.
        env.push(("BATON_TRADING__AGE__REJECT_S", "7200".to_owned()));
        env.push(("BATON_TRADING__SIGNALS__MAX_FUTURE_S", "3600".to_owned()));
        // Orders that rest are cancelled amid all of it.
        env.push(("BATON_TRADING__ORDERS__ENTRY_PATIENCE_MS", "4000".to_owned()));
        env.push(("BATON_TRADING__ORDERS__EXIT_PATIENCE_MS", "2000".to_owned()));
        env.extend(mutant.map(|mutant| ("BATON_MUTANT", format!("{mutant:?}"))));
        if resting {
            env.push(("BATON_TRADING__STOPS__RESTING", "on".to_owned()));
        }
        if setting("BATON_CHAOS_PLANS", 0) > 0 {
            // Bids below the market, so that each ends by a cancel and is followed by an order for all of it.
            for instrument in ["CHAOS0", "CHAOS1", "CHAOS2", "CHAOS3"] {
                env.push((format!("BATON_INSTRUMENTS__{instrument}__EXECUTION").leak(), "limit".to_owned()));
            }
            env.push(("BATON_TRADING__EXECUTION__LIMIT_OFFSET_PERCENT", "-0.5".to_owned()));
            env.push(("BATON_TRADING__EXECUTION__LIMIT_TIMEOUT_MS", "500".to_owned()));
            env.push(("BATON_TRADING__EXECUTION__REMAINDER", "market".to_owned()));
        }
        let instruments = (0..INSTRUMENTS).map(instrument).collect();
        let mut links = BTreeMap::new();
        let mut number = 0;
        let library = faketime::library();
        let options = Options { members, env, instruments, witnessed: true, ..Options::default() };
        let cluster = Cluster::wired(options, async |launch| {
            for (key, server) in [
                ("BATON_POSTGRES__URL", Server::Postgres),
                ("BATON_REDIS__URL", Server::Redis),
                ("BATON_BROKER__URL", Server::Bridge),
            ] {
                links.insert((number, server), Proxy::before(launch, key).await);
            }
            number += 1;
            if let Some(library) = &library {
                faketime::preload(launch, library);
            }
        })
        .await;
        let mut world = Self {
            cluster,
            links,
            wounds: Vec::new(),
            counts: BTreeMap::new(),
            clocks: library.is_some(),
            addresses: Addresses::default(),
            stretch: 0,
            senders: seed.fork(),
            traffic: None,
            delivered: 0,
            leaderless: Vec::new(),
            resting,
        };
        world.publish();
        world.send();
        world
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.cluster.members.len()
    }

    /// The index of a member.
    pub(super) async fn index(&mut self, who: Who) -> usize {
        match who {
            Who::Member(index) => index,
            Who::Leader => {
                let holder = self.cluster.sql.query_one("SELECT holder_member FROM leadership", &[]).await;
                // While the database is away nobody knows.
                let name = holder.ok().and_then(|row| row.get::<_, Option<String>>(0));
                let place = |name: String| self.cluster.members.iter().position(|m| m.name == name);
                name.and_then(place).unwrap_or(0)
            }
        }
    }

    /// Has the senders begin another stretch.
    fn send(&mut self) {
        self.stretch += 1;
        let client = &self.cluster.client;
        let (addresses, resting) = (&self.addresses, self.resting);
        self.traffic = Some(Traffic::start(client, addresses, self.stretch, resting, &mut self.senders));
    }

    /// Tells the senders where the members are.
    pub(super) fn publish(&self) {
        let addresses = self.cluster.members.iter().map(|member| member.address.clone());
        *self.addresses.lock().unwrap() = addresses.collect();
    }

    /// Puts everything right, waits for a leader and for rest, and compares the ledger with the bridge.
    pub async fn calm(&mut self) -> Calm {
        self.heal_everything().await;
        let healed = Instant::now();
        self.leads().await;
        let leader_after = healed.elapsed();
        self.leaderless.push(leader_after);
        if let Some(traffic) = self.traffic.take() {
            let stopped = tokio::time::timeout(PATIENCE, traffic.stop()).await;
            self.delivered += stopped.unwrap_or_else(|_| {
                panic!("what a sender has begun is accepted by somebody: {:?}", self.cluster.logs())
            });
        }
        let check = self.cluster.check_within(if self.resting { SETTLE_RESTING } else { SETTLE }).await;
        assert_eq!(check.signals, self.delivered, "every accepted signal is kept, once");
        assert_eq!(check.open_positions, 0, "whatever was entered was left again");
        self.send();
        Calm { leader_after, check }
    }

    /// Waits until a member leads and trades; members that ended themselves are started again.
    async fn leads(&mut self) {
        let begun = Instant::now();
        loop {
            self.revive().await;
            for member in &self.cluster.members {
                if member.trades().await {
                    return;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "L2: nobody leads: {:?}", self.cluster.logs());
        }
    }

    /// The last calm, then the end of every process; gives the summary.
    pub async fn finish(mut self) -> String {
        let calm = self.calm().await;
        drop(self.traffic.take());
        let (median, p95, max) = spread(&mut self.leaderless);
        let faults: usize = self.counts.values().sum();
        let refused = self.refused().await;
        let cancelled = self.cancelled().await;
        format!(
            "{faults} faults {:?}\nafter the last of a stretch a member traded within {median:?} (median), {p95:?} (p95), \
             {max:?} (max)\n{calm}\nrefused: {refused}\ncancelled: {cancelled}",
            self.counts
        )
    }

    /// How long it took from a cancel until the books proved it.
    async fn cancelled(&self) -> String {
        let sql = "SELECT format('%s, proven after %s s (median), %s s (max)', count(*),
            round(percentile_cont(0.5) WITHIN GROUP (ORDER BY took)::numeric, 1), round(max(took)::numeric, 1))
            FROM (SELECT extract(epoch FROM o.state_at - c.journaled_at)::float8 AS took
                FROM order_cancel c JOIN order_intent o ON o.id = c.intent_id WHERE c.state = 'applied') t";
        self.cluster.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How many signals came to nothing, by the reasons given: chaos in which little trades proves little.
    async fn refused(&self) -> String {
        let sql = "SELECT coalesce(string_agg(format('%s %s', code, number), ', ' ORDER BY number DESC), 'none') FROM (
            SELECT type || ' ' || coalesce(reasons -> 0 ->> 'code', '-') AS code, count(*) AS number
            FROM signal WHERE status = 'refused' GROUP BY 1) r";
        self.cluster.sql.query_one(sql, &[]).await.unwrap().get(0)
    }
}

impl Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { signals, intents, orders, arrivals, epochs, states, .. } = &self.check;
        write!(
            f,
            "trading after {:?}; {signals} signals, {intents} intents {states:?}, {orders} orders of {arrivals} \
             requests, {epochs} epochs: 0 violations",
            self.leader_after
        )
    }
}
