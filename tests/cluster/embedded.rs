//! `baton run --local DIR`: one program with its own PostgreSQL and Redis, stopped and started again where it was.

use std::path::Path;
use std::time::Instant;

use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::faults::fails;
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{PATIENCE, client};
use crate::support::database::folder_for_stores;
use crate::support::family::{family, over};
use crate::support::member::{Member, TOKEN};
use crate::support::paper::{self, Paper};
use crate::support::process::{Launch, bare_env};
use crate::support::wait;

/// No more than somebody sets who tries it out, and what a position needs to outlive the only instance.
fn launch(folder: &Path, paper: &Paper, log: &str) -> Launch {
    let mut env = bare_env();
    for (key, value) in [
        ("BATON_CLUSTER__MEMBER", "only"),
        ("BATON_HTTP__LISTEN", "127.0.0.1:0"),
        ("BATON_BROKER__URL", &paper.http),
        ("BATON_FEED__URL", &paper.ws),
        ("BATON_BROKER__API_KEY", paper::KEY),
        ("BATON_SIGNALS__TOKEN", TOKEN),
        ("BATON_TRADING__CAPITAL", "10000000"),
        ("BATON_SHUTDOWN__EXIT_POLICY", "hold"),
    ] {
        env.insert(key.to_owned(), value.to_owned());
    }
    let arguments = ["run", "-o", "json", "--local", "stores"].map(str::to_owned).to_vec();
    Launch { arguments, env, folder: folder.to_owned(), log: folder.join(log) }
}

async fn trades(member: &Member) {
    wait::until("it trades", PATIENCE, async || {
        if member.trades().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
}

/// Delivers a signal and waits until it is executed.
async fn executed(member: &Member, body: &Value) {
    let (status, accepted) = member.deliver(body).await.expect("an answer");
    assert_eq!(status.as_u16(), 202, "{accepted}");
    let path = format!("/api/v1/signals/{}", accepted["id"].as_str().unwrap());
    let view = wait::until("the signal is final", PATIENCE, async || {
        let view = member.json(&path).await.unwrap_or_default();
        if view["finished_at"].is_string() { Ok(view) } else { Err((view, member.process.tail())) }
    })
    .await;
    assert_eq!(view["status"], "executed", "{view}");
}

/// Stops it as a service manager does: its stores end in order, and no process of it is left.
async fn stops(member: &mut Member, folder: &Path) {
    let family = family(member.process.id());
    assert!(family.len() >= 2, "PostgreSQL and Redis: {family:?}");
    let begun = Instant::now();
    member.process.signal(Signal::TERM);
    assert!(member.process.exit(PATIENCE).await.success(), "{}", member.process.tail());
    assert!(family.iter().all(|pid| over(*pid)), "of {family:?} something is left");
    let postgres = std::fs::read_to_string(folder.join("stores/postgres.log")).unwrap();
    assert!(postgres.trim_end().ends_with("database system is shut down"), "{postgres}");
    println!("stopped in {:?}", begun.elapsed());
}

// R: K1, N12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stores_of_its_own_an_instance_trades_stops_and_goes_on_where_it_was() {
    let (folder, client) = (folder_for_stores(), client());
    let paper = Paper::start(folder.path(), "analyze", None, client.clone()).await;
    paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let mut member = Member::start("only", launch(folder.path(), &paper, "only.log"), client).await;
    trades(&member).await;
    executed(&member, &base("in", GOLD, 140_000)).await;

    let said = fails(launch(folder.path(), &paper, "second.log")).await;
    let holder = member.process.id();
    let sentence =
        format!("stores is in use by process {holder}; stop that process or choose another directory");
    assert!(said.contains(&sentence), "{said}");
    assert!(member.trades().await, "the first is not disturbed");

    stops(&mut member, folder.path()).await;
    member.restart().await;
    trades(&member).await;
    let held = member.json("/api/v1/positions").await.unwrap();
    let position = &held["positions"][0];
    assert_eq!((&position["label"], &position["instrument"]), (&json!("Long_1"), &json!(GOLD)), "{held}");
    // The last that an instance stores: the stores were still there.
    let states = member.json("/api/v1/monitoring/states").await.unwrap();
    let ended = |change: &Value| change["to"] == "SHUTDOWN";
    assert_eq!(
        states["changes"].as_array().unwrap().iter().filter(|change| ended(change)).count(),
        1,
        "{states}"
    );
    executed(&member, &exit("out", GOLD, "ALL", 140_000)).await;

    let orders = paper.orders().await;
    let [bought, sold] = &orders[..] else { panic!("{orders:#?}") };
    assert_eq!((bought.side.as_str(), sold.side.as_str()), ("BUY", "SELL"));
    assert!(bought.filled_quantity > 0 && sold.filled_quantity == bought.filled_quantity, "{orders:#?}");
    assert_eq!(Some(sold.filled_quantity), position["quantity"].as_i64(), "{position}");
    stops(&mut member, folder.path()).await;
    paper.stop().await;
}
