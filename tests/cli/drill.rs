//! `baton drill` refuses whatever is no demo; tests/story drills a real one.

use serde_json::json;

use crate::support::{command, stderr, stdout};

const DRILLS: [&str; 5] = ["kill-leader", "pause-leader", "redis-down", "postgres-down", "broker-down"];

#[test]
fn without_a_demo_every_drill_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    for drill in DRILLS {
        let mut refused = command(&folder);
        // An address does not make a cluster one that may be disturbed.
        refused
            .env("TMPDIR", folder.path())
            .env("BATON_ADDRESS", "http://127.0.0.1:1")
            .args(["drill", drill]);
        let output = refused.output().unwrap();
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{drill}");
        let said = stderr(&output);
        assert!(said.contains("drills are refused for any other") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_sheet_of_processes_that_are_no_demo_reaches_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut bystander = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let (pid, me) = (bystander.id(), std::process::id());
    let sheet = json!({
        "demo": me, "members": { "b1": { "pid": pid, "address": "http://127.0.0.1:1" } },
        "bridge": pid, "postgres": pid, "redis": pid,
    });
    std::fs::write(folder.path().join("cluster.json"), sheet.to_string()).unwrap();
    for drill in DRILLS {
        let output = command(&folder).args(["drill", drill, "--demo", "."]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{drill}");
        assert!(stderr(&output).contains("is no `baton demo`"), "{}", stderr(&output));
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(stat.contains(") S ") || stat.contains(") R "), "it sleeps on: {stat}");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}
