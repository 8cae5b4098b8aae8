//! What an instance is told: who it is, where its stores are, and how fast the protocol runs.

use std::fmt;
use std::time::Duration;

use tokio_postgres_rustls::MakeRustlsConnect;

use crate::ids::Member;

/// Everything [`Handle::join`](crate::Handle::join) needs.
#[derive(Clone)]
pub struct Config {
    /// The cluster's name: part of every Redis key, and written into the database by the first promotion.
    pub cluster: String,
    /// The place this process fills.
    pub member: Member,
    /// Shown to people.
    pub version: String,
    /// Orders versions: among equals the highest build becomes the next leader.
    pub build: i64,
    /// The base URL others reach this process under, e.g. `http://10.0.0.7:8080`.
    pub address: String,
    /// Lower stands sooner (each step is 25 ms); 0 never leads.
    pub priority: u8,
    /// The protocol's constants.
    pub timing: Timing,
    /// The primary, directly: not through a transaction pooler.
    pub postgres: tokio_postgres::Config,
    /// How the connection to PostgreSQL is protected.
    pub tls: PgTls,
    /// The way to Redis.
    pub redis: Redis,
    /// What happens to a process whose engine hangs.
    pub on_hang: OnHang,
}

/// The way to Redis.
#[derive(Clone, Default)]
pub struct Redis {
    /// `redis://` or `rediss://` (TLS). With sentinels it gives the servers' credentials, database and transport only;
    /// host and port are the sentinels' to say.
    pub url: String,
    /// Certificates in PEM that a TLS server's must be signed by; the system's if absent.
    pub ca: Option<Vec<u8>>,
    /// Whom to ask for the master.
    pub sentinel: Option<Sentinel>,
}

/// A set of sentinels.
#[derive(Clone)]
pub struct Sentinel {
    /// `redis://` or `rediss://`; credentials are taken from the first and used for all.
    pub urls: Vec<String>,
    /// The name that the sentinels watch the master under.
    pub master: String,
}

impl Redis {
    /// A single server.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca: None, sentinel: None }
    }
}

/// Transport security towards PostgreSQL.
#[derive(Clone, Default)]
pub enum PgTls {
    /// Plain text: a Unix socket or a trusted network.
    #[default]
    None,
    /// rustls, with the certificates and names the connector was built with.
    Rustls(MakeRustlsConnect),
}

/// What happens when the engine finished no loop iteration for a whole T while leading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnHang {
    /// The pin is closed and the process aborts: whatever hangs inside cannot act later.
    #[default]
    Abort,
    /// The pin is closed and the instance goes back to follower, status recovering.
    StepDown,
}

/// The protocol's constants. Obtain one with [`Timing::for_ttl`] and change fields if need be;
/// [`Timing::validate`] refuses relations that would make the proofs void.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// T: the life of the lease, and how long a heartbeat may be missing before its leader is deposed.
    pub ttl: Duration,
    /// How often the leader renews its lease and beats.
    pub renew: Duration,
    /// How long before T a leader stops sending.
    pub margin: Duration,
    /// How often a follower looks.
    pub watch: Duration,
}

/// A relation between the constants that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// Three renewals must fit before the deadline.
    #[error("renew × 3 = {} ms exceeds ttl − margin = {} ms: shorten `renew` or lengthen `ttl`", .renew_ms * 3, .room_ms)]
    RenewTooSlow {
        /// `renew` in milliseconds.
        renew_ms: u128,
        /// ttl − margin in milliseconds.
        room_ms: u128,
    },
    /// The margin covers scheduling and clock granularity.
    #[error("margin = {margin_ms} ms is below max(300 ms, ttl / 10) = {least_ms} ms: lengthen `margin`")]
    MarginTooSmall {
        /// `margin` in milliseconds.
        margin_ms: u128,
        /// The least allowed, in milliseconds.
        least_ms: u128,
    },
    /// At least five looks must fit into T.
    #[error("watch = {watch_ms} ms must lie between 5 ms and ttl / 10 = {most_ms} ms")]
    WatchOutOfRange {
        /// `watch` in milliseconds.
        watch_ms: u128,
        /// The most allowed, in milliseconds.
        most_ms: u128,
    },
    /// A zero interval would spin.
    #[error("renew must be at least 10 ms, it is {renew_ms} ms")]
    RenewTooFast {
        /// `renew` in milliseconds.
        renew_ms: u128,
    },
    /// An hour without failover helps nobody.
    #[error("ttl = {ttl_ms} ms exceeds 60 s: a leader that hangs would not be replaced for that long")]
    TtlTooLong {
        /// `ttl` in milliseconds.
        ttl_ms: u128,
    },
}

/// A configuration that cannot work, whatever the stores say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// The constants contradict each other.
    #[error("timing: {0}")]
    Timing(#[from] InvalidTiming),
    /// The cluster's name is part of Redis keys.
    #[error("cluster name {name:?} is not usable: take 1 to 64 letters, digits, dots, dashes or underscores")]
    Cluster {
        /// The name as it was given.
        name: String,
    },
}

impl fmt::Debug for PgTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Rustls(_) => "Rustls",
        })
    }
}

// === impl Config ===

impl Config {
    /// Checks what can be checked without the stores.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.timing.validate()?;
        let fits = (1..=64).contains(&self.cluster.len())
            && self.cluster.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits { Ok(()) } else { Err(InvalidConfig::Cluster { name: self.cluster.clone() }) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The Redis URL and the PostgreSQL configuration may hold passwords.
        f.debug_struct("Config")
            .field("cluster", &self.cluster)
            .field("member", &self.member)
            .field("version", &self.version)
            .field("address", &self.address)
            .field("priority", &self.priority)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

// === impl Timing ===

impl Timing {
    /// How long a handover's reservation holds others off.
    pub const RESERVATION: Duration = Duration::from_millis(500);
    /// The life of a candidate's lease.
    pub const CANDIDATE_TTL: Duration = Duration::from_secs(1);
    /// How long a candidate tries to take the pin.
    pub const PIN_PATIENCE: Duration = Duration::from_millis(300);
    /// One step of priority.
    pub const PRIORITY_STEP: Duration = Duration::from_millis(25);
    /// The random part of a candidate's delay.
    pub const JITTER: Duration = Duration::from_millis(50);
    /// The longest hold-down after an involuntary loss.
    pub const LONGEST_HOLD_DOWN: Duration = Duration::from_secs(60);

    /// The usual relations: renew and heartbeat every T/6, margin max(300 ms, T/10), a look every 50 ms.
    pub fn for_ttl(ttl: Duration) -> Self {
        Self {
            ttl,
            renew: ttl / 6,
            margin: (ttl / 10).max(Duration::from_millis(300)),
            watch: Duration::from_millis(50),
        }
    }

    /// Refuses constants that contradict each other.
    pub fn validate(&self) -> Result<(), InvalidTiming> {
        let least = (self.ttl / 10).max(Duration::from_millis(300));
        if self.margin < least {
            let (margin_ms, least_ms) = (self.margin.as_millis(), least.as_millis());
            return Err(InvalidTiming::MarginTooSmall { margin_ms, least_ms });
        }
        let room = self.ttl.saturating_sub(self.margin);
        if self.renew.saturating_mul(3) > room {
            let (renew_ms, room_ms) = (self.renew.as_millis(), room.as_millis());
            return Err(InvalidTiming::RenewTooSlow { renew_ms, room_ms });
        }
        if self.renew < Duration::from_millis(10) {
            return Err(InvalidTiming::RenewTooFast { renew_ms: self.renew.as_millis() });
        }
        if self.watch < Duration::from_millis(5) || self.watch > self.ttl / 10 {
            let (watch_ms, most_ms) = (self.watch.as_millis(), (self.ttl / 10).as_millis());
            return Err(InvalidTiming::WatchOutOfRange { watch_ms, most_ms });
        }
        if self.ttl > Duration::from_secs(60) {
            return Err(InvalidTiming::TtlTooLong { ttl_ms: self.ttl.as_millis() });
        }
        Ok(())
    }

    /// How old the engine's last beat may be for the leader to go on renewing: T/3.
    pub fn pulse_window(&self) -> Duration {
        self.ttl / 3
    }

    /// How long a statement on the pinned session may wait for a row lock: T/6.
    pub fn lock_timeout(&self) -> Duration {
        self.ttl / 6
    }

    /// How long a session may sit inside a transaction: T/2.
    pub fn idle_in_transaction(&self) -> Duration {
        self.ttl / 2
    }

    /// How long an answer of Redis is waited for: T/12, within 50 to 250 ms.
    pub fn redis_timeout(&self) -> Duration {
        (self.ttl / 12).clamp(Duration::from_millis(50), Duration::from_millis(250))
    }

    /// How long a successor may take to acknowledge an offer: T/3, at most a second.
    pub fn acknowledgement(&self) -> Duration {
        (self.ttl / 3).min(Duration::from_secs(1))
    }

    /// The span from the start of a heartbeat to the deadline it buys.
    pub fn validity(&self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }
}

impl Default for Timing {
    /// T = 3 s.
    fn default() -> Self {
        Self::for_ttl(Duration::from_secs(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        Timing::default().validate().unwrap();
        assert_eq!(Timing::default().renew, Duration::from_millis(500));
        assert_eq!(Timing::default().margin, Duration::from_millis(300));
        Timing::for_ttl(Duration::from_secs(1)).validate().unwrap();
        Timing::for_ttl(Duration::from_millis(600)).validate().unwrap();
    }

    #[test]
    fn broken_relations_are_refused() {
        let good = Timing::default();
        let slow = Timing { renew: Duration::from_secs(1), ..good };
        assert!(matches!(slow.validate(), Err(InvalidTiming::RenewTooSlow { .. })));
        let thin = Timing { margin: Duration::from_millis(299), ..good };
        assert!(matches!(thin.validate(), Err(InvalidTiming::MarginTooSmall { .. })));
        let thin = Timing { margin: Duration::from_millis(900), ttl: Duration::from_secs(10), ..good };
        assert!(matches!(thin.validate(), Err(InvalidTiming::MarginTooSmall { .. })));
        let short = Timing::for_ttl(Duration::from_millis(500));
        assert!(matches!(short.validate(), Err(InvalidTiming::RenewTooSlow { .. })));
        let blind = Timing { watch: Duration::from_millis(301), ..good };
        assert!(matches!(blind.validate(), Err(InvalidTiming::WatchOutOfRange { .. })));
        let spin = Timing { renew: Duration::ZERO, ..good };
        assert!(matches!(spin.validate(), Err(InvalidTiming::RenewTooFast { .. })));
        let long = Timing::for_ttl(Duration::from_secs(61));
        assert!(matches!(long.validate(), Err(InvalidTiming::TtlTooLong { .. })));
    }

    #[test]
    fn the_message_says_what_to_change() {
        let slow = Timing { renew: Duration::from_secs(1), ..Timing::default() };
        let message = slow.validate().unwrap_err().to_string();
        assert_eq!(
            message,
            "renew × 3 = 3000 ms exceeds ttl − margin = 2700 ms: shorten `renew` or lengthen `ttl`"
        );
    }
}
