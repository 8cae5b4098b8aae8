//! Every series that the program exports, as data: its type, its labels, and what moves it.
//!
//! `metrics.rs` lives a life with these events and sees each series move when it should. What such a life does not
//! bring about moves in a test that has the fault: the row names it, and it has to be there and to look at the series.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use Kind::{Counter, Gauge, Histogram};
use Moved::{Elsewhere, Life};

/// What `# TYPE` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What happens in the life that `metrics.rs` lives, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Event {
    /// Three members start, one leads.
    Start,
    /// A follower is given a signal twice; an order is filled.
    Entry,
    /// The leader is killed and another takes over what it held.
    Failover,
}

/// What moves a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    Life(Event),
    /// A test in another file.
    Elsewhere(&'static str, &'static str),
}

/// One series.
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub moved: Moved,
}

const fn row(name: &'static str, kind: Kind, labels: &'static [&'static str], moved: Moved) -> Row {
    Row { name, kind, labels, moved }
}

const START: Moved = Life(Event::Start);
const ENTRY: Moved = Life(Event::Entry);
const FAILOVER: Moved = Life(Event::Failover);

const FEED: &str = "src/feed/live/tests.rs";
const MUTE: &str = "a_mute_feed_is_noticed_by_the_age_of_its_ticks_and_heals_by_itself";
const OPERATORS: &str = "tests/cluster/operators.rs";
const FENCED: &str = "a_fenced_leader_is_out_at_once_even_if_it_hangs";
const OUTAGE: &str = "a_redis_outage_is_told_once_by_three_instances_and_its_end_once";
const SQUARE_OFF: &str = "src/engine/tests/square_off.rs";
const LATE: &str = "what_is_late_is_told_and_counted_until_it_is_gone";
const TRACES: &str = "src/telemetry/traces/tests.rs";

pub const CATALOGUE: &[Row] = &[
    row("baton_build_info", Gauge, &["version"], START),
    row("baton_config_info", Gauge, &["fingerprint"], START),
    row("baton_clock_timestamp_seconds", Gauge, &[], START),
    // Leadership.
    row("baton_leader", Gauge, &[], START),
    row("baton_leader_epoch", Gauge, &[], START),
    row("baton_leader_transitions_total", Counter, &["reason"], START),
    row("baton_leader_losses_total", Counter, &[], Elsewhere(OPERATORS, FENCED)),
    row("baton_failover_duration_seconds", Histogram, &[], FAILOVER),
    row("baton_lease_remaining_seconds", Gauge, &[], START),
    row("baton_fenced_writes_total", Counter, &[], Elsewhere(OPERATORS, FENCED)),
    row(
        "baton_ha_degraded",
        Gauge,
        &[],
        Elsewhere(
            "tests/cluster/faults.rs",
            "without_redis_the_first_instance_leads_all_the_same_and_says_so",
        ),
    ),
    row("baton_instances", Gauge, &["status"], START),
    // Recovery.
    row("baton_recovery_duration_seconds", Histogram, &[], START),
    row("baton_recovery_total", Counter, &["outcome"], START),
    row(
        "baton_recovery_failures_total",
        Counter,
        &["code"],
        Elsewhere(
            "tests/recovery/scenarios.rs",
            "scenario_3_nobody_trades_into_corrupt_state_and_everybody_stays_up",
        ),
    ),
    row("baton_recovered_positions", Gauge, &[], FAILOVER),
    row(
        "baton_position_drift",
        Gauge,
        &[],
        Elsewhere("tests/recovery/drift.rs", "only_the_leader_shows_a_drift"),
    ),
    row("baton_reconcile_last_success_timestamp_seconds", Gauge, &[], START),
    // Trading.
    row("baton_signals_total", Counter, &["type", "outcome"], ENTRY),
    row("baton_signal_age_seconds", Histogram, &[], ENTRY),
    row(
        "baton_exit_waiting_since_timestamp_seconds",
        Gauge,
        &[],
        Elsewhere("tests/cluster/unsent.rs", "a_withheld_entry_whose_exit_waits_is_not_bought_after_it"),
    ),
    row("baton_orders_total", Counter, &["outcome"], ENTRY),
    row("baton_order_latency_seconds", Histogram, &["stage"], ENTRY),
    row(
        "baton_orders_in_doubt",
        Gauge,
        &[],
        Elsewhere("tests/ops/drills/orders.rs", "drill_in_doubt_orders"),
    ),
    row(
        "baton_orders_overdue_total",
        Counter,
        &["class"],
        Elsewhere("tests/cluster/overdue.rs", "an_exit_that_rests_is_cancelled_and_sent_anew_until_it_fills"),
    ),
    row("baton_strategy_enabled", Gauge, &["strategy"], START),
    row("baton_strategy_signals_total", Counter, &["strategy", "type"], ENTRY),
    row(
        "baton_limit_hits_total",
        Counter,
        &["code"],
        Elsewhere(
            "tests/cluster/limits.rs",
            "a_days_loss_latches_and_neither_a_recovery_nor_a_restart_lifts_it",
        ),
    ),
    row(
        "baton_limit_latched",
        Gauge,
        &["code"],
        Elsewhere(
            "tests/cluster/limits.rs",
            "a_days_loss_latches_and_neither_a_recovery_nor_a_restart_lifts_it",
        ),
    ),
    row(
        "baton_stop_hits_total",
        Counter,
        &["cause"],
        Elsewhere("tests/cluster/stops.rs", "a_halt_does_not_hold_a_stop_back_and_halt_all_does"),
    ),
    row(
        "baton_stops_unarmed",
        Gauge,
        &[],
        Elsewhere("tests/cluster/stops.rs", "a_dead_price_leaves_the_stop_unarmed_and_freezes_entries"),
    ),
    row(
        "baton_stops_not_resting",
        Gauge,
        &[],
        Elsewhere(
            "tests/cluster/resting.rs",
            "a_stop_that_the_broker_ends_is_put_again_and_one_that_it_refuses_is_told",
        ),
    ),
    row(
        "baton_exits_not_flat",
        Gauge,
        &[],
        Elsewhere(
            "tests/cluster/stops.rs",
            "a_stop_that_is_refused_again_and_again_is_told_until_it_is_sold",
        ),
    ),
    row("baton_square_offs_total", Counter, &[], Elsewhere(SQUARE_OFF, LATE)),
    row("baton_square_off_late", Gauge, &[], Elsewhere(SQUARE_OFF, LATE)),
    row(
        "baton_positions_expiring",
        Gauge,
        &[],
        Elsewhere("src/engine/tests/expiry.rs", "each_position_is_warned_about_once_a_day"),
    ),
    row(
        "baton_switch",
        Gauge,
        &["switch"],
        Elsewhere(
            "tests/cluster/switches.rs",
            "switches_are_set_anywhere_hold_at_once_and_survive_a_failover",
        ),
    ),
    row(
        "baton_instrument_switch",
        Gauge,
        &["instrument", "switch"],
        Elsewhere(
            "tests/cluster/switches.rs",
            "a_switch_of_one_instrument_holds_there_alone_and_survives_a_failover",
        ),
    ),
    // The world outside.
    row("baton_broker_session_valid", Gauge, &[], START),
    row("baton_market_open", Gauge, &[], START),
    row("baton_price_source", Gauge, &["source"], ENTRY),
    row("baton_feed_tick_age_seconds", Gauge, &[], ENTRY),
    row(
        "baton_feed_rest_quotes_total",
        Counter,
        &["outcome"],
        Elsewhere("tests/cluster/stops.rs", "a_stop_fires_with_the_feed_cut"),
    ),
    row("baton_feed_connected", Gauge, &[], START),
    row("baton_feed_mute", Gauge, &[], Elsewhere(FEED, MUTE)),
    row("baton_feed_reconnects_total", Counter, &["reason"], Elsewhere(FEED, MUTE)),
    row("baton_feed_ticks_total", Counter, &[], ENTRY),
    row("baton_feed_order_updates_total", Counter, &[], ENTRY),
    row(
        "baton_feed_unreadable_frames_total",
        Counter,
        &[],
        Elsewhere("src/feed/live/ear.rs", "a_frame_that_cannot_be_read_is_counted_and_ends_nothing"),
    ),
    row(
        "baton_dns_lookups_total",
        Counter,
        &["via"],
        Elsewhere(
            "tests/cluster/feed.rs",
            "orders_find_their_way_by_the_configured_server_and_then_by_the_last_good_address",
        ),
    ),
    // What an instance is doing.
    row("baton_operational_state", Gauge, &["state"], START),
    row("baton_operational_transitions_total", Counter, &["state"], START),
    row("baton_trading_enabled", Gauge, &[], START),
    row("baton_health_check_up", Gauge, &["check"], START),
    row("baton_health_check_duration_seconds", Histogram, &["check"], START),
    // Telling people.
    row(
        "baton_notifications_total",
        Counter,
        &["type", "result"],
        Elsewhere("tests/notify/cluster.rs", OUTAGE),
    ),
    row("baton_notification_outbox_depth", Gauge, &[], FAILOVER),
    row("baton_unresolved_errors", Gauge, &["type"], Elsewhere("tests/notify/cluster.rs", OUTAGE)),
    row(
        "baton_telegram_commands_total",
        Counter,
        &["outcome"],
        Elsewhere(
            "tests/notify/commands.rs",
            "an_old_command_is_refused_and_a_flood_passed_over_but_for_a_halt",
        ),
    ),
    row("baton_traces_exported_total", Counter, &[], Elsewhere(TRACES, "the_end_sends_what_is_waiting")),
    row(
        "baton_traces_dropped_total",
        Counter,
        &["reason"],
        Elsewhere(TRACES, "a_collector_that_is_gone_is_counted"),
    ),
    row("baton_http_requests_total", Counter, &["route", "code"], START),
    row("baton_http_request_duration_seconds", Histogram, &["route"], START),
];

/// One family of a scrape.
#[derive(Debug, Default)]
pub struct Family {
    pub help: String,
    pub kind: String,
    /// Each sample's name, its labels, its value.
    pub samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Family {
    /// How much has been counted in all; for a gauge, how far it is from 0.
    pub fn total(&self) -> f64 {
        let counts = |name: &str| !name.ends_with("_bucket") && !name.ends_with("_sum");
        let of_histogram = self.kind == "histogram";
        let samples = self.samples.iter().filter(|(name, ..)| !of_histogram || counts(name));
        samples.map(|(_, _, value)| value.abs()).sum()
    }
}

/// The families of a scrape, by name.
pub fn families(scrape: &str) -> BTreeMap<String, Family> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in scrape.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            name.clone_into(&mut current);
            found.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
            let pairs = labels.map(|pair| {
                let (label, value) = pair.split_once("=\"").expect("a label has a value");
                (label.to_owned(), value.trim_end_matches('"').to_owned())
            });
            assert!(name.starts_with(&current), "{name} stands under {current}");
            let family = found.get_mut(&current).expect("a sample follows its type");
            family.samples.push((name.to_owned(), pairs.collect(), value.parse().unwrap()));
        }
    }
    found
}

/// Names, types, help and labels are those of the catalogue, and nothing else is exported.
pub fn is_catalogued(families: &BTreeMap<String, Family>) {
    let (listed, exported): (BTreeSet<&str>, BTreeSet<&str>) =
        (CATALOGUE.iter().map(|row| row.name).collect(), families.keys().map(String::as_str).collect());
    assert_eq!(exported, listed, "a series has its row in the catalogue, with what moves it");
    for row in CATALOGUE {
        let family = &families[row.name];
        let kind = match row.kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        };
        assert_eq!(family.kind, kind, "{}", row.name);
        assert!(family.help.ends_with('.') && family.help.len() > 15, "{}: {:?}", row.name, family.help);
        for (name, labels, _) in &family.samples {
            let own: BTreeSet<&str> =
                labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(own, row.labels.iter().copied().collect(), "{name}");
            for (label, value) in labels.iter().filter(|(label, _)| *label != "fingerprint") {
                assert!(!is_an_id(value), "{name}: {label} is {value:?}: an id has no bound");
            }
        }
    }
}

/// Looks like what a process, a signal, an order or a person is told apart by: a UUID, or a long number.
fn is_an_id(text: &str) -> bool {
    let longest = |of: fn(&char) -> bool| {
        let runs = text.split(|c| !of(&c)).map(str::len);
        runs.max().unwrap_or(0)
    };
    uuid::Uuid::try_parse(text).is_ok()
        || text.split(['/', '-', ':']).any(|part| uuid::Uuid::try_parse(part).is_ok())
        || longest(char::is_ascii_digit) >= 6
        || longest(|c| c.is_ascii_digit() || ('a'..='f').contains(c)) >= 12
}

#[test]
fn ids_are_told_from_names() {
    for id in
        ["0199a1b2-0000-7000-8000-000000000000", "b1/0199a1b2000070008000000000000000", "251125000012345"]
    {
        assert!(is_an_id(id), "{id}");
    }
    for name in ["MAX_ORDERS_PER_DAY", "/api/v1/signals/{id}", "503", "0.1.0", "deadbeef", "stop_loss"] {
        assert!(!is_an_id(name), "{name}");
    }
}

/// The name of a series's field in the program, as the tests inside of it call it.
fn fields() -> BTreeMap<String, String> {
    let source = std::fs::read_to_string(root().join("src/telemetry/metrics/mod.rs")).unwrap();
    let lines = source.lines().filter_map(|line| {
        let (field, rest) = line.trim().split_once(": ")?;
        let name = rest.split_once("= \"")?.1.split('"').next()?;
        name.starts_with("baton_").then(|| (name.to_owned(), field.to_owned()))
    });
    lines.collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// R: H4
#[test]
fn what_no_life_moves_is_moved_by_a_test_that_is_there_and_looks_at_it() {
    let fields = fields();
    for row in CATALOGUE {
        let Elsewhere(file, test) = row.moved else { continue };
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        let (_, rest) = text
            .split_once(&format!("fn {test}("))
            .unwrap_or_else(|| panic!("{}: there is no test {test} in {file}", row.name));
        // To its closing brace: a function's own is the only one at the beginning of a line.
        let body = rest.split("\n}").next().unwrap_or_default();
        let field = fields.get(row.name).unwrap_or_else(|| panic!("{} is not declared", row.name));
        assert!(
            body.contains(row.name) || body.contains(&format!("metrics.{field}")),
            "{}: {test} in {file} does not look at it",
            row.name
        );
    }
}
