//! What can be notified: named kinds only, each with its severity and its key. Log lines never are.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::domain::order::{UnknownName, named};

/// How bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something works less well.
    Warning,
    /// Something does not work.
    Error,
    /// Somebody has to act; goes out at once.
    Critical,
}
named!(Severity { Info = "info", Warning = "warning", Error = "error", Critical = "critical" });

/// What kind of trouble, or news. A kind has one severity, so a key cannot be throttled under one and slip out under
/// another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// The checks at the start did not pass in their retries.
    StartupError,
    /// The price feed is not usable.
    WebsocketError,
    /// The bridge or its key is not usable.
    BrokerError,
    /// The broker's session has ended; somebody has to log in before the market opens.
    BrokerSession,
    /// PostgreSQL is away.
    DatabaseError,
    /// Redis is away: leadership goes on without the lease.
    RedisDegraded,
    /// An instance's clock or disk is not as it should be.
    HostError,
    /// An instance is in ERROR; the scope is the code.
    OperationalError,
    /// An instance has been waiting for long.
    StillWaiting,
    /// A leader was replaced against its will.
    Failover,
    /// Leadership was lost too often against its holders' will: reduce-only is set until an operator has looked.
    Flapping,
    /// A leader handed over.
    Handover,
    /// An instance started.
    Started,
    /// An instance stopped in order.
    Stopped,
    /// The last instance stopped and left positions behind against the exit policy; the scope is the member.
    PositionsUnwatched,
    /// An order's outcome is not known; the scope is the intent.
    OrderInDoubt,
    /// An order in doubt was given up; the scope is the intent.
    OrderAbandoned,
    /// An order left the broker's books and nobody saw its end; the scope is the intent.
    OrderEndUnseen,
    /// An order at the broker that is not ours; the scope is its id.
    ForeignOrder,
    /// The broker's verified position book and the ledger differ; the scope is the contract.
    PositionDrift,
    /// Stored state is damaged, and this position's stop does not fire; the scope is the position.
    StopNotWatched,
    /// The record of what was decided was changed by somebody else.
    AuditBroken,
    /// A position has no stop at the broker though it should; the scope is the position.
    StopNotResting,
    /// A position that is meant to be gone does not get flat; the scope is the position.
    ExitNotFlat,
    /// An intraday position is not sold shortly before the broker closes it itself; the scope is the position.
    SquareOffLate,
    /// The contract of a held position nears its end; the scope is the position.
    ContractExpiring,
    /// A limit of the account is latched for the rest of the day; the scope is its code.
    LimitHit,
    /// A sender sent more than its quota, and signals that were no exits were turned away; the scope is its address.
    SignalsOverQuota,
    /// A channel could not deliver; the scope is the channel.
    NotificationFailed,
}
named!(Kind {
    StartupError = "STARTUP_ERROR",
    WebsocketError = "WEBSOCKET_ERROR",
    BrokerError = "BROKER_ERROR",
    BrokerSession = "BROKER_SESSION",
    DatabaseError = "DATABASE_ERROR",
    RedisDegraded = "REDIS_DEGRADED",
    HostError = "HOST_ERROR",
    OperationalError = "OPERATIONAL_ERROR",
    StillWaiting = "STILL_WAITING",
    Failover = "FAILOVER",
    Flapping = "FLAPPING",
    Handover = "HANDOVER",
    Started = "STARTED",
    Stopped = "STOPPED",
    PositionsUnwatched = "POSITIONS_UNWATCHED",
    OrderInDoubt = "ORDER_IN_DOUBT",
    OrderAbandoned = "ORDER_ABANDONED",
    OrderEndUnseen = "ORDER_END_UNSEEN",
    ForeignOrder = "FOREIGN_ORDER",
    PositionDrift = "POSITION_DRIFT",
    StopNotWatched = "STOP_NOT_WATCHED",
    AuditBroken = "AUDIT_BROKEN",
    StopNotResting = "STOP_NOT_RESTING",
    ExitNotFlat = "EXIT_NOT_FLAT",
    SquareOffLate = "SQUARE_OFF_LATE",
    ContractExpiring = "CONTRACT_EXPIRING",
    LimitHit = "LIMIT_HIT",
    SignalsOverQuota = "SIGNALS_OVER_QUOTA",
    NotificationFailed = "NOTIFICATION_FAILED",
});

/// How long a kind of trouble lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// It happened, and that is all.
    Moment,
    /// It holds for each instance that says so, until each of them takes it back.
    PerInstance,
    /// It holds in the ledger: whoever sees its end ends it for all.
    InLedger,
}

impl Kind {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::OperationalError
            | Self::BrokerSession
            | Self::OrderAbandoned
            | Self::OrderEndUnseen
            | Self::PositionDrift
            | Self::PositionsUnwatched
            | Self::StopNotWatched
            | Self::AuditBroken
            | Self::ExitNotFlat
            | Self::SquareOffLate
            | Self::Flapping => Severity::Critical,
            Self::StartupError
            | Self::WebsocketError
            | Self::BrokerError
            | Self::DatabaseError
            | Self::OrderInDoubt
            | Self::StopNotResting
            | Self::LimitHit
            | Self::SignalsOverQuota
            | Self::NotificationFailed => Severity::Error,
            Self::RedisDegraded
            | Self::HostError
            | Self::StillWaiting
            | Self::Failover
            | Self::ContractExpiring
            | Self::ForeignOrder => Severity::Warning,
            Self::Handover | Self::Started | Self::Stopped => Severity::Info,
        }
    }

    /// How long it lasts.
    pub fn life(self) -> Life {
        match self {
            Self::StartupError
            | Self::WebsocketError
            | Self::BrokerError
            | Self::BrokerSession
            | Self::DatabaseError
            | Self::RedisDegraded
            | Self::HostError
            | Self::OperationalError => Life::PerInstance,
            Self::OrderInDoubt
            | Self::PositionDrift
            | Self::StopNotResting
            | Self::ExitNotFlat
            | Self::SquareOffLate
            | Self::LimitHit => Life::InLedger,
            Self::StillWaiting
            | Self::Failover
            | Self::Flapping
            | Self::Handover
            | Self::Started
            | Self::Stopped
            | Self::PositionsUnwatched
            | Self::OrderAbandoned
            | Self::OrderEndUnseen
            | Self::ForeignOrder
            | Self::StopNotWatched
            | Self::AuditBroken
            | Self::ContractExpiring
            | Self::SignalsOverQuota
            | Self::NotificationFailed => Life::Moment,
        }
    }
}

/// What is counted and throttled together: never the text, which varies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// What it is about; empty for what concerns a whole instance or cluster.
    pub scope: String,
}

impl Key {
    /// A key.
    pub fn new(kind: Kind, scope: impl Into<String>) -> Self {
        Self { kind, scope: scope.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope.as_str() {
            "" => write!(f, "{}", self.kind),
            scope => write!(f, "{} {scope}", self.kind),
        }
    }
}

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What it counts as.
    pub key: Key,
    /// One sentence, with what to do if there is something to do.
    pub message: String,
}

impl Event {
    /// An event that concerns a whole instance or cluster.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { key: Key::new(kind, ""), message: message.into() }
    }

    /// An event about one thing.
    pub fn about(kind: Kind, scope: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: Key::new(kind, scope), message: message.into() }
    }
}
