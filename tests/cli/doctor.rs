use serde_json::{Value, json};

use super::support::{answer_once, baton, json as parsed, stdout};

/// What an instance answers to `baton doctor`, all of its last round's checks being well.
fn answer(fresh: bool) -> String {
    let check =
        json!({ "check": "postgres", "up": true, "class": null, "latency_ms": 0.4, "detail": "answers" });
    let answer: Value = json!({
        "member": "b1", "fresh": fresh, "operational": { "state": "ACTIVE", "code": null, "reason": "recovered" },
        "report": { "checks": [check] },
    });
    answer.to_string()
}

#[test]
fn checks_that_pass_now_are_exit_code_0() {
    let (url, server) = answer_once("200 OK", &answer(true));
    let output = baton(&["doctor", "--address", &url], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

// A check that hangs for longer than an answer may take leaves only the round before it, which proves nothing of now.
#[test]
fn checks_that_do_not_end_in_time_are_exit_code_1_whatever_the_last_round_found() {
    for format in [&[][..], &["-o", "json"]] {
        let (url, server) = answer_once("200 OK", &answer(false));
        let output = baton(&[&["doctor", "--address", &url], format].concat(), &[]);
        server.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        if format.is_empty() {
            assert!(stdout(&output).contains("did not end in time"), "{}", stdout(&output));
        } else {
            assert_eq!(parsed(&output)["fresh"], json!(false));
        }
    }
}

// What is allowed and dangerous is said beside the checks, and is no failed check.
#[test]
fn a_warning_of_the_configuration_is_said() {
    let mut said: Value = serde_json::from_str(&answer(true)).unwrap();
    said["warnings"] = json!(["orders are real and stops do not rest at the broker"]);
    let (url, server) = answer_once("200 OK", &said.to_string());
    let output = baton(&["doctor", "--address", &url], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(
        stdout(&output).ends_with("warning: orders are real and stops do not rest at the broker\n"),
        "{}",
        stdout(&output)
    );
}

// A live feed that is not there is to be mended, and holds no trading up: it is told apart from what does.
#[test]
fn what_trading_goes_on_without_is_degraded_and_not_failed() {
    let mut said: Value = serde_json::from_str(&answer(true)).unwrap();
    said["report"]["checks"][0] = json!({ "check": "websocket", "vital": false, "up": false, "class": "TRANSIENT",
        "latency_ms": 0.4, "detail": "the live feed at ws://127.0.0.1:8765 is connecting" });
    let (url, server) = answer_once("200 OK", &said.to_string());
    let output = baton(&["doctor", "--address", &url], &[]);
    server.join().unwrap();
    let text = stdout(&output);
    assert!(text.contains("degraded") && !text.contains("FAIL"), "{text}");
    assert_eq!(output.status.code(), Some(1), "it is not as it should be");
}
