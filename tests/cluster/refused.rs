//! Bodies that are no signal: each is answered with all its faults, and kept as it came, beside them.

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::signals::{GOLD, base};
use crate::support::cluster::{Cluster, Options};
use crate::support::member::TOKEN;

/// What is sent, and the answer that belongs to it.
struct Case {
    content: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// The fields that are told to be at fault, in order.
    faults: &'static [&'static str],
    /// A part of the sentence.
    says: &'static str,
}

fn cases() -> Vec<Case> {
    let json = "application/json";
    let good = base("good", GOLD, 140_000).to_string().into_bytes();
    // Spaces and order are the sender's: a body that was parsed and written again would not be the one that came.
    let wrong = br#"{ "type":  "BASE_ENTRY", "instrument": "PLATINUM", "position": "Long_9", "price": "dear",
        "stop": -1, "atr": -2, "er": 2, "lots": 1.5, "timestamp": "yesterday", "note": "as it came" }"#;
    let all = &["atr", "er", "instrument", "lots", "position", "price", "stop", "timestamp"];
    let long = json!({ "id": "x".repeat(20_000) }).to_string().into_bytes();
    let case = |content, body: &[u8], (status, code), faults, says| Case {
        content,
        body: body.to_vec(),
        status,
        code,
        faults,
        says,
    };
    vec![
        case(json, b"{\"id\": \"cut", (400, "MALFORMED"), &["body"], "is not a JSON object"),
        case(json, &[b'{', 0xff, 0x00], (400, "MALFORMED"), &["body"], "is not UTF-8 at byte 1"),
        case(json, b"", (400, "MALFORMED"), &["body"], "is not a JSON object"),
        case(json, &long, (413, "BODY_TOO_LARGE"), &["body"], "send at most 10240"),
        case("text/plain", &good, (415, "CONTENT_TYPE"), &[], "send the signal as application/json"),
        case(json, wrong, (422, "INVALID_SIGNAL"), all, "PLATINUM"),
    ]
}

// R: B3, LESSONS "the raw body kept"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_is_kept_byte_for_byte_with_every_fault_that_its_sender_was_told() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    let url = format!("{}/webhook", cluster.members[0].address);
    for (before, case) in cases().into_iter().enumerate() {
        let what =
            format!("{} {}", case.status, String::from_utf8_lossy(&case.body[..case.body.len().min(80)]));
        let request = cluster.client.post(&url).bearer_auth(TOKEN).header(CONTENT_TYPE, case.content);
        let answer = request.body(case.body.clone()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), case.status, "{what}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], case.code, "{what}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(case.says), "{what}: {problem}");
        let faults = problem["faults"].as_array().cloned().unwrap_or_default();
        let fields: Vec<&str> = faults.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
        assert_eq!(fields, case.faults, "{what}: {problem}");

        let id: uuid::Uuid = problem["kept_as"].as_str().expect("it is kept").parse().unwrap();
        let row = "SELECT raw_body, http_status, faults, received_by FROM signal_rejection WHERE id = $1";
        let row = cluster.sql.query_one(row, &[&id]).await.unwrap();
        assert_eq!(row.get::<_, Vec<u8>>(0), case.body, "{what}: byte for byte");
        assert_eq!(row.get::<_, i16>(1), i16::try_from(case.status).unwrap(), "{what}");
        let mut kept: Value = row.get(2);
        kept["kept_as"] = problem["kept_as"].clone();
        assert_eq!(kept, problem, "what its sender was told");
        assert_eq!(row.get::<_, String>(3), cluster.members[0].name);
        let all = cluster.count("SELECT count(*) FROM signal_rejection").await;
        assert_eq!(all, i64::try_from(before + 1).unwrap(), "{what}: once");
    }
    assert_eq!(cluster.count("SELECT count(*) FROM signal").await, 0);

    // A sender's secret is the one thing that is not kept.
    let secret = r#"{"secret": "s3cr3t", "type": "EXIT"}"#;
    let request = cluster.client.post(&url).bearer_auth(TOKEN).header(CONTENT_TYPE, "application/json");
    assert_eq!(request.body(secret).send().await.unwrap().status().as_u16(), 422);
    let newest = "SELECT raw_body FROM signal_rejection ORDER BY received_at DESC LIMIT 1";
    let kept: Vec<u8> = cluster.sql.query_one(newest, &[]).await.unwrap().get(0);
    assert_eq!(kept, secret.replace("s3cr3t", "***").into_bytes());
    cluster.finish().await;
}
