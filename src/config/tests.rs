use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;

/// The least that a valid configuration says.
const LEAST: &[(&str, &str)] = &[
    ("BATON_POSTGRES__URL", "postgres://baton:s3cret@127.0.0.1:5432/baton"),
    ("BATON_REDIS__URL", "redis://:s3cret@127.0.0.1:6379/0"),
    ("BATON_BROKER__API_KEY", "s3cret-key"),
    ("BATON_TRADING__CAPITAL", "10000000"),
];

fn inputs(env: &[(&str, &str)]) -> Inputs {
    let env =
        env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>();
    // Tests run in the crate's root, where a developer's own baton.toml may lie.
    Inputs { file: Some("/dev/null".into()), env, hostname: "host-1".to_owned() }
}

fn with(more: &[(&str, &str)]) -> Inputs {
    inputs(&[LEAST, more].concat())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn faults(inputs: &Inputs) -> Vec<String> {
    match load(inputs) {
        Err(Error::Faults(faults)) => faults.0.iter().map(ToString::to_string).collect(),
        other => panic!("expected faults, got {other:?}"),
    }
}

fn source_of(config: &Config, key: &str) -> String {
    config.entries.iter().find(|entry| entry.key == key).unwrap().source.to_string()
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = load(&with(&[])).unwrap();
    assert_eq!((config.cluster.name.as_str(), config.cluster.member.as_str()), ("baton", "host-1"));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.timing.lease_ttl, Duration::from_secs(3));
    assert_eq!(config.timing.renew, Duration::from_millis(500));
    assert_eq!(config.timing.margin, Duration::from_millis(300));
    assert_eq!(config.broker.mode, Mode::Paper);
    assert_eq!(config.broker.settle, Duration::from_secs(180));
    assert_eq!(config.broker.idle_close, None);
    assert_eq!(config.recovery.attempts, 3);
    assert_eq!(config.shutdown.budget, Duration::from_secs(9));
    assert_eq!(config.address(config.http.listen), "http://127.0.0.1:8080");
    assert_eq!(config.address("0.0.0.0:9000".parse().unwrap()), "http://host-1:9000");
}

#[test]
fn renewal_and_margin_follow_the_lease() {
    let config = load(&with(&[("BATON_TIMING__LEASE_TTL_MS", "12000")])).unwrap();
    assert_eq!(config.timing.renew, Duration::from_millis(2000));
    assert_eq!(config.timing.margin, Duration::from_millis(1200));
}

#[test]
fn environment_beats_file_and_file_beats_default() {
    let file = file("[cluster]\nname = \"from-file\"\n[http]\nlisten = \"127.0.0.1:1111\"\n");
    let mut inputs = with(&[("BATON_HTTP__LISTEN", "127.0.0.1:2222")]);
    inputs.file = Some(file.path().to_owned());
    let config = load(&inputs).unwrap();
    assert_eq!(config.cluster.name, "from-file");
    assert_eq!(config.http.listen.port(), 2222);
    assert_eq!(source_of(&config, "cluster.name"), file.path().display().to_string());
    assert_eq!(source_of(&config, "http.listen"), "BATON_HTTP__LISTEN");
    assert_eq!(source_of(&config, "log.level"), "default");
}
