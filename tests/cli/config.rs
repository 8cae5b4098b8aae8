use super::support::{LEAST, baton, command, json, stderr, stdout};

#[test]
fn a_sound_configuration_passes_the_check_and_says_which_mode_it_is() {
    let output = baton(&["config", "check"], LEAST);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("The configuration is sound: member b1 of cluster baton"), "{text}");
    assert!(text.contains("mode paper"), "{text}");

    let live = [LEAST, &[("BATON_BROKER__MODE", "live"), ("BATON_BROKER__ACCOUNT", "AB1234")]].concat();
    assert!(stdout(&baton(&["config", "check"], &live)).contains("ORDERS ARE REAL"));
    let warned = json(&baton(&["config", "check", "-o", "json"], &live));
    let warning = warned["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("stops do not rest at the broker"), "{warning}");
    assert!(stdout(&baton(&["config", "check"], &live)).contains(&format!("\nwarning: {warning}\n")));
    let resting = [live.as_slice(), &[("BATON_TRADING__STOPS__RESTING", "on")]].concat();
    assert_eq!(json(&baton(&["config", "check", "-o", "json"], &resting))["warnings"], serde_json::json!([]));
    assert!(!text.contains("warning"), "on paper nothing is at stake: {text}");
    let checked = json(&baton(&["config", "check", "-o", "json"], LEAST));
    assert_eq!(checked, serde_json::json!({"ok": true, "faults": [], "warnings": [], "error": null}));
}

#[test]
fn missing_settings_are_listed_all_at_once_with_exit_code_1() {
    let output = baton(&["config", "check"], &[("BATON_CLUSTER__MEMBER", "b1"), ("BATON_HTTP__LISTN", "x")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(text.starts_with("error: the configuration has 5 faults\n"), "{text}");
    for line in [
        "  broker.api_key: missing; set BATON_BROKER__API_KEY or OPENALGO_API_KEY (or the same name with _FILE)",
        "  http.listn (from BATON_HTTP__LISTN): unknown key; did you mean http.listen?",
        "  postgres.url: missing; set BATON_POSTGRES__URL or DATABASE_URL",
        "  redis.url: missing; set BATON_REDIS__URL or REDIS_URL",
        "  trading.capital: missing; set trading.capital in the file or BATON_TRADING__CAPITAL",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[test]
fn the_check_answers_scripts_with_each_faults_key_and_source() {
    let env = [LEAST, &[("BATON_TIMING__RENEW_MS", "2000")]].concat();
    let output = baton(&["config", "check", "-o", "json"], &env);
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output);
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["faults"].as_array().unwrap().len(), 1);
    let fault = &answer["faults"][0];
    assert_eq!(fault["key"], "timing.renew_ms");
    assert_eq!(fault["source"], "BATON_TIMING__RENEW_MS");
    assert_eq!(fault["kind"], "invalid");
    assert!(fault["message"].as_str().unwrap().contains("at most 900 ms"), "{fault}");
}

#[test]
fn a_file_that_is_no_toml_is_told_to_scripts_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("baton.toml"), "[cluster\n").unwrap();
    let output = command(&folder).args(["config", "check", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output);
    assert_eq!(answer["faults"], serde_json::json!([]));
    assert!(answer["error"].as_str().unwrap().contains("line 1"), "{answer}");
}

#[test]
fn the_file_is_found_in_the_folder_by_flag_and_by_variable() {
    let folder = tempfile::tempdir().unwrap();
    let member = |name: &str| {
        format!(
            "cluster.member = {name:?}\npostgres.url = \"postgres://b@127.0.0.1/b\"\n\
             redis.url = \"redis://127.0.0.1\"\nbroker.api_key = \"k\"\ntrading.capital = 1\n"
        )
    };
    std::fs::write(folder.path().join("baton.toml"), member("in-folder")).unwrap();
    std::fs::write(folder.path().join("other.toml"), member("named")).unwrap();
    let check = || {
        let mut command = command(&folder);
        command.args(["config", "check"]);
        command
    };
    assert!(stdout(&check().output().unwrap()).contains("member in-folder"));
    assert!(stdout(&check().args(["--config", "other.toml"]).output().unwrap()).contains("member named"));
    assert!(stdout(&check().env("BATON_CONFIG", "other.toml").output().unwrap()).contains("member named"));
    let lost = check().args(["--config", "lost.toml"]).output().unwrap();
    assert_eq!(lost.status.code(), Some(1));
    let text = stderr(&lost);
    assert!(text.starts_with("error: cannot read the configuration file lost.toml; "), "{text}");
    assert!(text.contains("\n  caused by: No such file or directory"), "{text}");
}

#[test]
fn show_tells_values_and_sources_but_no_secret() {
    let env = [LEAST, &[("PORT", "9000"), ("BATON_SIGNALS__TOKEN", "s3cret-token")]].concat();
    let text = stdout(&baton(&["config", "show"], &env));
    assert!(!text.contains("s3cret"), "{text}");
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("{start:?} is missing in\n{text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("listen ="), r#"listen = "0.0.0.0:9000" # PORT"#);
    assert_eq!(line("token ="), r#"token = "***" # BATON_SIGNALS__TOKEN"#);
    assert_eq!(line("lease_ttl_ms ="), "lease_ttl_ms = 3000 # default");
    assert_eq!(line("# account"), "# account is not set # default");

    let shown = json(&baton(&["config", "show", "-o", "json"], &env));
    let entry =
        |key: &str| shown.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap().clone();
    assert_eq!(
        entry("postgres.url"),
        serde_json::json!({"key": "postgres.url", "value": "***", "source": "BATON_POSTGRES__URL"})
    );
    assert_eq!(
        entry("broker.mode"),
        serde_json::json!({"key": "broker.mode", "value": "paper", "source": "default"})
    );
}

// R: N13; the limits of REQUIREMENTS N, by the predecessor's names where they have one: default, unit, range
#[test]
fn every_limit_of_failure_handling_is_shown_with_its_default_unit_and_range() {
    let shown = json(&baton(&["config", "show", "--defaults", "-o", "json"], &[]));
    let entry = |key: &str| {
        let found = shown.as_array().unwrap().iter().find(|entry| entry["key"] == key);
        found.unwrap_or_else(|| panic!("{key} is missing")).clone()
    };
    for (key, default, unit) in [
        ("health.max_startup_retries", 3, "retries"),
        ("health.startup_retry_delay_base", 30, "s"),
        ("health.waiting_mode_check_interval", 300, "s"),
        ("health.waiting_mode_status_interval", 3600, "s"),
        ("notify.notification_throttle_startup", 3600, "s"),
        ("notify.notification_throttle_websocket", 3600, "s"),
        ("notify.notification_throttle_broker", 1800, "s"),
        ("notify.notification_throttle_database", 3600, "s"),
        ("notify.notification_throttle_default", 3600, "s"),
        ("notify.notification_aggregation_window", 60, "s"),
        ("shutdown.shutdown_timeout", 9, "s"),
        ("shutdown.budget_ms", 9000, "ms"),
        ("shutdown.cancel_ms", 2000, "ms"),
        ("shutdown.close_ms", 3000, "ms"),
        ("shutdown.save_ms", 1000, "ms"),
        ("shutdown.notify_ms", 2000, "ms"),
        ("shutdown.disconnect_ms", 1000, "ms"),
    ] {
        let entry = entry(key);
        assert_eq!((&entry["value"], &entry["source"]), (&default.into(), &"default".into()), "{entry}");
        let allowed = entry["allowed"].as_str().unwrap_or_default();
        assert!(allowed.starts_with("from ") && allowed.ends_with(&format!(" {unit}")), "{entry}");
    }
    for key in ["health.waiting_mode_send_hourly_status", "shutdown.shutdown_force_market_orders"] {
        assert_eq!(entry(key)["value"], true);
    }
    let text = stdout(&baton(&["config", "show", "--defaults"], &[]));
    let line = text.lines().find(|line| line.starts_with("startup_retry_delay_base ="));
    assert!(line.is_some_and(|line| line.ends_with("# default, from 1 to 3600 s")), "{line:?}");

    let env = [LEAST, &[("BATON_SHUTDOWN__SHUTDOWN_FORCE_MARKET_ORDERS", "false")]].concat();
    let refused = baton(&["config", "check"], &env);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("exit_policy = \"hold\""), "{}", stderr(&refused));
}

#[test]
fn what_show_prints_is_a_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let shown = command(&folder).args(["config", "show"]).envs(LEAST.iter().copied()).output().unwrap();
    // Secrets are hidden, so the environment still gives them.
    let text = stdout(&shown).lines().filter(|line| !line.contains("\"***\"")).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.path().join("baton.toml"), text).unwrap();
    let secrets = LEAST.iter().copied().filter(|(name, _)| name.contains("URL") || name.contains("KEY"));
    let output = command(&folder).args(["config", "check"]).envs(secrets).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        command(&folder).args(["config", "show"]).envs(LEAST.iter().copied()).stdout(writer).output();
    let output = output.unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
