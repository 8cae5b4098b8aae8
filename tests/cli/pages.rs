//! `baton healthcheck`, `runbook`, `completions` and `man`.

use crate::support::{answer_once, baton, json, stdout};

#[test]
fn a_health_check_is_its_exit_code() {
    for (status, body, code) in
        [("200 OK", "ready\n", 0), ("503 Service Unavailable", "{\"code\":\"DRAINING\"}", 1)]
    {
        let (url, server) = answer_once(status, body);
        let output = baton(&["healthcheck", "--address", &url], &[]);
        assert_eq!(output.status.code(), Some(code), "{status}");
        assert_eq!(stdout(&output).trim(), body.trim());
        assert!(server.join().unwrap().starts_with("GET /readyz "));
    }
}

#[test]
fn a_health_check_finds_the_instance_that_the_environment_configures() {
    let (url, server) = answer_once("200 OK", "alive\n");
    let listen = url.strip_prefix("http://127.0.0.1").unwrap();
    let listen = format!("0.0.0.0{listen}");
    // An address for others says nothing about this machine.
    let env = [("BATON_HTTP__LISTEN", listen.as_str()), ("BATON_CLUSTER__ADDRESS", "http://192.0.2.1:1")];
    let output = baton(&["healthcheck", "--probe", "live", "-o", "json"], &env);
    assert_eq!(json(&output)["ok"], true);
    assert!(server.join().unwrap().starts_with("GET /livez "));
}

#[test]
fn a_health_check_without_an_answer_fails() {
    let output = baton(&["healthcheck", "--address", "http://127.0.0.1:1"], &[]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_runbook_is_told_by_alert_code_and_section() {
    for name in ["NoLeader", "no-leader"] {
        let output = baton(&["runbook", name], &[]);
        assert!(output.status.success());
        assert!(stdout(&output).starts_with("### no-leader\n"), "{name}");
    }
    let listed = baton(&["runbook", "-o", "json"], &[]);
    assert!(json(&listed).as_array().unwrap().iter().any(|section| section["alerts"][0] == "NoLeader"));
    assert_eq!(baton(&["runbook", "nonsense"], &[]).status.code(), Some(1));
}

#[test]
fn completions_and_manual_pages_name_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let text = stdout(&baton(&["completions", shell], &[]));
        assert!(text.contains("healthcheck") && text.contains("runbook"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    assert!(baton(&["man", path.to_str().unwrap()], &[]).status.success());
    for page in ["baton.1", "baton-run.1", "baton-config-check.1"] {
        let text = std::fs::read_to_string(path.join(page)).unwrap();
        let title = page.trim_end_matches(".1");
        assert!(text.contains(&format!(".TH {title} 1")), "{page}: {text}");
    }
    assert!(stdout(&baton(&["man"], &[])).contains(".TH baton 1"));
}
