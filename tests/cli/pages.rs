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
fn a_health_check_asks_whether_this_one_leads() {
    for (status, code) in [("200 OK", 0), ("503 Service Unavailable", 1)] {
        let (url, server) = answer_once(status, "{}");
        let output = baton(&["healthcheck", "--probe", "leader", "--address", &url], &[]);
        assert_eq!(output.status.code(), Some(code), "{status}");
        assert!(server.join().unwrap().starts_with("GET /leader "));
    }
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

/// The verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = stdout(&baton(&["--help"], &[]));
    let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let listed = commands.expect("the help lists commands").lines();
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

// R: B12
#[test]
fn completions_and_manual_pages_name_every_verb() {
    let verbs = verbs();
    assert!(verbs.len() > 40, "{verbs:?}");
    for shell in ["bash", "zsh", "fish"] {
        let text = stdout(&baton(&["completions", shell], &[]));
        for verb in &verbs {
            assert!(
                text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == verb),
                "{shell}: {verb}"
            );
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    assert!(baton(&["man", path.to_str().unwrap()], &[]).status.success());
    let pages = verbs.iter().filter(|verb| *verb != "help").map(|verb| format!("baton-{verb}.1"));
    for page in
        pages.chain(["baton.1", "baton-config-check.1", "baton-errors-acknowledge.1"].map(str::to_owned))
    {
        let text =
            std::fs::read_to_string(path.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        let title = page.trim_end_matches(".1");
        assert!(text.contains(&format!(".TH {title} 1")), "{page}: {text}");
    }
    assert!(stdout(&baton(&["man"], &[])).contains(".TH baton 1"));
}

// R: B12
#[test]
fn bash_completes_a_verb_by_what_is_printed() {
    let asks = "source <(baton completions bash); COMP_WORDS=(baton hando); COMP_CWORD=1; _baton baton hando baton; \
                echo \"${COMPREPLY[*]}\"";
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_baton")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new("bash").args(["-c", asks]).env("PATH", path).output().unwrap();
    assert_eq!(stdout(&output).trim(), "handover", "{output:?}");
}

// R: B12
#[test]
fn a_terminal_gets_colours_unless_it_wants_none() {
    let folder = tempfile::tempdir().unwrap();
    // Of util-linux: it runs a program on a terminal of its own.
    let on_a_terminal = |env: &[(&str, &str)]| {
        let verb = format!("'{}' secrets check", env!("CARGO_BIN_EXE_baton"));
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &verb, "/dev/null"]).current_dir(folder.path()).env_clear();
        stdout(
            &script.env("PATH", std::env::var("PATH").unwrap()).envs(env.iter().copied()).output().unwrap(),
        )
    };
    let coloured = on_a_terminal(&[]);
    assert!(coloured.contains("\x1b[1mSECRET\x1b[0m"), "{coloured}");
    let plain = on_a_terminal(&[("NO_COLOR", "1")]);
    assert!(plain.contains("SECRET") && !plain.contains('\x1b'), "{plain}");
}
