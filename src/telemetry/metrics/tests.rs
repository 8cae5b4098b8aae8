use super::*;

#[test]
fn every_series_is_there_from_the_start_at_zero() {
    let text = Metrics::new().encode().unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with("baton_clock_timestamp_seconds ") {
            continue;
        }
        let constant = ["baton_build_info{", "baton_operational_state{state=\"STARTING\"}"];
        let is_constant = constant.iter().any(|begin| line.starts_with(begin));
        let expected = if is_constant { " 1" } else { " 0" };
        assert!(line.ends_with(expected), "{line} should end with {expected}");
    }
    for series in [
        "baton_leader 0",
        "baton_signals_total{outcome=\"accepted\",type=\"BASE_ENTRY\"} 0",
        "baton_orders_total{outcome=\"in_doubt\"} 0",
        "baton_recovery_failures_total{code=\"DATA_CORRUPT\"} 0",
        "baton_operational_state{state=\"STARTING\"} 1",
        "baton_failover_duration_seconds_bucket{le=\"0.1\"} 0",
        "baton_order_latency_seconds_count{stage=\"journal\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is missing");
    }
}

#[test]
fn names_follow_the_conventions() {
    for family in Metrics::new().registry.gather() {
        let name = family.name();
        assert!(name.starts_with("baton_"), "{name}");
        assert!(family.help().ends_with('.') && !family.help().contains("  "), "{name}: {:?}", family.help());
        let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
        assert_eq!(is_counter, name.ends_with("_total"), "{name}: _total is for counters and only for them");
        let is_histogram = family.get_field_type() == prometheus::proto::MetricType::HISTOGRAM;
        assert!(!is_histogram || name.ends_with("_seconds"), "{name}: a histogram of ours measures seconds");
    }
}

#[test]
fn exactly_one_operational_state_holds() {
    let metrics = Metrics::new();
    metrics.set_operational_state("ACTIVE");
    let held: Vec<_> = OPERATIONAL_STATES
        .into_iter()
        .filter(|state| metrics.operational_state.with_label_values(&[*state]).get() == 1)
        .collect();
    assert_eq!(held, ["ACTIVE"]);
}

#[test]
fn two_instances_in_one_process_do_not_share_series() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.fenced_writes.inc();
    assert_eq!((one.fenced_writes.get(), other.fenced_writes.get()), (1, 0));
}
