//! What the verbs about stored state print, against files in `snapshots`: over a real ledger and a real book, with what differs from
//! run to run masked.
//!
//! A change that is meant is written with `INSTA_UPDATE=always cargo nextest run --test recovery answers`; the difference is the review.

use std::process::Output;

use rust_decimal::dec;
use serde_json::json;

use crate::reviewed::compare;
use crate::seeded::{Copy, Seeded};
use crate::signals::{GOLD, GOLD_SYMBOL, SILVER_SYMBOL};
use crate::support::cluster::PATIENCE;
use crate::support::{paper, wait};

/// A word from somebody, without being asked again.
const WORD: [&str; 3] = ["--operator", "asha", "--yes"];

/// What stands before a number that differs from run to run, or from one schema to the next.
const NUMBERS: [&str; 8] = [
    "\"bytes\":",
    "\"rows\":",
    "\"took_ms\":",
    "\"schema\":",
    "\"epoch\":",
    // The leader seals once a minute.
    "\"sealed\":",
    ", schema ",
    " epoch ",
];
/// Decimals of a stored figure; those of a book follow the market by a trailed stop.
const STORED: usize = 8;
/// What stands before a figure that was calculated of such ones.
const CALCULATED: [&str; 2] = ["Calculated=", "\"calculated\":\""];

/// What is at the start of a text and differs from run to run: its length, and what is shown for it.
fn varying(text: &str) -> Option<(usize, &'static str)> {
    let run = |of: fn(char) -> bool| text.find(|c| !of(c)).unwrap_or(text.len());
    let hex = run(|c| c.is_ascii_hexdigit() || c == '-');
    if hex >= 36 && text[..36].matches('-').count() == 4 && &text[8..9] == "-" {
        return Some((36, "ID"));
    }
    if hex == 64 {
        return Some((64, "HASH"));
    }
    let time = run(|c| c.is_ascii_digit() || "-:.TZ ".contains(c));
    if time >= 19 && text.as_bytes()[4] == b'-' && text.as_bytes()[13] == b':' {
        let fraction = text[19..time].trim_end().trim_end_matches(['-', ':']);
        return Some((19 + fraction.len(), "TIME"));
    }
    let number = run(|c| c.is_ascii_digit());
    let decimals = text[number..]
        .strip_prefix('.')
        .map_or(0, |rest| rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len());
    if number > 0 && decimals == STORED {
        return Some((number + 1 + STORED, "AMOUNT"));
    }
    let counted = [" bytes", " rows", " ms"].iter().any(|unit| text[number..].starts_with(unit));
    match number {
        0 => None,
        12.. => Some((number, "ORDER")),
        _ if counted => Some((number, "N")),
        _ => Some((number, "")),
    }
}

fn masked(text: &str) -> String {
    let (mut shown, mut at) = (String::new(), 0);
    while let Some(next) = text[at..].chars().next() {
        let inside = shown.ends_with(|c: char| c.is_ascii_alphanumeric());
        let ends_with = |before: &&str| shown.ends_with(*before);
        let member = NUMBERS.iter().any(ends_with) || CALCULATED.iter().any(ends_with);
        match varying(&text[at..]).filter(|_| !inside) {
            Some((length, "")) if !member => {
                shown += &text[at..at + length];
                at += length;
            }
            Some((length, mask)) => {
                shown += if mask.is_empty() { "N" } else { mask };
                at += length;
            }
            None => {
                shown.push(next);
                at += next.len_utf8();
            }
        }
    }
    shown
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Asks until Redis has forgotten the process that seeded the ledger, and nothing that lapses there lapsed on the way.
async fn patiently(copy: &Copy, words: &[&str]) -> Output {
    const LAPSES: [&str; 3] = [
        "instances show in Redis",
        "holds the leader's lease",
        "the mark in Redis was lost before the order was sent",
    ];
    wait::until("no lapse in Redis", PATIENCE, async || {
        let output = copy.baton(words).await;
        let text = said(&output);
        if LAPSES.iter().any(|lapse| text.contains(lapse)) { Err(text) } else { Ok(output) }
    })
    .await
}

/// Answers under the names of their files.
#[derive(Default)]
struct Answers(Vec<(String, String)>);

impl Answers {
    fn keep(&mut self, name: &str, words: &[&str], code: i32, output: &Output) {
        let text = said(output);
        assert_eq!(output.status.code(), Some(code), "{name}: {text}");
        assert!(!text.contains('\x1b'), "no colours off a terminal: {name}");
        let shown = masked(&format!("$ baton {}\n{text}", words.join(" ")));
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, before)) => *before += &shown,
            None => self.0.push((name.to_owned(), shown)),
        }
    }

    /// Asks for people and for scripts.
    async fn ask(&mut self, copy: &Copy, name: &str, words: &[&str], code: i32) {
        for format in ["text", "json"] {
            self.once(copy, name, &[words, &["-o", format]].concat(), code).await;
        }
    }

    async fn once(&mut self, copy: &Copy, name: &str, words: &[&str], code: i32) {
        let output = copy.baton(words).await;
        self.keep(name, words, code, &output);
    }
}

/// An order that somebody places at the broker's own terminal.
async fn bought_by_hand(seeded: &Seeded, quantity: i64) {
    let body = json!({
        "apikey": paper::KEY, "strategy": "by hand", "symbol": GOLD_SYMBOL, "exchange": "MCX", "action": "BUY",
        "product": "NRML", "pricetype": "MARKET", "quantity": quantity, "price": 0, "trigger_price": 0,
    });
    let url = format!("{}/api/v1/placeorder", seeded.paper.http);
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

// R: H9; OPS.md "Operator CLI"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_stored_state_is_as_it_was_reviewed() {
    let seeded = Seeded::start().await;
    let mut answers = Answers::default();
    let whole = seeded.copy("whole").await;
    answers.ask(&whole, "recover-check", &["recover", "--check"], 0).await;
    answers.ask(&whole, "recover-repair", &["recover", "--repair"], 0).await;
    answers.ask(&whole, "audit-verify", &["audit", "verify"], 0).await;
    let damaged = seeded.copy("damaged").await;
    damaged.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    answers.ask(&damaged, "recover-check-damaged", &["recover", "--check"], 1).await;
    answers.ask(&damaged, "recover-repair-damaged", &["recover", "--repair"], 1).await;
    let unasked = ["recover", "--repair", "--apply", "--reason", "closed by hand", "--operator", "asha"];
    answers.ask(&damaged, "recover-repair-unasked", &unasked, 1).await;
    let tampered = seeded.copy("tampered").await;
    tampered
        .damage("ALTER TABLE audit_log DISABLE TRIGGER USER; UPDATE audit_log SET actor = 'somebody' WHERE seq = 2")
        .await;
    answers.ask(&tampered, "audit-verify-tampered", &["audit", "verify"], 1).await;

    for (file, format) in [("baton.dump", "text"), ("again.dump", "json")] {
        answers.once(&whole, "backup", &["backup", file, "-o", format], 0).await;
    }
    let unasked = ["restore", "baton.dump", "--reason", "disk lost", "--operator", "asha"];
    answers.keep("restore-unasked", &unasked, 1, &patiently(&whole, &unasked).await);
    let url = seeded.stores.create_database("restored").await.unwrap();
    let restored = seeded.at(url);
    for (format, more) in [("text", "--dry-run"), ("json", "--dry-run"), ("text", "--yes")] {
        let words =
            ["restore", "baton.dump", "--reason", "disk lost", "--operator", "asha", "-o", format, more];
        let output = patiently(&restored, &words).await;
        answers.keep("restore", &words, 0, &output);
    }

    compare("recovery/snapshots/state", answers.0);
}

// R: H9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_what_the_broker_has_is_as_it_was_reviewed() {
    let seeded = Seeded::start().await;
    let mut answers = Answers::default();
    let (whole, other) = (seeded.copy("whole").await, seeded.copy("other").await);
    // The order that rests at the broker: a word that its book contradicts, and one that stands all the same.
    let order: uuid::Uuid =
        whole.row("SELECT id FROM order_intent WHERE state = 'acknowledged'").await.get(0);
    let order = order.to_string();
    let word = ["orders", "resolve", &order, "--as", "cancelled", "--evidence", "the broker's desk said so"];
    answers.ask(&whole, "orders-resolve-contradicted", &[&word[..], &WORD].concat(), 1).await;
    let despite = [&word[..], &WORD, &["--despite-books"]].concat();
    let unasked = [&word[..], &["--operator", "asha", "--despite-books"]].concat();
    answers.once(&whole, "orders-resolve-unasked", &unasked, 1).await;
    answers.once(&whole, "orders-resolve", &[&despite[..], &["-o", "text"]].concat(), 0).await;
    answers.once(&other, "orders-resolve", &[&despite[..], &["-o", "json"]].concat(), 0).await;

    seeded.paper.post("fills", json!({ "hold": false })).await;
    let lot: i64 = whole.row("SELECT lot_size FROM position WHERE status = 'open' LIMIT 1").await.get(0);
    bought_by_hand(&seeded, 2 * lot).await;
    let adopt = ["positions", "adopt", GOLD, "--lots", "2", "--price", "140250", "--stop", "138900"];
    answers.ask(&whole, "positions-adopt", &adopt, 0).await;
    let apply = [&adopt[..], &["--apply", "--reason", "bought by hand on Monday"]].concat();
    answers.once(&whole, "positions-adopt-unasked", &[&apply[..], &["--operator", "asha"]].concat(), 1).await;
    let apply = [&apply[..], &WORD].concat();
    answers.once(&whole, "positions-adopt-apply", &[&apply[..], &["-o", "text"]].concat(), 0).await;
    answers.once(&other, "positions-adopt-apply", &[&apply[..], &["-o", "json"]].concat(), 0).await;
    answers.once(&whole, "positions-adopt-apply", &apply, 1).await;

    // The database is gone: what the broker holds is sold without it.
    seeded.paper.set_price(GOLD_SYMBOL, "MCX", dec!(143000)).await;
    seeded.stores.postgres().stop().await.unwrap();
    for (symbol, format) in [(GOLD_SYMBOL, "text"), (SILVER_SYMBOL, "json"), ("all", "text"), ("all", "json")]
    {
        let name = if symbol == "all" { "emergency-close-all" } else { "emergency-close" };
        let which = if symbol == "all" { "--all" } else { symbol };
        let words =
            [&["emergency-close", which, "--reason", "the database is gone"], &WORD[..], &["-o", format]]
                .concat();
        let output = patiently(&whole, &words).await;
        answers.keep(name, &words, 0, &output);
    }
    compare("recovery/snapshots/broker", answers.0);
}
