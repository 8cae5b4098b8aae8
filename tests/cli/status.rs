use serde_json::json;

use super::support::{answer_all, answer_once, baton, json, stderr, stdout};

fn cluster(instances: serde_json::Value) -> String {
    json!({"cluster": "desk", "epoch": 17, "ha_degraded": false, "instances": instances}).to_string()
}

fn two() -> String {
    two_of_which_the_leader_is(json!({"state": "ACTIVE", "code": null, "reason": "recovered"}))
}

fn two_of_which_the_leader_is(operational: serde_json::Value) -> String {
    cluster(json!([
        {"instance": "b1/0190a", "status": "active", "role": "leader", "epoch": 17, "address": "http://b1:8080",
         "operational": operational},
        {"instance": "b2-with-a-long-name/0190b", "status": "active", "role": "follower", "epoch": 17,
         "address": "http://b2:8080", "version": "0.1.0",
         "operational": {"state": "WAITING", "code": null, "reason": "follower: b1 leads under epoch 17"}},
    ]))
}

/// The exit code of `baton status` and what it says, when an instance answers this.
fn verdict(body: &str) -> (Option<i32>, String) {
    let (url, server) = answer_once("200 OK", body);
    let output = baton(&["status", "--address", &url], &[]);
    server.join().unwrap();
    (output.status.code(), stdout(&output))
}

#[test]
fn a_leader_in_error_is_down_and_its_code_and_reason_are_named() {
    let reason = "VALIDATION_FAILED: Risk amount mismatch: DB=1, Calculated=2";
    let error = json!({"state": "ERROR", "code": "VALIDATION_FAILED", "reason": reason});
    let (code, said) = verdict(&two_of_which_the_leader_is(error));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&format!("b1/0190a leads in ERROR VALIDATION_FAILED: {reason}")), "{said}");
}

#[test]
fn a_leader_that_waits_is_degraded_and_says_for_what() {
    let waits = json!({"state": "WAITING", "code": null, "reason": "the bridge is not usable: refused"});
    let (code, said) = verdict(&two_of_which_the_leader_is(waits));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("b1/0190a leads, but is WAITING: the bridge is not usable: refused"), "{said}");
    let (code, said) = verdict(&two_of_which_the_leader_is(json!(null)));
    assert_eq!(code, Some(1), "what is not known is not well: {said}");
}

#[test]
fn switches_that_are_on_are_listed() {
    let mut body: serde_json::Value = serde_json::from_str(&two()).unwrap();
    body["switches"] = json!([
        {"switch": "halted", "on": true, "who": "asha", "why": "exchange trouble"},
        {"switch": "reduce_only", "on": false, "who": null, "why": null},
        {"instrument": "GOLD_MINI", "switch": "halted", "on": true, "who": "ravi", "why": "odd prices"},
    ]);
    let (code, said) = verdict(&body.to_string());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("halted is on, by asha: exchange trouble"), "{said}");
    assert!(said.contains("halted of GOLD_MINI is on, by ravi: odd prices"), "{said}");
    assert!(!said.contains("reduce_only"), "{said}");
}

#[test]
fn a_healthy_cluster_is_a_table_and_exit_code_0() {
    let (url, server) = answer_once("200 OK", &two());
    let output = baton(&["status", "--address", &url], &[]);
    assert_eq!(server.join().unwrap(), "GET /api/v1/cluster HTTP/1.1");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output), @"
    desk is healthy, epoch 17
    the account's day is not known
    INSTANCE                   STATUS  ROLE      STATE    SINCE  EPOCH  ADDRESS
    b1/0190a                   active  leader    ACTIVE   -      17     http://b1:8080
    b2-with-a-long-name/0190b  active  follower  WAITING  -      17     http://b2:8080
    ");
}

#[test]
fn scripts_get_the_verdict_and_everything_the_instance_said() {
    let (url, server) = answer_once("200 OK", &two());
    let output = baton(&["status", "-o", "json"], &[("BATON_ADDRESS", &url)]);
    server.join().unwrap();
    let answer = json(&output);
    assert_eq!(answer["health"], "healthy");
    assert_eq!(answer["address"], url);
    assert_eq!(answer["cluster"]["instances"][1]["version"], "0.1.0");
}

// What nobody knows is said to be unknown, and why; a day that is not opened has no profit.
#[test]
fn a_day_whose_worth_nobody_knows_says_so() {
    fn answer(_: &str, path: &str) -> (&'static str, String) {
        let day = json!({
            "date": "2026-08-10", "opening_equity": null, "equity": null, "pnl": null, "realised": "0", "charges": "87.94",
            "unrealised": null, "unknown": "no live price for GOLDM05DEC25FUT", "orders": 1, "stop_outs": 0,
            "latched": [],
        });
        ("200 OK", if path == "/api/v1/day" { day.to_string() } else { two() })
    }
    let (url, _server) = answer_all(answer);
    let said = stdout(&baton(&["status", "--address", &url], &[]));
    let line = "2026-08-10: not opened yet, now not known: no live price for GOLDM05DEC25FUT, realised +₹0.00 before charges of ₹87.94, 1 order, \
                0 stop-outs in a row; no limit is hit";
    assert!(said.contains(line), "{said}");
}

#[test]
fn a_leader_without_a_standby_is_exit_code_1() {
    let alone = cluster(json!([{"instance": "b1/0190a", "status": "active", "role": "leader", "epoch": 17,
        "operational": {"state": "ACTIVE", "code": null, "reason": "recovered"}}]));
    let (url, server) = answer_once("200 OK", &alone);
    let output = baton(&["status", "--address", &url], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("\n  no other instance is ready to take over\n"), "{}", stdout(&output));
}

#[test]
fn no_leader_is_exit_code_2() {
    let headless =
        cluster(json!([{"instance": "b1/0190a", "status": "active", "role": "follower", "epoch": null}]));
    let (url, server) = answer_once("200 OK", &headless);
    let output = baton(&["status", "-o", "json", "--address", &url], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(json(&output)["health"], "down");
}

#[test]
fn an_instance_that_is_gone_does_not_hide_the_others() {
    // A port that was just free; the next address answers.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, server) = answer_once("200 OK", &two());
    let output = baton(&["status", "--address", &format!("http://{gone},{url}")], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn nobody_answering_is_exit_code_2_and_says_who_was_asked() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, server) = answer_once("503 Service Unavailable", "{}");
    let output = baton(&["status", "--address", &format!("http://{gone}"), "--address", &url], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    assert!(text.starts_with("down: no instance answers\n"), "{text}");
    assert!(text.contains(&format!("http://{gone} does not answer")), "{text}");
    assert!(text.contains("503 Service Unavailable"), "{text}");
}

#[test]
fn an_answer_of_another_kind_is_not_taken_for_degraded() {
    let (url, server) = answer_once("200 OK", r#"{"status":"success"}"#);
    let output = baton(&["status", "--address", &url], &[]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("but not as a baton instance"), "{}", stderr(&output));
    assert!(stderr(&output).contains("\n  caused by: missing field `instances`"), "{}", stderr(&output));
}

#[test]
fn the_address_comes_from_the_configuration_without_its_secrets() {
    let (url, server) = answer_once("200 OK", &two());
    let output = baton(&["status"], &[("BATON_CLUSTER__ADDRESS", &url)]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
