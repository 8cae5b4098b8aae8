//! `baton secrets check`, and `baton report` with secrets planted wherever one might leak from.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{LEAST, answer_all, baton, command, json as parsed, stderr, stdout};

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

fn of<'a>(known: &'a Value, key: &str) -> &'a Value {
    known.as_array().unwrap().iter().find(|secret| secret["key"] == key).unwrap_or_else(|| panic!("{key}"))
}

#[test]
fn each_secret_is_found_where_it_is_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let own = file(folder.path(), "own", "planted-0123456789abcdef0123456789", 0o600);
    let everybodys = file(folder.path(), "everybodys", "planted-short", 0o644);
    let env = [
        LEAST,
        &[
            ("BATON_SIGNALS__TOKEN_FILE", own.as_str()),
            ("BATON_OPERATOR__TOKEN_FILE", everybodys.as_str()),
            ("BATON_NOTIFY__WEBHOOK_SECRET_FILE", "/nowhere/at/all"),
        ],
    ]
    .concat();
    let output = baton(&["secrets", "check", "-o", "json"], &env);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        !stdout(&output).contains("planted") && !stdout(&output).contains("s3cret"),
        "{}",
        stdout(&output)
    );
    let known = parsed(&output);
    let signals = of(&known, "signals.token");
    assert_eq!(
        (&signals["ok"], &signals["mode"], &signals["file"]),
        (&json!(true), &json!("600"), &json!(own))
    );
    assert_eq!(signals["length"], "32 characters or more");
    assert_eq!(signals["source"], "BATON_SIGNALS__TOKEN_FILE");
    let operator = of(&known, "operator.token");
    assert_eq!((&operator["ok"], &operator["set"]), (&json!(false), &json!(true)), "{operator}");
    assert!(operator["remark"].as_str().unwrap().contains(&format!("chmod 640 {everybodys}")), "{operator}");
    let webhook = of(&known, "notify.webhook_secret");
    assert_eq!((&webhook["ok"], &webhook["set"]), (&json!(false), &json!(false)), "{webhook}");
    assert!(webhook["remark"].as_str().unwrap().contains("cannot be read"), "{webhook}");
    let database = of(&known, "postgres.url");
    assert_eq!((&database["required"], &database["length"]), (&json!(true), &json!("a URL")), "{database}");
    assert_eq!((&database["ok"], &database["file"]), (&json!(true), &Value::Null));

    std::fs::set_permissions(&everybodys, std::fs::Permissions::from_mode(0o640)).unwrap();
    let sound = baton(&["secrets", "check"], &env[..env.len() - 1]);
    assert_eq!(sound.status.code(), Some(0), "{}", stdout(&sound));
    assert!(stdout(&sound).contains("under 16 characters"), "{}", stdout(&sound));
}

#[test]
fn a_secret_in_the_configuration_file_lies_in_that_file_and_a_missing_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "baton.toml", "broker.api_key = \"planted-in-the-file\"\n", 0o644);
    let output = command(&folder).args(["secrets", "check", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let known = parsed(&output);
    let key = of(&known, "broker.api_key");
    assert_eq!((&key["ok"], &key["file"]), (&json!(false), &json!("baton.toml")), "{key}");
    let database = of(&known, "postgres.url");
    assert_eq!((&database["ok"], &database["required"]), (&json!(false), &json!(true)));
    assert!(database["remark"].as_str().unwrap().contains("DATABASE_URL"), "{database}");
    assert!(!stdout(&output).contains("planted"));
}

/// Everything that is written below a folder, by name.
fn written(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
        (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
    });
    files.collect()
}

// What a report must never show stands in the configuration, in answers, in metrics and in logs, plain and within more.
#[test]
fn a_report_holds_what_helps_and_no_planted_secret() {
    let folder = tempfile::tempdir().unwrap();
    let token = file(folder.path(), "token", "planted-by-file\n", 0o600);
    let log = file(
        folder.path(),
        "b1.log",
        "too old\n\
         INFO connects to postgres://baton:s3cret@db/baton with planted-by-file\n\
         {\"fields\":{\"message\":\"sent\",\"authorization\":\"Bearer planted-in-a-header\"}}\n\
         WARN answer to planted-by-variable: {\"apikey\": \"planted-of-another\"}\n",
        0o600,
    );
    let (url, _server) = answer_all(|url, path| {
        let body = match path {
            "/api/v1/cluster" => json!({ "cluster": "desk", "instances": [
                { "member": "b1", "address": url }, { "member": "b/2", "address": "http://127.0.0.1:1" }
            ]})
            .to_string(),
            "/metrics" => "# HELP baton_leader 1 while it leads.\nbaton_leader 1\n# s3cret-key\n".to_owned(),
            "/api/v1/errors?all=true&limit=500" => {
                let message = "401 with token=planted-elsewhere at redis://:s3cret@r:6379";
                json!({ "errors": [{ "error_message": message, "password": "planted-field" }] }).to_string()
            }
            _ => json!({ "path": path, "said": "planted-by-variable, planted-by-file" }).to_string(),
        };
        ("200 OK", body)
    });
    let env = [
        LEAST,
        &[("BATON_OPERATOR__TOKEN_FILE", token.as_str()), ("BATON_SIGNALS__SECRET", "planted-by-variable")],
    ]
    .concat();
    let into = folder.path().join("out");
    let arguments = ["report", "--address", &url, "--log", &log, "--lines", "3", "-o", "json", "--into"];
    let mut report = command(&folder);
    report.args(arguments).arg(&into).envs(env.iter().copied());
    let output = report.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let files = written(&into);
    for (name, text) in &files {
        for secret in ["planted", "s3cret"] {
            assert!(!text.contains(secret), "{name} shows {secret:?}:\n{text}");
        }
    }
    assert!(!stdout(&output).contains("planted") && !stdout(&output).contains("s3cret"));
    let text = |name: &str| {
        let found = files.iter().find(|(other, _)| other == name);
        found.unwrap_or_else(|| panic!("{name} is missing in {:?}", parsed(&output))).1.clone()
    };
    let config: Value = serde_json::from_str(&text("config.json")).unwrap();
    assert_eq!(config["fingerprint"].as_str().map(str::len), Some(12), "{config}");
    let set = config["entries"].as_array().unwrap().iter().find(|entry| entry["key"] == "operator.token");
    assert_eq!(set.unwrap()["value"], "***");
    assert!(text("b1-metrics.txt").contains("\nbaton_leader 1\n"));
    assert!(text("machine.json").contains(env!("CARGO_PKG_VERSION")));
    assert!(text("errors.json").contains("401 with token=*** at redis://:***@r:6379"));
    let log = text("log-1.txt");
    assert!(
        !log.contains("too old") && log.contains("INFO connects to postgres://baton:***@db/baton"),
        "{log}"
    );
    for part in
        ["cluster", "history", "states", "events", "errors-summary", "switches", "orders", "b1-checks"]
    {
        text(&format!("{part}.json"));
    }
    let list: Value = serde_json::from_str(&text("report.json")).unwrap();
    let parts = list["parts"].as_array().unwrap();
    let silent = parts.iter().find(|part| part["name"] == "b_2-healthz.json").unwrap();
    assert!(
        silent["ok"] == false && silent["remark"].as_str().unwrap().contains("does not answer"),
        "{silent}"
    );
    assert_eq!(list["version"], env!("CARGO_PKG_VERSION"));

    // Nothing is written over.
    let again = report.output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--into"), "{}", stderr(&again));
}

#[test]
fn a_report_of_a_cluster_that_is_gone_is_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = command(&folder);
    report.args(["report", "--address", "http://127.0.0.1:1"]).envs(LEAST.iter().copied());
    let output = report.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("cluster.json: no instance answers"), "{}", stdout(&output));
    let made = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let made: Vec<_> =
        made.filter(|entry| entry.file_name().to_string_lossy().starts_with("baton-report-")).collect();
    assert_eq!(made.len(), 1);
    let files = written(&made[0].path());
    assert!(files.iter().any(|(name, _)| name == "config.json"), "{files:?}");
}
