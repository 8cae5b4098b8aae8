//! The sections about the process itself: `[operator]`, `[log]`, `[recovery]` and `[shutdown]`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;

/// The header in which a caller says who acts; kept with what is changed.
pub const OPERATOR_HEADER: &str = "x-baton-operator";

/// Who may change things through the HTTP interface.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The bearer token; without one only loopback is let in.
    pub token: Option<SecretString>,
}

impl Operator {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { token: reader.secret("operator.token") }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives such as `info,baton::broker=debug`; `RUST_LOG` overrides it.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let allowed = "error, warn, info, debug, trace, or directives such as \"info,baton::broker=debug\"";
        let level = reader.text("log.level", Some("info"), allowed, crate::telemetry::log::is_filter);
        let names = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let format = reader.choice("log.format", LogFormat::Text, &names);
        Self { level: level.unwrap_or_default(), format }
    }
}

/// An operator's close without the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// The local journal: written by `baton emergency-close`, imported by the instance of the same file.
    pub journal: PathBuf,
}

impl Emergency {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = Some("baton-emergency.jsonl");
        let journal = reader.text("emergency.journal", default, "a file's path", |text| !text.is_empty());
        Self { journal: journal.unwrap_or_default().into() }
    }
}

/// Retries of crash recovery on database faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Attempts before recovery is given up as `DB_UNAVAILABLE`.
    pub attempts: u32,
    /// The wait after the first failed attempt; doubled each time.
    pub backoff: Duration,
    /// Between two comparisons with the broker's position book while leading.
    pub reconcile: Duration,
    /// How long a difference must last before it counts: brokers cache their books.
    pub drift_settle: Duration,
}

impl Recovery {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let attempts = reader.whole("recovery.attempts", 3, 1..=100, "attempts") as u32;
        let backoff = reader.millis("recovery.backoff_ms", 1000, 1..=600_000);
        let reconcile = reader.millis("recovery.reconcile_ms", 60_000, 100..=3_600_000);
        let drift_settle = reader.millis("recovery.drift_settle_ms", 2000, 100..=600_000);
        Self { attempts, backoff, reconcile, drift_settle }
    }
}

/// A clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// What all its steps may take together.
    pub budget: Duration,
    /// What happens to positions when nobody takes over.
    pub exit_policy: ExitPolicy,
    /// What reading back and cancelling resting entries may take.
    pub cancel: Duration,
    /// What closing positions may take.
    pub close: Duration,
    /// What storing the last state may take.
    pub save: Duration,
    /// What recording and delivering the last notifications may take, beside saving and disconnecting.
    pub notify: Duration,
    /// What ending open requests may take.
    pub disconnect: Duration,
}

/// What the last instance does with positions when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitPolicy {
    /// Cancel entries, close positions.
    Flatten,
    /// Cancel entries, leave positions and their stops.
    Hold,
}

impl ExitPolicy {
    /// The stable name: `flatten` or `hold`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flatten => "flatten",
            Self::Hold => "hold",
        }
    }
}

/// By the predecessor's name. Its other value was to close by limit orders, which may leave a position behind.
const MARKET_ORDERS: &str = "shutdown.shutdown_force_market_orders";

impl Shutdown {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let budget = reader.millis("shutdown.budget_ms", 9000, 1000..=300_000);
        // The same by the predecessor's name, in its unit.
        let whole = (budget.subsec_millis() == 0).then_some(budget.as_secs());
        let timeout = reader.optional_whole("shutdown.shutdown_timeout", whole, 1..=300, "s");
        let timeout = timeout.map(Duration::from_secs);
        let keys = ["shutdown.budget_ms", "shutdown.shutdown_timeout"];
        let other = timeout.filter(|timeout| reader.is_set(keys[0]) && *timeout != budget);
        if let Some(other) = other.filter(|_| reader.sound(&keys)) {
            let found = format!("{} s beside shutdown.budget_ms = {}", other.as_secs(), budget.as_millis());
            reader.invalid(keys[1], found, "the same time, or one of them alone");
        }
        let budget = timeout.unwrap_or(budget);
        let policies = [("flatten", ExitPolicy::Flatten), ("hold", ExitPolicy::Hold)];
        let exit_policy = reader.choice("shutdown.exit_policy", ExitPolicy::Flatten, &policies);
        let cancel = reader.millis("shutdown.cancel_ms", 2000, 100..=60_000);
        let close = reader.millis("shutdown.close_ms", 3000, 100..=60_000);
        if !reader.flag(MARKET_ORDERS, true) {
            reader.refused(
                MARKET_ORDERS,
                "positions are closed by market orders and no others; to leave them as they are set shutdown.exit_policy = \
                 \"hold\"",
            );
        }
        let save = reader.millis("shutdown.save_ms", 1000, 100..=60_000);
        let notify = reader.millis("shutdown.notify_ms", 2000, 100..=60_000);
        let disconnect = reader.millis("shutdown.disconnect_ms", 1000, 100..=60_000);
        Self { budget, exit_policy, cancel, close, save, notify, disconnect }
    }
}
