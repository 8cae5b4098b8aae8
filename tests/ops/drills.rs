//! The runbook, done: the fault is injected into a real cluster, and what the section says is typed in.

use std::process::Output;
use std::time::Duration;

use baton::runbook::{Section, section, sections};
use rust_decimal::dec;
use serde_json::Value;
use tokio::process::Command;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::paper::KEY;
use crate::support::wait;

/// The fenced commands of a section, each block as it stands.
fn blocks(section: &Section) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in section.text.lines() {
        match (line.trim(), block.as_mut()) {
            ("```sh", None) => block = Some(String::new()),
            ("```", Some(_)) => found.extend(block.take()),
            (command, Some(text)) => *text += &format!("{command}\n"),
            _ => {}
        }
    }
    found
}

/// The only block of a section.
fn block(name: &str) -> String {
    let section = section(name).unwrap_or_else(|| panic!("the runbook has a section {name}"));
    let mut blocks = blocks(&section);
    assert_eq!(blocks.len(), 1, "{name} has one block of commands");
    blocks.remove(0)
}

/// Types commands into a shell that is set up as the runbook's head says.
async fn typed(cluster: &Cluster, member: usize, commands: &str) -> Output {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_baton")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let addresses: Vec<&str> = cluster.members.iter().map(|member| member.address.as_str()).collect();
    Command::new("bash")
        .args(["-c", commands])
        .current_dir(cluster.folder())
        // The settings of that member's machine, for `baton config show`.
        .envs(&cluster.members[member].launch.env)
        .env("PATH", path)
        .env("A", &cluster.members[member].address)
        .env("BATON_ADDRESS", addresses.join(","))
        .env("DATABASE_URL", cluster.stores.database_url())
        .env("REDIS_URL", cluster.stores.redis_url())
        .env("BRIDGE", &cluster.paper.http)
        .output()
        .await
        .unwrap()
}

/// The same, for commands that must all succeed; gives what they print.
async fn done(cluster: &Cluster, member: usize, commands: &str) -> String {
    let output = typed(cluster, member, &format!("set -euo pipefail\n{commands}")).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{commands}\n{text}\n{errors}", output.status);
    text
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
        for block in blocks(&section) {
            let commands = block.replace("'ID'", &format!("'{intent}'")).replace("KEY", KEY);
            let printed = done(&cluster, leader, &commands).await;
            assert!(!printed.trim().is_empty(), "{} prints nothing:\n{commands}", section.name);
            ran += 1;
        }
    }
    assert!(ran >= 11, "{ran}");
    println!("{ran} blocks of commands ran");
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_no_leader() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    done(&cluster, leader, "baton pause --reason drill --yes").await;
    cluster.members[leader].process.kill().await;

    // First 60 seconds: nobody leads, and nobody will.
    wait::until("baton status says down", PATIENCE, async || {
        let output = typed(&cluster, other, "baton status").await;
        if output.status.code() == Some(2) { Ok(()) } else { Err(output) }
    })
    .await;
    let printed = done(&cluster, other, &block("no-leader")).await;
    assert!(printed.contains("| t "), "it shows that failover is paused:\n{printed}");

    // Mitigation, and the check that it helped.
    done(&cluster, other, "baton resume --reason drill --yes").await;
    cluster.leader_within(PATIENCE, |index| index != leader).await;
    cluster.members[leader].restart().await;
    cluster.all_ready().await;
    wait::until("baton status says healthy", PATIENCE, async || {
        let output = typed(&cluster, other, "baton status").await;
        if output.status.success() { Ok(()) } else { Err(output) }
    })
    .await;
    cluster.finish().await;
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_switches() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let commands = block("switches");
    let command = |verb: &str| {
        let found = commands.lines().find(|line| line.starts_with(verb));
        found.unwrap_or_else(|| panic!("the section says {verb}")).to_owned()
    };
    done(&cluster, leader, &command("baton halt")).await;
    let view = cluster.play(leader, &base("halted", GOLD, 140_000)).await;
    assert_eq!(view["status"], "refused", "{view}");
    assert!(view["reasons"].to_string().contains("HALTED"), "{view}");
    done(&cluster, leader, &command("baton unhalt")).await;
    let view = cluster.play(leader, &base("lifted", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.finish().await;
}

// R: H6, C4
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_validation_failed() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    cluster.sql.execute("UPDATE portfolio_state SET risk_amount = 999999.99", &[]).await.unwrap();
    let old = cluster.leader().await;
    cluster.members[old].process.kill().await;
    let leader = wait::until("the next leader halts on what it reads", PATIENCE, async || {
        for (index, member) in cluster.members.iter().enumerate().filter(|(index, _)| *index != old) {
            let health = member.json("/healthz").await.unwrap_or(Value::Null);
            if health["operational"]["code"] == "VALIDATION_FAILED" {
                return Ok(index);
            }
        }
        Err(cluster.logs())
    })
    .await;

    let printed = done(&cluster, leader, &block("validation_failed")).await;
    assert!(printed.contains("999999.99"), "it shows the wrong figure:\n{printed}");
    done(&cluster, leader, "pg_dump \"$DATABASE_URL\" > before.sql").await;
    // What the first query shows as calculated, in one transaction.
    let mend = "psql \"$DATABASE_URL\" -v ON_ERROR_STOP=1 -c \"UPDATE portfolio_state SET risk_amount =
        (SELECT sum(greatest(0, entry_price - current_stop) * quantity / lot_size * point_value) FROM position
         WHERE status <> 'closed')\"";
    done(&cluster, leader, mend).await;
    cluster.leader_within(PATIENCE, |index| index != old).await;
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    cluster.finish().await;
}

// R: H6, B3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_in_doubt_orders() {
    if !equipped() {
        return;
    }
    // Long enough in doubt for a person to look.
    let env = vec![("BATON_BROKER__SETTLE_MS", "8000".to_owned())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster.arm("after_journal", "kill");
    let accepted = cluster.post(0, &base("in", GOLD, 140_000)).await;
    let in_doubt = "SELECT count(*) FROM order_intent WHERE state = 'in_doubt'";
    wait::until("the order is in doubt", PATIENCE, async || {
        if cluster.count(in_doubt).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let leader = cluster.leader().await;
    let printed = done(&cluster, leader, &block("in-doubt-orders").replace("KEY", KEY)).await;
    assert!(printed.contains(GOLD_SYMBOL), "it shows the order:\n{printed}");
    // Mitigation is to wait: it was never sent, and the books prove it.
    let view = cluster.terminal(&accepted.id).await;
    assert_eq!(view["status"], "abandoned", "{view}");
    assert_eq!(cluster.count(in_doubt).await, 0);
    wait::until("the metric says so", Duration::from_secs(10), async || {
        let seen = cluster.members[leader].metric("baton_orders_in_doubt").await;
        if seen == Some(0.0) { Ok(()) } else { Err(seen) }
    })
    .await;
    cluster.revive().await;
    cluster.all_ready().await;
    cluster.finish().await;
}

// R: H6, C12
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_backup_and_restore() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options::default()).await;
    let leader = cluster.leader().await;
    let printed = done(&cluster, leader, &block("backup-and-restore")).await;
    let tables = printed.lines().last().unwrap_or_default();
    let tables: u32 = tables.trim().parse().unwrap_or_else(|error| panic!("{error}: {printed}"));
    assert!(tables > 5, "{tables}");

    let url = cluster.stores.create_database("restored").await.unwrap();
    // The cluster goes on beside its backup: it is restored into a database of another name.
    let there = format!("unset DATABASE_URL\nexport BATON_POSTGRES__URL='{url}'");
    let verb = "baton restore baton.dump --reason drill --operator asha --without-redis --yes";
    let said = done(&cluster, leader, &format!("{there}\n{verb}")).await;
    assert!(said.contains("restored and verified"), "{said}");
    let count = "psql \"$DATABASE_URL\" -At -c 'SELECT count(*) FROM order_intent'";
    let restored = done(&cluster, leader, &format!("export DATABASE_URL='{url}'\n{count}")).await;
    let original = done(&cluster, leader, count).await;
    assert_eq!(restored, original);
    for verb in ["baton migrate", "baton recover --check", "baton audit verify"] {
        done(&cluster, leader, &format!("{there}\n{verb}")).await;
    }
    cluster.finish().await;
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_db_unavailable() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options::default()).await;
    cluster.stores.postgres().stop().await.unwrap();
    // First 60 seconds, and what the section says of it: nobody leads, and the state names the code.
    wait::until("baton status says down", PATIENCE, async || {
        let asked = typed(&cluster, 0, "psql \"$DATABASE_URL\" -c 'SELECT 1'").await;
        assert!(!asked.status.success(), "{asked:?}");
        let output = typed(&cluster, 0, "baton status").await;
        if output.status.code() == Some(2) { Ok(()) } else { Err(output) }
    })
    .await;
    let state = typed(&cluster, 0, &block("db_unavailable")).await;
    let printed = String::from_utf8_lossy(&state.stdout);
    assert!(printed.contains("\"state\": \"WAITING\""), "{printed}");

    // Mitigation: bring it back. Everything else happens by itself.
    cluster.stores.postgres().start().await.unwrap();
    let cluster = cluster.reconnected().await;
    let leader = cluster.leader().await;
    cluster.all_ready().await;
    done(&cluster, leader, &block("db_unavailable")).await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE state = 'in_doubt'").await, 0);
    cluster.finish().await;
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_redis_away() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let degraded = "curl -s $A/metrics | grep baton_ha_degraded";
    let shows = async |wanted: &str| {
        wait::until(wanted, PATIENCE, async || {
            let printed = done(&cluster, leader, degraded).await;
            if printed.lines().any(|line| line == wanted) { Ok(()) } else { Err(printed) }
        })
        .await;
    };
    cluster.stores.redis().stop().await.unwrap();
    shows("baton_ha_degraded 1").await;
    let status = typed(&cluster, leader, "baton status").await;
    assert_eq!(status.status.code(), Some(1), "degraded, and not down: {status:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("Redis is away"), "{status:?}");
    cluster.stores.redis().start().await.unwrap();
    shows("baton_ha_degraded 0").await;
    assert_eq!(cluster.leader().await, leader, "nothing moved");
    cluster.finish().await;
}
