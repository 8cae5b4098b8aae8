use super::*;

#[test]
fn every_fault_is_told_at_once_with_key_source_and_what_is_allowed() {
    let file = file(
        r#"
        [cluster]
        name = "two words"
        priority = "high"

        [postgres]
        ulr = "postgres://baton:s3cret@127.0.0.1/baton"
        pool_size = 0

        [redis]
        url = "http://s3cret@127.0.0.1"

        [timing]
        lease_ttl_ms = 3000
        margin_ms = 200
        renew_ms = 1000
        watch_ms = 2500

        [broker]
        mode = "live"
        settle_ms = 30000
        idle_close_ms = 60000

        [trading]
        capital = 1000000.5
        [trading.gates]
        equity = "most"
        base_risk_percent = 200
        base_risc_percent = 3
        [trading.age]
        warn_s = -1

        [instruments.GOLD_MINI]
        lot_size = 1.5
        tick = 0
        [instruments.GOLDMINI]
        symbol = "GOLDM05FEB26FUT"

        [server]
        listen = "0.0.0.0:80"

        [empty]
        "#,
    );
    let mut inputs = inputs(&[
        ("BATON_HTTP__LISTEN", "localhost"),
        ("BATON_LOG__FORMAT", "xml"),
        ("BATON_RECOVERY__ATTEMPTS", "many"),
        ("BATON_POSTGRES_URL", "postgres://baton:s3cret@127.0.0.1/baton"),
        ("OPENALGO_API_KEY_FILE", "/no/such/file"),
        ("TELEGRAM_CHAT_ID", "-100123"),
        ("ALLOW_AFTER_MARKET", "maybe"),
    ]);
    inputs.file = Some(file.path().to_owned());
    let text = load(&inputs).unwrap_err().to_string();
    assert!(!text.contains("s3cret"), "a secret is in the message:\n{text}");
    insta::assert_snapshot!(text.replace(&file.path().display().to_string(), "baton.toml"), @r#"
    the configuration has 27 faults
      BATON_POSTGRES_URL: unknown key; did you mean BATON_POSTGRES__URL (two underscores after the section)?
      broker.account: missing; broker.mode = "live" sends real orders, so name the account they are for
      broker.api_key_file (from OPENALGO_API_KEY_FILE): found "/no/such/file", which cannot be read (No such file or directory (os error 2)); allowed: the path of a readable file that holds the secret
      broker.settle_ms (from baton.toml): found 30000 ms; allowed: more than 150000 ms: settle_ms > idle_close_ms + hides_ms, because a process that was paused can still write on a connection that the bridge keeps open, and the bridge may take hides_ms to show what it accepted
      cluster.name (from baton.toml): found "two words"; allowed: 1 to 40 letters, digits, '-', '_' or '.', starting with a letter or digit
      cluster.priority (from baton.toml): found "high"; allowed: a whole number from 0 to 100 (0 = never leads)
      empty (from baton.toml): unknown key; the sections are broker, cluster, dns, emergency, feed, health, http, instruments, log, notify, operator, postgres, recovery, redis, shutdown, signals, timing, traces, trading
      http.listen (from BATON_HTTP__LISTEN): found "localhost"; allowed: an IP address with a port, e.g. "127.0.0.1:8080" or "0.0.0.0:8080"
      instruments.GOLDMINI: not built in (BANK_NIFTY, COPPER, GOLD_MINI, SILVER_MINI are), so it also needs atr_initial, atr_trailing, exchange, lot_size, margin_per_lot, max_pyramids, point_value, product, risk_percent, tick, volatility_percent; or correct its name
      instruments.GOLD_MINI.lot_size (from baton.toml): found 1.5; allowed: a whole number
      instruments.GOLD_MINI.tick (from baton.toml): is 0; set it above 0 and at most 1000000000
      log.format (from BATON_LOG__FORMAT): found "xml"; allowed: "text" or "json"
      notify.telegram_bot_token: missing; a chat is set, so give the bot's token: TELEGRAM_BOT_TOKEN or TELEGRAM_BOT_TOKEN_FILE
      postgres.pool_size (from baton.toml): found 0; allowed: a whole number from 1 to 200 connections
      postgres.ulr (from baton.toml): unknown key; did you mean postgres.url?
      postgres.url: missing; set BATON_POSTGRES__URL or DATABASE_URL (or the same name with _FILE), or postgres.url in the file
      recovery.attempts (from BATON_RECOVERY__ATTEMPTS): found "many"; allowed: a whole number from 1 to 100 attempts
      redis.url (from baton.toml): found a text of another form (not shown); allowed: redis://:password@host:port/0, or rediss:// for TLS
      server.listen (from baton.toml): unknown key; did you mean http.listen?
      timing.margin_ms (from baton.toml): found 200 ms; allowed: at least 300 ms: margin_ms ≥ max(300, lease_ttl_ms / 10)
      timing.watch_ms (from baton.toml): found 2500 ms; allowed: at most 300 ms: watch_ms ≤ lease_ttl_ms / 10
      trading.age.warn_s (from baton.toml): found -1; allowed: a whole number, 0 or more
      trading.allow_after_market (from ALLOW_AFTER_MARKET): found "maybe"; allowed: true or false
      trading.capital (from baton.toml): found 1000000.5; allowed: rupees above zero, as a whole number or as text such as "1000000.50"
      trading.gates.base_risc_percent (from baton.toml): unknown key; did you mean trading.gates.base_risk_percent?
      trading.gates.base_risk_percent (from baton.toml): is 200; set it above 0 and at most 100
      trading.gates.equity (from baton.toml): found "most"; allowed: one of "high", "closed", "blended", "fixed"
    "#);
}

#[test]
fn a_lost_file_and_a_broken_file_say_what_to_do() {
    let mut lost = with(&[]);
    lost.file = Some("/no/such/baton.toml".into());
    let error = load(&lost).unwrap_err();
    assert!(matches!(error, Error::ReadFile { .. }), "{error}");
    assert!(error.to_string().contains("--config"), "{error}");

    let broken = file("[cluster\nname = 1");
    let mut inputs = with(&[]);
    inputs.file = Some(broken.path().to_owned());
    assert!(matches!(load(&inputs).unwrap_err(), Error::ParseFile { .. }));
}

#[test]
fn every_fault_of_a_strategy_is_told_and_a_sound_one_is_read() {
    let file = file(
        r#"
        [strategies.default]
        kind = "session_vwap"
        instrument = "GOLD"
        bar_s = 0
        band_percent = -1
        stop_percent = "x"
        [strategies.late]
        kind = "session_vwap"
        instrument = "GOLD_MINI"
        bar_s = 600
        flat_before_close_s = 599
        [strategies.nothing]
        instrument = "GOLD_MINI"
        [strategies."a/b"]
        kind = "webhook"
        [strategies.gone]
        kind = "session_vwap"
        "#,
    );
    let mut inputs = with(&[]);
    inputs.file = Some(file.path().to_owned());
    let text = load(&inputs).unwrap_err().to_string();
    insta::assert_snapshot!(text.replace(&file.path().display().to_string(), "baton.toml"), @r#"
    the configuration has 9 faults
      strategies.a/b: its name is not one; use letters, digits, '_', '-' or '.', at most 64
      strategies.default: is of the signals that name no strategy; choose another name
      strategies.default.band_percent (from baton.toml): found -1; allowed: a number from 0 to 50 percent
      strategies.default.bar_s (from baton.toml): found 0; allowed: a whole number from 1 to 3600 s
      strategies.default.instrument (from baton.toml): found "GOLD"; allowed: the name of an instrument: BANK_NIFTY, COPPER, GOLD_MINI, SILVER_MINI
      strategies.default.stop_percent (from baton.toml): found "x"; allowed: a number from 0.01 to 50 percent
      strategies.gone.instrument: missing; the name of an instrument: BANK_NIFTY, COPPER, GOLD_MINI, SILVER_MINI
      strategies.late.flat_before_close_s (from baton.toml): found 599 s; allowed: at least 600 s: flat_before_close_s ≥ bar_s, so that a bar ends in time to close the position
      strategies.nothing.kind: missing; say "webhook" or "session_vwap"
    "#);

    let sound = self::file(
        "[strategies.vwap]\nkind = \"session_vwap\"\ninstrument = \"GOLD_MINI\"\nband_percent = 0.25",
    );
    let mut inputs = with(&[("BATON_STRATEGIES__VWAP__BAR_S", "60")]);
    inputs.file = Some(sound.path().to_owned());
    let config = load(&inputs).unwrap();
    let Strategy::SessionVwap { instrument, thresholds } = &config.strategies["vwap"] else { panic!() };
    assert_eq!(instrument.name, "GOLD_MINI");
    assert_eq!(
        (thresholds.bar, thresholds.band_percent),
        (chrono::TimeDelta::minutes(1), rust_decimal::dec!(0.25))
    );
    assert_eq!(thresholds.stale, chrono::TimeDelta::seconds(30));
}

#[test]
fn the_bridges_authorities_are_a_readable_file_of_certificates() {
    let no_pem = file("nothing of the kind");
    for path in ["/nowhere/ca.pem", no_pem.path().to_str().unwrap()] {
        let faults = faults(&with(&[("BATON_BROKER__CA_FILE", path)]));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("broker.ca_file") && faults[0].contains(path), "{faults:?}");
    }
    let known = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/certs/localhost.crt");
    let config = load(&with(&[("BATON_BROKER__CA_FILE", known)])).unwrap();
    assert_eq!(config.broker.ca_file.as_deref(), Some(std::path::Path::new(known)));
}
