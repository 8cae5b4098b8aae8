//! Every metric of the process, each declared once: the doc comment of a field is the help text that a scrape shows.
//!
//! One [`Metrics`] is made at the start and passed down as an `Arc`; it owns its registry, so tests make their own.
//! Every series with known labels exists from the start with 0: an alert on a rate must see the first increase, and
//! a dashboard must tell "nothing happened" from "nobody is there". No ids as labels: their number has no bound.

mod series;

use chrono::Utc;
use prometheus::{Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use prometheus::{Gauge, GaugeVec, Registry, TextEncoder};

use crate::domain::limits;
use crate::domain::order::{IntentState, OrderClass};
use crate::failpoint;
use crate::health::checks::Check;
use crate::notify::event::Kind;
use series::{Series, Spec};

/// Why a scrape could not be answered.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode the metrics; this is a fault of the program, report it with the cause")]
pub struct EncodeError(#[from] prometheus::Error);

/// Declares the struct, its registration and its help texts in one go.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $name:literal
        $({$($label:literal in $values:expr),+})? $(buckets $buckets:expr)?;)+) => {
        /// The process's metrics. Fields are `prometheus` handles: cheap to use, safe to share.
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        impl Metrics {
            /// Makes and registers every series, at 0.
            pub fn new() -> Self {
                let registry = Registry::new();
                let metrics = Self {
                    $($field: <$kind>::register(&registry, Spec {
                        name: $name,
                        help: concat!($($help),+).trim(),
                        labels: &[$($(($label, &$values)),+)?],
                        buckets: &[$(&$buckets)?],
                    }),)+
                    registry,
                };
                metrics.build_info.with_label_values(&[failpoint::version()]).set(1);
                metrics.set_operational_state("STARTING");
                metrics
            }
        }
    };
}

/// Operational states, as `operational_state` labels them.
pub const OPERATIONAL_STATES: [&str; 5] = ["STARTING", "WAITING", "ACTIVE", "ERROR", "SHUTDOWN"];
/// Signal types, as `signals` labels them; `OTHER` is what could not be read.
pub const SIGNAL_TYPES: [&str; 6] = ["BASE_ENTRY", "PYRAMID", "EXIT", "MARKET_DATA", "EOD_MONITOR", "OTHER"];
/// What became of a signal: the first three at the webhook, the others in the engine.
pub const SIGNAL_OUTCOMES: [&str; 8] =
    ["accepted", "repeated", "refused", "over_quota", "acted", "dropped_stale", "rejected", "failed"];
/// Steps of an order's way, as `order_latency` labels them.
pub const ORDER_STAGES: [&str; 5] = ["decide", "journal", "send", "fill", "total"];

/// Where prices come from, as `price_source` labels them.
pub const PRICE_SOURCES: [&str; 4] = ["live", "rest", "cache", "none"];

/// Failover from tens of milliseconds (a crash) to several T (a partition).
const FAILOVER_SECONDS: [f64; 14] =
    [0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 15.0, 60.0];
/// Calls and commits from half a millisecond to the longest time-out.
const CALL_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Signal ages around the policy's tiers of 10, 30 and 60 s.
const AGE_SECONDS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

metrics! {
    /// Always 1; the label tells the version that runs.
    build_info: IntGaugeVec = "baton_build_info" {"version" in [failpoint::version()]};
    /// Always 1; the label is equal for members that run with the same settings (secrets apart).
    config_info: IntGaugeVec = "baton_config_info" {"fingerprint" in []};
    /// The wall clock of this instance at the scrape, in seconds since 1970: how wrong it is shows against Prometheus's.
    clock_timestamp: Gauge = "baton_clock_timestamp_seconds";

    /// 1 while this instance holds the baton, else 0.
    leader: IntGauge = "baton_leader";
    /// The highest epoch this instance has seen.
    leader_epoch: IntGauge = "baton_leader_epoch";
    /// Times this instance became leader, by why the place was free.
    leader_transitions: IntCounterVec = "baton_leader_transitions_total"
        {"reason" in ["first_start", "vacant", "crash", "stale", "handover"]};
    /// Times this instance lost leadership against its will.
    leader_losses: IntCounter = "baton_leader_losses_total";
    /// Seconds without a leader before this instance took over, on its own clock.
    failover_duration: Histogram = "baton_failover_duration_seconds" buckets FAILOVER_SECONDS;
    /// Seconds until this leader's deadline; 0 when it does not lead.
    lease_remaining: Gauge = "baton_lease_remaining_seconds";
    /// Writes that the fence refused because of a newer epoch.
    fenced_writes: IntCounter = "baton_fenced_writes_total";
    /// 1 while Redis is away and only PostgreSQL arbitrates, else 0.
    ha_degraded: IntGauge = "baton_ha_degraded";
    /// Instances that this one sees, by status.
    instances: IntGaugeVec = "baton_instances" {"status" in ["recovering", "active", "draining"]};

    /// Seconds that crash recovery took, each attempt together.
    recovery_duration: Histogram = "baton_recovery_duration_seconds" buckets CALL_SECONDS;
    /// Crash recoveries, by how they ended.
    recovery: IntCounterVec = "baton_recovery_total" {"outcome" in ["success", "failure"]};
    /// Failed crash recoveries, and starts that found no database to recover from, by code.
    recovery_failures: IntCounterVec = "baton_recovery_failures_total"
        {"code" in ["DB_UNAVAILABLE", "DATA_CORRUPT", "VALIDATION_FAILED"]};
    /// Open positions that the last crash recovery restored.
    recovered_positions: IntGauge = "baton_recovered_positions";

    /// Contracts of which the ledger and the broker's verified position book hold different quantities; 0 on who does not lead.
    position_drift: IntGauge = "baton_position_drift";
    /// Unix time of the last comparison with the broker's position book that could be made; 0 before the first.
    reconcile_last_success: Gauge = "baton_reconcile_last_success_timestamp_seconds";

    /// Signals, by type and by what became of them.
    signals: IntCounterVec = "baton_signals_total" {"type" in SIGNAL_TYPES, "outcome" in SIGNAL_OUTCOMES};
    /// Seconds between a signal's timestamp and the engine's decision on it.
    signal_age: Histogram = "baton_signal_age_seconds" buckets AGE_SECONDS;
    /// Since when the longest waiting EXIT is in its lane at this leader, in seconds since 1970; 0 while none waits, and on an
    /// instance that does not lead.
    exit_waiting_since: Gauge = "baton_exit_waiting_since_timestamp_seconds";
    /// Order intents that reached a state, by that state.
    orders: IntCounterVec = "baton_orders_total" {"outcome" in intent_states()};
    /// Orders that rested at the broker for longer than their patience and were cancelled for it, by class.
    orders_overdue: IntCounterVec = "baton_orders_overdue_total" {"class" in order_classes()};
    /// What happened to entries that are worked: a bid raised, cancelled because its time was over or because nobody wanted it
    /// any more; what was left then ordered once more, or left.
    bids: IntCounterVec = "baton_entry_bids_total"
        {"event" in ["raised", "timed_out", "called_off", "rest_ordered", "rest_left"]};
    /// Seconds of an order's way: decide (signal stored to decision), journal (the fenced commit), send (first byte
    /// to answer), fill (answer to last fill, as soon as that is known), total (signal stored to answer).
    order_latency: HistogramVec = "baton_order_latency_seconds" {"stage" in ORDER_STAGES} buckets CALL_SECONDS;
    /// Orders whose outcome at the broker is not known.
    orders_in_doubt: IntGauge = "baton_orders_in_doubt";

    /// 1 while the broker session is proven valid, else 0.
    broker_session_valid: IntGauge = "baton_broker_session_valid";
    /// 1 while the exchange of a configured instrument is open, 0 while none is, -1 while nobody knows the day's hours.
    market_open: IntGauge = "baton_market_open";
    /// Wanted listings, by where their latest price comes from; none has no price.
    price_source: IntGaugeVec = "baton_price_source" {"source" in PRICE_SOURCES};
    /// Age in seconds of the oldest price among the wanted listings that have one; 0 when there is none.
    feed_tick_age: Gauge = "baton_feed_tick_age_seconds";
    /// Quotes asked for over REST because the live price was old, by what came of them.
    feed_rest_quotes: IntCounterVec = "baton_feed_rest_quotes_total" {"outcome" in ["ok", "failed"]};

    /// 1 while the live feed has an authenticated socket, else 0.
    feed_connected: IntGauge = "baton_feed_connected";
    /// 1 while the live feed is connected but no tick comes, else 0.
    feed_mute: IntGauge = "baton_feed_mute";
    /// Sockets of the live feed that ended, by why.
    feed_reconnects: IntCounterVec = "baton_feed_reconnects_total"
        {"reason" in ["closed", "broken", "refused", "mute", "kicked"]};
    /// Ticks of the live feed.
    feed_ticks: IntCounter = "baton_feed_ticks_total";
    /// Order updates of the live feed; each makes the leader read the books.
    feed_order_updates: IntCounter = "baton_feed_order_updates_total";
    /// Frames of the live feed that could not be read.
    feed_unreadable: IntCounter = "baton_feed_unreadable_frames_total";
    /// Answers to questions for a name's address, by who gave them; last_good is an old one used because nobody did.
    dns_lookups: IntCounterVec = "baton_dns_lookups_total" {"via" in ["system", "server", "last_good", "failed"]};
    /// 1 for each of the operator's switches that is on, 0 for the others.
    switches: IntGaugeVec = "baton_switch" {"switch" in ["halted", "halt_all", "reduce_only", "paused"]};
    /// 1 for each switch of a configured instrument that is on, 0 for the others.
    instrument_switches: IntGaugeVec = "baton_instrument_switch"
        {"instrument" in [], "switch" in ["halted", "reduce_only"]};
    /// 1 for each configured strategy, and for `default`, that may enter, else 0.
    strategy_enabled: IntGaugeVec = "baton_strategy_enabled" {"strategy" in ["default"]};
    /// Signals that were new to the inbox, by configured strategy (`other` for all others) and type; counted where they were stored.
    strategy_signals: IntCounterVec = "baton_strategy_signals_total"
        {"strategy" in ["default", "other"], "type" in SIGNAL_TYPES};
    /// Held positions whose stop nobody watches: no price, a dead one, or no stop. 0 on an instance that does not lead.
    stops_unarmed: IntGauge = "baton_stops_unarmed";
    /// Open positions of which not all has had a stop that rests at the broker for five seconds, where stops are to rest there
    /// and the exchange is open. 0 on an instance that does not lead.
    stops_not_resting: IntGauge = "baton_stops_not_resting";
    /// Limits of the account that were hit and latched, by code.
    limit_hits: IntCounterVec = "baton_limit_hits_total" {"code" in limits::CODES};
    /// 1 for each limit of the account that is latched for the rest of the day, else 0. 0 on an instance that does not lead.
    limit_latched: IntGaugeVec = "baton_limit_latched" {"code" in limits::CODES};
    /// How much of each limit of the account is used: 0 none, 1 all of it, so that it is hit. Of the loss while something that is held
    /// has no price only what was realised, and no drawdown. 0 for a limit that is not set, and on an instance that does not lead.
    limit_used: GaugeVec = "baton_limit_used_ratio" {"code" in limits::CODES};
    /// Positions that are held. 0 on an instance that does not lead.
    positions_held: IntGauge = "baton_positions_held";
    /// Prices that reached a position's stop or take-profit.
    stop_hits: IntCounterVec = "baton_stop_hits_total" {"cause" in ["stop_loss", "take_profit"]};

    /// Positions that are meant to be gone and do not get flat: the last exits ended without selling what they were for, or nothing
    /// was sold for 30 s while the market is open. 0 on an instance that does not lead.
    exits_not_flat: IntGauge = "baton_exits_not_flat";
    /// Intraday positions that were taken to be closed before the broker's own square-off.
    square_offs: IntCounter = "baton_square_offs_total";
    /// Held intraday positions that should be gone: the broker is about to close them, or should have done so. 0 on an instance
    /// that does not lead.
    square_off_late: IntGauge = "baton_square_off_late";
    /// Held positions of which the contract nears its end. 0 on an instance that does not lead, and where a bridge only simulates.
    positions_expiring: IntGauge = "baton_positions_expiring";

    /// 1 for the state this instance is in, 0 for the others.
    operational_state: IntGaugeVec = "baton_operational_state" {"state" in OPERATIONAL_STATES};
    /// Changes of this instance's state, by the state that was entered.
    operational_transitions: IntCounterVec = "baton_operational_transitions_total" {"state" in OPERATIONAL_STATES};
    /// 1 while this instance trades: it leads and is ACTIVE. The switches are judged at each order.
    trading_enabled: IntGauge = "baton_trading_enabled";

    /// 1 while a health check passes, 0 while it fails or cannot be asked.
    health_check_up: IntGaugeVec = "baton_health_check_up" {"check" in health_checks()};
    /// Seconds that health checks took.
    health_check_duration: HistogramVec = "baton_health_check_duration_seconds"
        {"check" in health_checks()} buckets CALL_SECONDS;

    /// Notifications by kind: sent (delivered to a channel), throttled (occurrences that made no message of their own),
    /// aggregated (went into a message with others), failed (refused or expired).
    notifications: IntCounterVec = "baton_notifications_total"
        {"type" in notification_kinds(), "result" in ["sent", "throttled", "aggregated", "failed"]};
    /// Notifications of the cluster that are decided and not delivered yet.
    outbox_depth: IntGauge = "baton_notification_outbox_depth";
    /// Messages to the Telegram bot, by what became of them: done (answered; a change that was made included), asked (a code
    /// is wanted first), refused (no such command, too old, a wrong code, or it failed), unknown (whether it was taken up is
    /// not known), flooded (beyond the budget, not acted on), stranger (from a chat or a user that is not allowed: no answer).
    telegram_commands: IntCounterVec = "baton_telegram_commands_total"
        {"outcome" in ["done", "asked", "refused", "unknown", "flooded", "stranger"]};
    /// Errors of the cluster that are not over, by kind.
    unresolved_errors: IntGaugeVec = "baton_unresolved_errors" {"type" in notification_kinds()};

    /// Spans that the collector took.
    traces_exported: IntCounter = "baton_traces_exported_total";
    /// Spans that no collector got: the queue was full, or sending failed.
    traces_dropped: IntCounterVec = "baton_traces_dropped_total" {"reason" in ["full", "failed"]};

    /// HTTP requests, by route pattern and status code.
    http_requests: IntCounterVec = "baton_http_requests_total"
        {"route" in ["/webhook"], "code" in ["200", "202", "400", "401", "413", "415", "422", "429", "503"]};
    /// Seconds that HTTP requests took, by route pattern.
    http_request_duration: HistogramVec = "baton_http_request_duration_seconds"
        {"route" in ["/webhook"]} buckets CALL_SECONDS;
}

impl Metrics {
    /// The registry's text exposition, as `/metrics` answers it (content type [`Metrics::CONTENT_TYPE`]).
    ///
    /// # Errors
    /// The encoder refused a family; not expected of declared series.
    pub fn encode(&self) -> Result<String, EncodeError> {
        self.clock_timestamp.set(Utc::now().timestamp_millis() as f64 / 1000.0);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The content type of [`Metrics::encode`].
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Sets the one operational state that holds to 1 and the others to 0.
    pub fn set_operational_state(&self, state: &str) {
        for known in OPERATIONAL_STATES {
            self.operational_state.with_label_values(&[known]).set(i64::from(known == state));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn order_classes() -> Vec<&'static str> {
    OrderClass::ALL.iter().map(|class| class.as_str()).collect()
}

fn intent_states() -> Vec<&'static str> {
    IntentState::ALL.iter().map(|state| state.as_str()).collect()
}

fn health_checks() -> Vec<&'static str> {
    Check::ALL.iter().map(|check| check.as_str()).collect()
}

fn notification_kinds() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.as_str()).collect()
}

#[cfg(test)]
mod tests;
