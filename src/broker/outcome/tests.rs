//! The table over bytes: each row of the module's table, each quirk of the bridge.

use super::*;
use crate::broker::plugin::PLUGINS;
use crate::broker::types::NotSentCause as Cause;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What a row must come to.
#[derive(Debug)]
enum Expect {
    Ack(&'static str),
    Rejected,
    NotSent(Cause),
    InDoubt,
    WrongMode(Option<&'static str>),
}
use Expect::{Ack, InDoubt, NotSent, Rejected, WrongMode};

fn of(verb: Verb, armed: BridgeMode, status: u16, kind: &str, body: &str) -> Submission {
    let answer = Answer { status, content_type: Some(kind.to_owned()), body: body.as_bytes().to_vec() };
    of_answer(verb, armed, &Plugin::ANY, &answer)
}

fn check(verb: Verb, armed: BridgeMode, status: u16, kind: &str, body: &str, expect: &Expect) {
    let found = of(verb, armed, status, kind, body);
    let right = match (expect, &found) {
        (Ack(id), Submission::Acknowledged { order_id }) => id == order_id,
        (Rejected, Submission::Rejected { reason, .. }) => !reason.is_empty(),
        (NotSent(want), Submission::NotSent { cause, .. }) => want == cause,
        (InDoubt, Submission::InDoubt { wrong_mode: None, .. }) => true,
        (WrongMode(id), Submission::InDoubt { wrong_mode: Some(wrong), .. }) => {
            wrong.found != armed && wrong.order_id.as_deref() == *id
        }
        _ => false,
    };
    assert!(right, "{verb:?} armed {armed}: HTTP {status} {body}\n expected {expect:?}, found {found:?}");
}

#[test]
fn answers_to_a_live_place() {
    let rows: &[(u16, &str, &str, Expect)] = &[
        (200, JSON, r#"{"orderid":"250808000001","status":"success"}"#, Ack("250808000001")),
        (200, JSON, r#"{"orderid":1110913228,"status":"success"}"#, Ack("1110913228")),
        (200, JSON, r#"{"orderid":" 7 ","status":"success","mode":null}"#, Ack("7")),
        (200, JSON, r#"{"orderid":"7","status":"success","mode":"live"}"#, Ack("7")),
        (200, JSON, r#"{"orderid":"7","status":"success","mode":"analyze"}"#, WrongMode(Some("7"))),
        (200, JSON, r#"{"orderid":"7","status":"success","mode":"other"}"#, InDoubt),
        (200, JSON, r#"{"orderid":"7","status":"success","mode":1}"#, InDoubt),
        (
            200,
            JSON,
            r#"{"status":"success","mode":"semi_auto","message":"Order queued","pending_order_id":1}"#,
            NotSent(Cause::QueuedForHuman),
        ),
        (200, JSON, r#"{"status":"success","mode":"semi_auto","orderid":"9"}"#, InDoubt),
        (200, JSON, r#"{"orderid":null,"status":"success"}"#, Rejected),
        (200, JSON, r#"{"orderid":"","status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":"None","status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":0,"status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":-1,"status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":1.5,"status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":true,"status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":["7"],"status":"success"}"#, InDoubt),
        (200, JSON, r#"{"status":"success"}"#, InDoubt),
        (200, JSON, r#"{"orderid":"7"}"#, InDoubt),
        (200, JSON, r#"{"orderid":"7","status":"ok"}"#, InDoubt),
        (200, JSON, r#"{"status":"error","message":"RMS: margin exceeds"}"#, Rejected),
        (200, JSON, r#"{"status":"error","message":{"code":"RMS"}}"#, Rejected),
        (200, JSON, r#"{"status":"error","orderid":"7","message":"late"}"#, InDoubt),
        (200, JSON, r#"{"status":"error"}"#, InDoubt),
        (200, JSON, r#"{"orderid":"7","status":"succ"#, InDoubt),
        (200, JSON, "", InDoubt),
        (200, JSON, "null", InDoubt),
        (200, JSON, "[]", InDoubt),
        (200, HTML, r#"{"orderid":"7","status":"success"}"#, InDoubt),
        (200, HTML, "<html>login</html>", InDoubt),
        (201, JSON, r#"{"orderid":"7","status":"success"}"#, InDoubt),
        (302, HTML, "", InDoubt),
        (
            400,
            JSON,
            r#"{"status":"error","message":"{'quantity': ['Missing data for required field.']}"}"#,
            NotSent(Cause::Validation),
        ),
        (400, JSON, r#"{"status":"error","message":{"tag":["Unknown field."]}}"#, NotSent(Cause::Validation)),
        (
            400,
            JSON,
            r#"{"message":"The browser (or proxy) sent a request that this server could not understand."}"#,
            NotSent(Cause::Validation),
        ),
        (400, JSON, r#"{"status":"error","message":"Insufficient funds"}"#, Rejected),
        (400, JSON, r#"{"status":"error","message":"Insufficient funds","orderid":null}"#, Rejected),
        (400, JSON, r#"{"status":"error","message":"short sell","orderid":"8"}"#, InDoubt),
        (400, JSON, r#"{"message":"who knows"}"#, InDoubt),
        (400, JSON, r#"{"status":"error"}"#, InDoubt),
        (400, JSON, r#"{"status":"error","message":{}}"#, Rejected),
        (400, HTML, "<h1>Bad Request</h1>", InDoubt),
        (401, JSON, r#"{"status":"error","message":"no"}"#, InDoubt),
        (
            403,
            JSON,
            r#"{"message":"Invalid openalgo apikey","status":"error"}"#,
            NotSent(Cause::SessionExpired),
        ),
        (403, JSON, r#"{"message":"Incorrect `api_key` or `access_token`.","status":"error"}"#, InDoubt),
        (403, HTML, "<h1>Forbidden</h1>", InDoubt),
        (
            404,
            JSON,
            r#"{"status":"error","message":"Not found","path":"/api/v1/placeorder"}"#,
            NotSent(Cause::UnknownRoute),
        ),
        (
            404,
            JSON,
            r#"{"status":"error","message":"Broker-specific module not found"}"#,
            NotSent(Cause::UnknownRoute),
        ),
        (404, HTML, "<h1>nginx</h1>", InDoubt),
        (408, HTML, "", InDoubt),
        (429, JSON, r#"{"message":"10 per 1 second"}"#, NotSent(Cause::RateLimited)),
        (429, JSON, r#"{"message":"100 per 1 minute"}"#, NotSent(Cause::RateLimited)),
        (429, JSON, r#"{"status":"error","message":"Too many requests"}"#, InDoubt),
        (429, JSON, r#"{"message":"Limit: 10 per 1 second"}"#, InDoubt),
        (429, JSON, r#"{"message":" per 1 second"}"#, InDoubt),
        (429, JSON, r#"{"message":"10 per second"}"#, InDoubt),
        (429, JSON, r#"{}"#, InDoubt),
        (500, JSON, r#"{"status":"error","message":"Failed to place order due to internal error"}"#, InDoubt),
        (500, JSON, r#"{"orderid":"7","status":"success"}"#, InDoubt),
        (502, HTML, "<html>Bad Gateway</html>", InDoubt),
        (503, JSON, r#"{"status":"error","message":"down"}"#, InDoubt),
        (504, JSON, r#"{"status":"error","message":"Gateway timed out"}"#, InDoubt),
    ];
    for (status, kind, body, expect) in rows {
        check(Verb::Place, BridgeMode::Live, *status, kind, body, expect);
    }
}

// The sandbox books its refusals: without the id the row in its book would look like somebody else's order.
#[test]
fn a_booked_refusal_keeps_its_id() {
    let body = r#"{"mode":"analyze","status":"error","message":"CNC short sell","orderid":"8"}"#;
    let refused = of(Verb::Place, BridgeMode::Analyze, 400, JSON, body);
    let (reason, order_id) = ("CNC short sell".to_owned(), Some("8".to_owned()));
    assert_eq!(refused, Submission::Rejected { reason, order_id });
}

#[test]
fn answers_to_a_place_in_the_sandbox() {
    let rows: &[(u16, &str, Expect)] = &[
        (200, r#"{"mode":"analyze","orderid":"25080812345678","status":"success"}"#, Ack("25080812345678")),
        // Only a live bridge leaves the mode out: an order that was meant for paper exists.
        (200, r#"{"orderid":"25080812345678","status":"success"}"#, WrongMode(Some("25080812345678"))),
        (200, r#"{"orderid":"7","status":"success","mode":null}"#, WrongMode(Some("7"))),
        (200, r#"{"orderid":null,"status":"success"}"#, WrongMode(None)),
        (200, r#"{"mode":"live","orderid":"7","status":"success"}"#, WrongMode(Some("7"))),
        (400, r#"{"mode":"analyze","status":"error","message":"CNC short sell","orderid":"8"}"#, Rejected),
        (400, r#"{"mode":"analyze","status":"error","message":"unable to fetch current price"}"#, Rejected),
        (400, r#"{"status":"error","message":"short sell","orderid":"8"}"#, InDoubt),
        (500, r#"{"mode":"analyze","status":"error","message":"x"}"#, InDoubt),
    ];
    for (status, body, expect) in rows {
        check(Verb::Place, BridgeMode::Analyze, *status, JSON, body, expect);
    }
}

#[test]
fn answers_to_modify_and_cancel() {
    let rows: &[(u16, &str, Expect)] = &[
        (200, r#"{"status":"success","orderid":"7"}"#, Ack("7")),
        (200, r#"{"status":"success","orderid":"7","mode":"analyze"}"#, Ack("7")),
        (200, r#"{"status":"success","orderid":"7","mode":"live"}"#, WrongMode(Some("7"))),
        (400, r#"{"status":"error","message":"Order already complete"}"#, Rejected),
        (404, r#"{"status":"error","message":"Order not found"}"#, Rejected),
        (404, r#"{"status":"error","message":"Not found","path":"/x"}"#, NotSent(Cause::UnknownRoute)),
        (404, r#"{"message":"?"}"#, InDoubt),
        (
            500,
            r#"{"status":"error","message":"Failed to cancel order: Client error '400 Bad Request'"}"#,
            InDoubt,
        ),
        (429, r#"{"message":"10 per 1 second"}"#, NotSent(Cause::RateLimited)),
    ];
    for verb in [Verb::Modify, Verb::Cancel] {
        for (status, body, expect) in rows {
            check(verb, BridgeMode::Analyze, *status, JSON, body, expect);
        }
    }
}

#[test]
fn success_without_an_order_id_is_a_refusal_where_the_plugin_refuses_so() {
    let body = br#"{"orderid":null,"status":"success"}"#;
    let answer = Answer { status: 200, content_type: Some(JSON.to_owned()), body: body.to_vec() };
    let refuses = ["any", "angel", "firstock", "flattrade", "kotak", "shoonya", "upstox"];
    for plugin in PLUGINS {
        let found = of_answer(Verb::Place, BridgeMode::Live, plugin, &answer);
        let expected = if refuses.contains(&plugin.name) {
            matches!(found, Submission::Rejected { .. })
        } else {
            matches!(found, Submission::InDoubt { wrong_mode: None, .. })
        };
        assert!(expected, "{}: {found:?}", plugin.name);
    }
}

#[test]
fn a_missing_content_type_is_judged_by_the_body() {
    let body = br#"{"orderid":"7","status":"success"}"#.to_vec();
    let answer = Answer { status: 200, content_type: None, body };
    let found = of_answer(Verb::Place, BridgeMode::Live, &Plugin::ANY, &answer);
    assert_eq!(found, Submission::Acknowledged { order_id: "7".to_owned() });
}

#[test]
fn only_faults_before_the_write_prove_anything() {
    let text = || "x".to_owned();
    let causes = [
        (Fault::Connect(text()), Some(Cause::Connect)),
        (Fault::HandedBack(text()), Some(Cause::ConnectionLost)),
        (Fault::Withheld, Some(Cause::Deadline)),
        (Fault::Budget(5), Some(Cause::RateLimited)),
        (Fault::TimedOut(5), None),
        (Fault::Broken(text()), None),
    ];
    for (fault, expect) in causes {
        let found = match of_fault(&fault) {
            Submission::NotSent { cause, .. } => Some(cause),
            Submission::InDoubt { wrong_mode: None, .. } => None,
            other => panic!("{fault:?} came to {other:?}"),
        };
        assert_eq!(found, expect, "{fault:?}");
    }
}

proptest::proptest! {
    /// Whatever arrives, an acknowledgement or a refusal needs the bridge's own words for it.
    #[test]
    fn noise_is_in_doubt(status in 100u16..600, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let answer = Answer { status, content_type: Some(JSON.to_owned()), body };
        let found = of_answer(Verb::Place, BridgeMode::Live, &Plugin::ANY, &answer);
        let in_doubt = matches!(found, Submission::InDoubt { .. });
        proptest::prop_assert!(in_doubt || serde_json::from_slice::<Object>(&answer.body).is_ok());
    }

    /// No status but 200 acknowledges, and no 5xx proves anything, whatever the body claims.
    #[test]
    fn a_success_body_needs_its_status(status in 100u16..600) {
        let found = of(Verb::Place, BridgeMode::Live, status, JSON, r#"{"status":"success","orderid":"7"}"#);
        let acknowledged = matches!(found, Submission::Acknowledged { .. });
        proptest::prop_assert_eq!(acknowledged, status == 200);
        if status >= 500 {
            let in_doubt = matches!(found, Submission::InDoubt { .. });
            proptest::prop_assert!(in_doubt);
        }
    }
}
