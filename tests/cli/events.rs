//! `baton events`: the newest, and what follows, through an instance that goes away in between.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{answer_all, baton, command, stdout};

fn event(id: &str, at: &str, sentence: &str) -> Value {
    json!({ "id": id, "at": at, "kind": "state", "member": "b1", "sentence": sentence, "detail": { "to": "ACTIVE" } })
}

#[test]
fn events_are_lines_for_people_and_for_scripts() {
    let (url, _server) = answer_all(|_, path| {
        assert_eq!(path, "/api/v1/events?limit=2&from=2026-08-10T03:45:00.000000Z");
        let events = [
            event("a", "2026-08-10T03:46:00Z", "b1 is WAITING: follows"),
            event("b", "2026-08-10T03:47:00Z", "b1 is ACTIVE: leads"),
        ];
        ("200 OK", json!({ "events": events, "next": "x" }).to_string())
    });
    let ask = ["events", "--limit", "2", "--from", "2026-08-10T09:15:00+05:30", "--address", &url];
    let text = stdout(&baton(&ask, &[]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("09:16:00") && lines[0].ends_with("state         b1 is WAITING: follows"),
        "{text}"
    );
    let text = stdout(&baton(&[&ask[..], &["-o", "json"]].concat(), &[]));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["id"]), (2, &json!("b")), "{text}");
}

// One that was committed late appears below what was read before; an outage leaves nothing out.
#[test]
fn what_follows_is_shown_once_each_however_late_it_is_known() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let (url, _server) = answer_all(|_, path| {
        let (a, b) =
            (event("a", "2026-08-10T03:46:00Z", "first"), event("b", "2026-08-10T03:47:00Z", "second"));
        let late = event("late", "2026-08-10T03:46:59Z", "late");
        let events = match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => json!([a, b]),
            1 => {
                assert!(path.ends_with("&from=2026-08-10T03:46:45.000000Z"), "{path}");
                json!([b])
            }
            2 | 3 => return ("503 Service Unavailable", json!({ "code": "LEDGER_UNAVAILABLE" }).to_string()),
            _ if path.contains("T03:46:45") => json!([late, b, event("c", "2026-08-10T03:48:00Z", "third")]),
            _ => json!([event("c", "2026-08-10T03:48:00Z", "third")]),
        };
        ("200 OK", json!({ "events": events, "next": "x" }).to_string())
    });
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(&folder)
        .args(["events", "-f", "--every-ms", "50", "-o", "json", "--address", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ids: Vec<String> = (0..4)
        .map(|_| {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            line["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids, ["a", "b", "late", "c"]);
    // It has looked again by then, and showed nothing twice.
    let before = ASKED.load(Ordering::SeqCst);
    while ASKED.load(Ordering::SeqCst) < before + 2 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(lines.next().is_none());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("asked again until they can").count(), 1, "an outage is told once: {said}");
    assert!(said.contains("answers again"), "{said}");
}

#[test]
fn nobody_who_answers_is_exit_code_1() {
    let output = baton(&["events", "--address", "http://127.0.0.1:1", "-o", "json"], &[]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    let refused = baton(&["events", "--from", "yesterday"], &[]);
    assert_eq!(refused.status.code(), Some(2));
}
