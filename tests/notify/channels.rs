//! Each channel against a double that speaks its protocol, and `baton notify test` through them.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::HeaderMap;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::double::{Script, Telegram};

type Kept = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// A server that keeps every request and answers 200.
async fn sink() -> (String, Kept) {
    let kept = Kept::default();
    let keep = async |State(kept): State<Kept>, headers: HeaderMap, body: Bytes| {
        kept.lock().unwrap().push((headers, body.to_vec()));
        Json(serde_json::json!({}))
    };
    let router = Router::new().route("/hook", post(keep)).with_state(Arc::clone(&kept));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, kept)
}

/// A mail server for one mail; joining it gives the mail.
fn mail_server() -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        stream.write_all(b"220 double\r\n").unwrap();
        let mut mail = String::new();
        while let Some(line) = lines.next() {
            let answer = match line.split(' ').next().unwrap_or_default().to_uppercase().as_str() {
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").unwrap();
                    for line in lines.by_ref().take_while(|line| line != ".") {
                        mail += &line;
                        mail.push('\n');
                    }
                    "250 taken"
                }
                "QUIT" => break,
                _ => "250 fine",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
        }
        mail
    });
    (url, server)
}

fn notify_test(env: &[(&str, String)]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.env_clear().current_dir(folder.path()).args(["notify", "test", "-o", "json"]);
    command.env("BATON_CLUSTER__MEMBER", "b1").envs(env.iter().map(|(key, value)| (*key, value)));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

// R: N11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notify_test_sends_through_every_channel_and_says_what_each_answered() {
    let telegram = Telegram::start().await;
    let (hook, hooked) = sink().await;
    let (slack, slacked) = sink().await;
    let (smtp, server) = mail_server();
    let mut env = telegram.env();
    env.extend([
        ("BATON_NOTIFY__WEBHOOK_URL", hook),
        ("BATON_NOTIFY__WEBHOOK_SECRET", "s3cret".to_owned()),
        ("BATON_NOTIFY__SLACK_URL", slack),
        ("BATON_NOTIFY__SMTP_URL", smtp),
        ("BATON_NOTIFY__SMTP_FROM", "baton@example.org".to_owned()),
        ("BATON_NOTIFY__SMTP_TO", "ops@example.org, oncall@example.org".to_owned()),
    ]);
    let (code, out, err) = notify_test(&env);
    assert_eq!(code, Some(0), "{out}{err}");
    let results: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> =
        results["results"].as_array().unwrap().iter().map(|result| result["channel"].clone()).collect();
    assert_eq!(names, ["telegram", "webhook", "slack", "email"]);

    assert!(telegram.delivered()[0].starts_with("[baton] INFO TEST\n"));
    let (headers, body) = hooked.lock().unwrap().remove(0);
    let text = String::from_utf8(body).unwrap();
    let time = headers["x-baton-timestamp"].to_str().unwrap();
    let signature = baton::notify::channels::sign(b"s3cret", time, &text);
    assert_eq!(headers["x-baton-signature"].to_str().unwrap(), format!("sha256={signature}"));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["severity"], &document["possible_repeat"]), (&"info".into(), &false.into()));
    assert_eq!(headers["idempotency-key"].to_str().unwrap(), document["id"].as_str().unwrap());
    let (_, body) = slacked.lock().unwrap().remove(0);
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert!(document["text"].as_str().unwrap().contains("INFO TEST"), "{document}");
    let mail = server.join().unwrap();
    for part in
        ["From: baton@example.org", "oncall@example.org", "Subject: [baton] INFO TEST", "Message-ID: <"]
    {
        assert!(mail.contains(part), "{part:?} is missing in\n{mail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notify_test_fails_when_a_channel_does_and_shows_no_secret() {
    let telegram = Telegram::start().await;
    telegram.script(&[Script::Kicked]);
    let (code, out, err) = notify_test(&telegram.env());
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("kicked"), "{out}");

    let mut env = telegram.env();
    env[0].1 = "http://127.0.0.1:9".to_owned();
    let (code, out, err) = notify_test(&env);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("refused") && !format!("{out}{err}").contains("secret-token"), "{out}{err}");

    let (code, _, err) = notify_test(&[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no channel is configured: set telegram_bot_token"), "{err}");
}
