//! Backups: one moment of a ledger as a file, and what a cluster does on it when it is the ledger again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::seeded::{Copy, Seeded, answer};
use crate::signals::{GOLD, base, exit};
use crate::support::cluster::{PATIENCE, client};
use crate::support::member::Member;
use crate::support::wait;

/// What must come back as it was, beside the orders that are under way.
const KEPT: &str = "SELECT (SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM position t)
    || (SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM order_intent t)
    || (SELECT md5(string_agg(t::text, '|' ORDER BY intent_id, cumulative)) FROM fill t)
    || (SELECT md5(string_agg(t::text, '|' ORDER BY instrument)) FROM pyramiding_state t)
    || (SELECT md5(t::text) FROM portfolio_state t)";

const RESTORE: [&str; 8] = ["--reason", "disk lost", "--operator", "asha", "--yes", "-o", "json", "restore"];

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `baton restore`, once the processes that seeded the database are forgotten by Redis.
async fn restore(on: &Copy, file: &Path, more: &[&str]) -> Output {
    let mut arguments = RESTORE.to_vec();
    arguments.rotate_right(1);
    arguments.insert(1, file.to_str().unwrap());
    arguments.extend(more);
    wait::until("nobody shows in Redis any more", PATIENCE, async || {
        let output = on.baton(&arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lapses = ["instances show in Redis", "holds the leader's lease"];
        if lapses.iter().any(|words| said.contains(words)) { Err(said) } else { Ok(output) }
    })
    .await
}

async fn backup(of: &Copy, file: &Path) -> Value {
    let output = of.baton(&["backup", file.to_str().unwrap(), "-o", "json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    answer(&output)
}

async fn text(of: &Copy, sql: &str) -> String {
    of.row(sql).await.get(0)
}

async fn number(of: &Copy, sql: &str) -> i64 {
    of.row(sql).await.get(0)
}

async fn leading(on: &Copy) -> Member {
    let member = Member::start("b1", on.launch("b1", &[]), client()).await;
    wait::until("it leads and trades", PATIENCE, async || {
        if member.trades().await { Ok(()) } else { Err(member.process.tail()) }
    })
    .await;
    member
}

/// Delivers a signal and waits for its end.
async fn play(member: &Member, body: &Value) -> Value {
    let (status, accepted) = member.deliver(body).await.unwrap();
    assert!(status.is_success(), "{accepted}");
    let path = format!("/api/v1/signals/{}", accepted["id"].as_str().unwrap());
    wait::until("the signal is final", PATIENCE, async || {
        let view = member.json(&path).await.unwrap_or_default();
        if view["finished_at"].is_string() { Ok(view) } else { Err((view, member.process.tail())) }
    })
    .await
}

// R: C12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_whole_or_not_at_all_and_never_beside_an_instance() {
    let seeded = Seeded::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baton.dump");
    let source = seeded.copy("source").await;
    source
        .damage(
            "INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by)
             VALUES (gen_random_uuid(), 'waits', 'EXIT', 'default', 'GOLD_MINI', '{}', '', 'b1');
             INSERT INTO notification_outbox (id, channel, severity, types, subject, body, expires_at)
             VALUES (gen_random_uuid(), 'log', 'info', '{STARTED}', 's', 'b', now() + interval '1 day')",
        )
        .await;
    let made = backup(&source, &file).await;
    let held = &made["contents"];
    assert!(made["whole"] == true && held["open_positions"] == 2 && held["open_orders"] == 1, "{made}");
    assert!(held["waiting_signals"] == 1 && held["audit"]["ok"] == true, "{made}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = source.baton(&["backup", file.to_str().unwrap()]).await;
    assert!(failed(&again).contains("is there already"), "{again:?}");

    // Tried first: everything but the commit.
    let url = seeded.stores.create_database("restored").await.unwrap();
    let restored = seeded.at(url);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let tried = answer(&restore(&restored, &file, &["--dry-run"]).await);
    assert!(tried["applied"] == false && tried["restored"]["contents"] == *held, "{tried}");
    assert_eq!(number(&restored, tables).await, 0, "nothing was changed");
    // A file that was cut off, and a process that dies before the commit, change nothing either.
    let bytes = std::fs::read(&file).unwrap();
    let cut = folder.path().join("cut.dump");
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let refused = failed(&restore(&restored, &cut, &[]).await);
    assert!(refused.contains("cannot be read"), "{refused}");
    restored.arm("restore_before_commit", "kill");
    let killed = restore(&restored, &file, &[]).await;
    assert_eq!(killed.status.code(), None, "{}", String::from_utf8_lossy(&killed.stderr));
    wait::until("the server has ended its transaction", PATIENCE, async || {
        match number(&restored, tables).await {
            0 => Ok(()),
            tables => Err(tables),
        }
    })
    .await;

    let output = restore(&restored, &file, &[]).await;
    let done = answer(&output);
    assert!(output.status.success() && done["applied"] == true, "{done}");
    assert_eq!(text(&restored, KEPT).await, text(&source, KEPT).await);
    let epoch = done["restored"]["epoch"].as_i64().unwrap();
    assert!(epoch > held["epoch"].as_i64().unwrap(), "{done}");
    assert_eq!(done["restored"]["ended_signals"][0]["key"], "waits", "{done}");
    assert_eq!(done["restored"]["dropped_messages"], 1, "{done}");
    let row = restored
        .row(
            "SELECT l.epoch, l.reduce_only, l.holder_member IS NULL, s.status, s.reasons #>> '{0,code}', o.state, h.reason,
                (SELECT who || ': ' || why FROM switch_history WHERE switch = 'reduce_only' ORDER BY id DESC LIMIT 1)
             FROM leadership l, signal s, notification_outbox o, leadership_history h
             WHERE s.key = 'waits' AND h.epoch = l.epoch",
        )
        .await;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1), row.get::<_, bool>(2)), (epoch, true, true));
    let words: Vec<&str> = (3..7).map(|place| row.get(place)).collect();
    assert_eq!(words, ["refused", "RESTORED", "expired", "restored"]);
    let why: &str = row.get(7);
    assert!(
        why.starts_with("asha: restored from a backup (newest row of") && why.ends_with("disk lost"),
        "{why}"
    );
    for check in [&["audit", "verify"][..], &["recover", "--check"]] {
        let checked = restored.baton(check).await;
        assert!(checked.status.success(), "{check:?}: {}", String::from_utf8_lossy(&checked.stdout));
    }

    // Not over something, and not beside somebody.
    let refused = failed(&restore(&restored, &file, &[]).await);
    assert!(refused.contains("not empty") && refused.contains("--replace"), "{refused}");
    let mut member = leading(&restored).await;
    let beside = ["--replace", "--without-redis"];
    let arguments = ["restore", file.to_str().unwrap(), "--reason", "drill", "--operator", "asha", "--yes"];
    let refused = failed(&restored.baton(&[&arguments[..], &["--replace"]].concat()).await);
    assert!(refused.contains("b1 at http"), "{refused}");
    let refused = failed(&restored.baton(&[&arguments[..], &beside].concat()).await);
    assert!(refused.contains("an instance leads"), "{refused}");
    member.process.kill().await;

    // What does not add up is not taken for a ledger, unless somebody wants just that.
    let damaged = seeded.copy("damaged").await;
    damaged.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    let copy = folder.path().join("damaged.dump");
    let output = damaged.baton(&["backup", copy.to_str().unwrap(), "-o", "json"]).await;
    assert_eq!((output.status.code(), &answer(&output)["whole"]), (Some(1), &json!(false)));
    let refused = failed(&restore(&restored, &copy, &["--replace"]).await);
    assert!(refused.contains("Risk amount mismatch: DB=999999.99"), "{refused}");
    let done = answer(&restore(&restored, &copy, &["--replace", "--damaged"]).await);
    let kept = done["restored"]["kept_as"].as_str().unwrap_or_else(|| panic!("{done}"));
    assert!(done["restored"]["epoch"].as_i64().unwrap() > epoch, "no epoch comes twice: {done}");
    let before = format!("SELECT count(*) FROM {kept}.position");
    assert_eq!(number(&restored, &before).await, 3, "what was there is kept");
}

// R: C12, S7: a restored ledger is older than the broker's truth. The cluster starts reduce-only under a higher epoch, tells
// what it does not know, and doubles nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_a_restored_ledger_reconciles_and_buys_nothing_until_somebody_has_looked() {
    let seeded = Seeded::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baton.dump");
    let ledger = seeded.copy("live").await;
    backup(&ledger, &file).await;
    seeded.paper.post("fills", json!({ "hold": false })).await;

    // Traded after the backup: the resting order fills, and copper is bought.
    let mut member = leading(&ledger).await;
    seeded.paper.set_price("COPPER31DEC25FUT", "MCX", dec!(1000)).await;
    let bought = play(&member, &base("copper-again", "COPPER", 1000)).await;
    assert_eq!(bought["status"], "executed", "{bought}");
    let held = "SELECT count(*) FROM position WHERE status = 'open'";
    wait::until("the order that rested is filled", PATIENCE, async || match number(&ledger, held).await {
        4 => Ok(()),
        held => Err(held),
    })
    .await;
    let epoch = number(&ledger, "SELECT epoch FROM leadership").await;
    member.process.kill().await;
    let orders = seeded.paper.orders().await.len();

    // Redis is lost with the disk: nobody remembers the epochs since.
    let redis = redis::Client::open(seeded.stores.redis_url()).unwrap();
    let mut connection = redis.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    let done = answer(&restore(&ledger, &file, &["--replace"]).await);
    let minted = done["restored"]["epoch"].as_i64().unwrap_or_else(|| panic!("{done}"));
    assert!(minted > epoch, "{minted} comes after {epoch}");

    let member = leading(&ledger).await;
    assert!(number(&ledger, "SELECT epoch FROM leadership").await > minted);
    // What the ledger knows of, it finds: the order that rested is filled here, too.
    wait::until("the resting order's fill is found", PATIENCE, async || match number(&ledger, held).await {
        3 => Ok(()),
        held => Err((held, member.process.tail())),
    })
    .await;
    // What it has forgotten, it tells: an order that no intent explains, a position that is not its own.
    let foreign = "SELECT count(*) FROM broker_order_seen WHERE booked_at IS NULL";
    wait::until("the forgotten order is told", PATIENCE, async || match number(&ledger, foreign).await {
        1.. => Ok(()),
        none => Err((none, member.process.tail())),
    })
    .await;
    let diff = member.json("/api/v1/positions/diff").await.unwrap();
    let rows = diff["rows"].as_array().unwrap();
    let copper = rows.iter().find(|row| row["symbol"] == "COPPER31DEC25FUT");
    assert!(copper.is_some_and(|row| row["verdict"] == "surplus"), "{diff}");
    // The sender repeats what it had an answer for; the ledger has forgotten that it acted.
    let repeated = play(&member, &base("copper-again", "COPPER", 1000)).await;
    assert_eq!(repeated["status"], "refused", "{repeated}");
    assert_eq!(seeded.paper.orders().await.len(), orders, "nothing was bought twice");
    // What is held can be sold, and nothing bought.
    let out = play(&member, &exit("gold-out", GOLD, "ALL", 143_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    let refused = play(&member, &base("gold-early", GOLD, 143_000)).await;
    assert!(refused["status"] == "refused", "{refused}");
    assert!(refused["reasons"].to_string().contains("REDUCE_ONLY"), "{refused}");

    // Somebody has looked: entries go on, but for the contract of which the broker holds more.
    let (code, said) = member.cli(&["reduce-only", "off", "--reason", "compared", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let gold = play(&member, &base("gold-again", GOLD, 143_000)).await;
    assert_eq!(gold["status"], "executed", "{gold}");
}
