//! The runbook, done: the fault is injected into a real cluster, and what the section says is typed in.
//!
//! Where Prometheus is on the machine it watches with the shipped rules: the alert that pages begins with the fault and
//! ends with what heals it.

mod absent;
mod bridge;
mod commands;
mod covered;
mod entries;
mod expected;
mod installed;
mod links;
mod lost;
mod machines;
mod market;
mod members;
mod orders;
mod refusals;
mod restored;
mod state;
mod stores;
mod versions;

use std::process::Output;

use baton::runbook::{Section, section, sections};
use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use self::expected::shown;
use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::paper::KEY;
use crate::support::wait;
use crate::watch::{self, Prometheus};

/// The fenced commands of a section, each block as it stands.
fn blocks(section: &Section) -> Vec<String> {
    let fenced = fences(section).into_iter();
    fenced.filter(|(kind, _)| kind == "sh").map(|(_, commands)| commands).collect()
}

/// The fenced blocks of a section in their order, each with its kind.
fn fences(section: &Section) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut block: Option<(String, String)> = None;
    for line in section.text.lines() {
        match (line.trim().strip_prefix("```"), block.as_mut()) {
            (Some(kind), None) => block = Some((kind.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(block.take()),
            (None, Some((_, text))) => *text += &format!("{}\n", line.trim()),
            (None, None) => {}
        }
    }
    found
}

fn named(name: &str) -> Section {
    section(name).unwrap_or_else(|| panic!("the runbook has a section {name}"))
}

/// What begins the blocks that are refused while PostgreSQL answers: typed by `drill_emergency_close`, where it is gone.
const AWAY: &str = "baton emergency-close";

/// The only block of a section, what is for PostgreSQL's absence apart.
fn block(name: &str) -> String {
    let mut blocks = blocks(&named(name));
    blocks.retain(|block| !block.starts_with(AWAY));
    assert_eq!(blocks.len(), 1, "{name} has one block of commands");
    blocks.remove(0).replace("KEY", KEY)
}

/// A command that a section gives within a sentence, typed as it stands there.
fn told<'a>(name: &str, command: &'a str) -> &'a str {
    let text = named(name).text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("`{command}`")), "{name} says `{command}`");
    command
}

/// Types commands into a shell that is set up as the runbook's head says, with `A` at an address.
async fn typed_at(cluster: &Cluster, member: usize, address: &str, commands: &str) -> Output {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_baton")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let addresses: Vec<&str> = cluster.members.iter().map(|member| member.address.as_str()).collect();
    Command::new("bash")
        .args(["-c", commands])
        .current_dir(cluster.folder())
        // The settings of that member's machine, for `baton config show`.
        .envs(&cluster.members[member].launch.env)
        .env("PATH", path)
        .env("USER", "asha")
        .env("A", address)
        .env("BATON_ADDRESS", addresses.join(","))
        .env("DATABASE_URL", cluster.stores.database_url())
        .env("REDIS_URL", cluster.stores.redis_url())
        .env("BRIDGE", &cluster.paper.http)
        .output()
        .await
        .unwrap()
}

/// Types commands on a member's machine.
async fn typed(cluster: &Cluster, member: usize, commands: &str) -> Output {
    typed_at(cluster, member, &cluster.members[member].address, commands).await
}

/// The same, for commands that must all succeed; gives what they print.
async fn done(cluster: &Cluster, member: usize, commands: &str) -> String {
    done_at(cluster, member, &cluster.members[member].address, commands).await
}

async fn done_at(cluster: &Cluster, member: usize, address: &str, commands: &str) -> String {
    let output = typed_at(cluster, member, address, &format!("set -euo pipefail\n{commands}")).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{commands}\n{text}\n{errors}", output.status);
    text
}

/// Waits until `baton status` ends with a code: 0 healthy, 1 degraded, 2 down.
async fn status_is(cluster: &Cluster, member: usize, code: i32) {
    wait::until(&format!("baton status exits {code}"), PATIENCE, async || {
        let output = typed(cluster, member, "baton status").await;
        if output.status.code() == Some(code) { Ok(()) } else { Err(output) }
    })
    .await;
}

/// True when what the runbook needs beside the program is on this machine; said otherwise.
fn equipped() -> bool {
    let missing: Vec<&str> = ["psql", "pg_dump", "pg_restore", "curl", "jq"]
        .into_iter()
        .filter(|tool| {
            let found = std::process::Command::new(tool).arg("--version").output();
            !found.is_ok_and(|output| output.status.success())
        })
        .collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} is not on this machine, and the runbook's commands need it");
    }
    missing.is_empty()
}

async fn with_a_position(options: Options) -> Cluster {
    let cluster = Cluster::with(options).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster
}

/// Somebody trades in the broker's terminal; gives the order's number.
async fn by_hand(cluster: &Cluster, symbol: &str, action: &str, quantity: i64) -> String {
    let order = json!({
        "apikey": KEY, "strategy": "by hand", "symbol": symbol, "exchange": "MCX", "action": action,
        "product": "NRML", "pricetype": "MARKET", "quantity": quantity, "price": 0, "trigger_price": 0,
    });
    let placed = cluster.client.post(format!("{}/api/v1/placeorder", cluster.paper.http)).json(&order);
    let answer: Value = placed.send().await.unwrap().json().await.unwrap();
    answer["orderid"].as_str().expect("it was placed").to_owned()
}

/// With prices that are given up soon and positions that are compared often.
fn hasty() -> Options {
    let env = [
        ("BATON_FEED__STALE_MS", "4000"),
        ("BATON_FEED__DEAD_MS", "8000"),
        ("BATON_HEALTH__CHECK_INTERVAL", "2"),
        ("BATON_RECOVERY__RECONCILE_MS", "300"),
        ("BATON_RECOVERY__DRIFT_SETTLE_MS", "300"),
    ];
    Options { env: env.map(|(key, value)| (key, value.to_owned())).to_vec(), ..Options::default() }
}

/// Waits until what a section says to type prints this; gives all that it prints then.
async fn prints(cluster: &Cluster, member: usize, commands: &str, wanted: &str) -> String {
    wait::until(&format!("{commands:?} prints {wanted:?}"), PATIENCE, async || {
        let output = typed(cluster, member, commands).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if printed.contains(wanted) { Ok(printed) } else { Err(output) }
    })
    .await
}

/// What pages: Prometheus beside a cluster, with the shipped rules; nobody where it is not on this machine, which is said.
struct Pager(Option<Prometheus>);

impl Pager {
    async fn beside(cluster: &Cluster) -> Self {
        let Some((program, _)) = watch::programs() else { return Self(None) };
        let pager = Self(Some(Prometheus::start(&program, cluster, None).await));
        // While only followers were scraped nobody led.
        pager.rests("NoLeader").await;
        pager
    }

    /// Has other addresses watched: a restarted member has another one.
    fn follow<'a>(&self, addresses: impl IntoIterator<Item = &'a str>) {
        if let Some(prometheus) = &self.0 {
            prometheus.follow(addresses);
        }
    }

    fn follow_members(&self, cluster: &Cluster) {
        self.follow(cluster.members.iter().map(|member| member.address.as_str()));
    }

    /// Waits until an alert's condition holds; how long it has to before it pages is the rule's own affair.
    async fn hears(&self, alert: &str) {
        self.waits(alert, true).await;
    }

    /// Waits until it holds no more.
    async fn rests(&self, alert: &str) {
        self.waits(alert, false).await;
    }

    /// Stops Prometheus and lets it go on.
    fn signal(&mut self, signal: Signal) {
        if let Some(prometheus) = &mut self.0 {
            prometheus.signal(signal);
        }
    }

    /// Waits until an alert that always comes does not.
    async fn falls_silent(&self, alert: &str) {
        let Some(prometheus) = &self.0 else { return };
        wait::until(&format!("{alert} is silent"), PATIENCE, async || match prometheus.alerts(alert).await {
            None => Ok(()),
            heard => Err(heard),
        })
        .await;
    }

    async fn waits(&self, alert: &str, begun: bool) {
        let Some(prometheus) = &self.0 else { return };
        wait::until(&format!("{alert} has begun: {begun}"), PATIENCE * 4, async || {
            match prometheus.alerts(alert).await {
                Some(found) if found.is_empty() != begun => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

// R: H6
#[ignore = "slow: every command of the runbook, against a real cluster"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_runbook_runs() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options::default()).await;
    let leader = cluster.leader().await;
    let row = cluster.sql.query_one("SELECT id FROM order_intent LIMIT 1", &[]).await.unwrap();
    let intent: uuid::Uuid = row.get(0);
    let mut ran = 0;
    for section in sections() {
        for block in blocks(&section).into_iter().filter(|block| !block.starts_with(AWAY)) {
            let commands = block.replace("'ID'", &format!("'{intent}'")).replace("KEY", KEY);
            let printed = done(&cluster, leader, &commands).await;
            assert!(!printed.trim().is_empty(), "{} prints nothing:\n{commands}", section.name);
            ran += 1;
        }
    }
    assert!(ran >= 11, "{ran}");
    println!("{ran} blocks of commands ran");
}
