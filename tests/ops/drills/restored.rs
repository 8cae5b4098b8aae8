//! The drill of a backup, of its restore as the text says it, and of the way back.

use rust_decimal::dec;

use super::{block, by_hand, done, equipped, prints, shown, status_is, told, typed, with_a_position};
use crate::signals::{GOLD, SILVER, SILVER_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::{database, wait};

/// What is bought after the backup.
const COPPER: &str = "COPPER";
const COPPER_SYMBOL: &str = "COPPER31DEC25FUT";

/// Stops every instance as the runbook says.
async fn stop(cluster: &mut Cluster) {
    for member in 0..cluster.members.len() {
        let pid = cluster.members[member].process.id();
        if cluster.members[member].process.exited().is_none() {
            done(cluster, 0, &format!("kill -TERM {pid}")).await;
            cluster.members[member].process.exit(PATIENCE).await;
        }
    }
}

/// Types what writes to stopped stores, once nobody shows in Redis any more.
async fn once_all_are_gone(cluster: &Cluster, commands: &str) -> String {
    wait::until(&format!("{commands:?} is done"), PATIENCE, async || {
        let output = typed(cluster, 0, commands).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(output) }
    })
    .await
}

async fn restart(cluster: &mut Cluster, members: impl IntoIterator<Item = usize>) {
    for member in members {
        cluster.members[member].restart().await;
    }
}

// R: H6, C12
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_backup_and_restore() {
    if !equipped() {
        return;
    }
    // As the chart and the compose project set it: whoever stops everything keeps what is held.
    let mut env = independent();
    env.push(("BATON_SHUTDOWN__EXIT_POLICY", "hold".to_owned()));
    let mut cluster = with_a_position(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    cluster.paper.set_price(COPPER_SYMBOL, "MCX", dec!(1000)).await;
    cluster.play(0, &base("kept", SILVER, 150_000)).await;
    let leader = cluster.leader().await;
    let printed = done(&cluster, leader, &block("backup-and-restore")).await;
    let tables = printed.lines().last().unwrap_or_default();
    let tables: u32 = tables.trim().parse().unwrap_or_else(|error| panic!("{error}: {printed}"));
    assert!(tables > 5, "{printed}");
    shown("backup-and-restore", &printed);
    // Verify, of a backup: everything but the commit, on an empty database.
    let url = cluster.stores.create_database("tried").await.unwrap();
    let there = format!("unset DATABASE_URL\nexport BATON_POSTGRES__URL='{url}'");
    let verify = "baton restore baton.dump --reason drill --dry-run --without-redis";
    let tried = done(&cluster, leader, &format!("{there}\n{}", told("backup-and-restore", verify))).await;
    assert!(tried.contains("it can be restored"), "{tried}");

    // After it gold is sold, and copper bought.
    for body in [exit("since-out", GOLD, "ALL", 140_000), base("since-in", COPPER, 1000)] {
        let view = cluster.play(0, &body).await;
        assert_eq!(view["status"], "executed", "{view}");
    }
    // First 60 seconds: every instance is stopped.
    stop(&mut cluster).await;
    let restore =
        told("backup-and-restore", "baton restore baton.dump --reason TEXT").replace("TEXT", "drill");
    told("backup-and-restore", "--replace");
    let said = once_all_are_gone(&cluster, &format!("{restore} --replace --yes")).await;
    assert!(said.contains("restored and verified"), "{said}");
    let epoch = cluster.epoch().await;

    // Then one instance, which tells what the backup did not know.
    restart(&mut cluster, [0]).await;
    cluster.leader().await;
    cluster.members[0].says("orders at the broker that are not ours: reported, never touched").await;
    let diff = told("backup-and-restore", "baton positions diff");
    for wanted in ["missing", "foreign"] {
        prints(&cluster, 0, diff, wanted).await;
    }
    // What was sold since is booked; what was bought since is closed at the broker.
    let repair = told("backup-and-restore", "baton recover --repair");
    prints(&cluster, 0, repair, "GOLD").await;
    done(&cluster, 0, &format!("{repair} --apply --reason drill --yes")).await;
    let held = cluster.paper.orders().await.into_iter().find(|order| order.symbol == COPPER_SYMBOL).unwrap();
    by_hand(&cluster, COPPER_SYMBOL, "SELL", held.quantity).await;
    cluster.leader().await;
    prints(&cluster, 0, diff, "ledger and broker agree").await;
    let view = cluster.play(0, &base("early", COPPER, 1000)).await;
    assert!(view["status"] == "refused" && view["reasons"].to_string().contains("REDUCE_ONLY"), "{view}");
    // Last, entries are allowed, and the others started.
    let allow = told("backup-and-restore", "baton reduce-only off");
    done(&cluster, 0, &format!("{allow} --reason compared --yes")).await;
    restart(&mut cluster, 1..3).await;
    cluster.all_ready().await;
    status_is(&cluster, 0, 0).await;
    let view = cluster.play(1, &base("late", COPPER, 1000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    // Verify, of a restore.
    prints(&cluster, 0, told("backup-and-restore", "baton history"), "restored").await;
    done(&cluster, 0, told("backup-and-restore", "baton audit verify")).await;

    // Undo: what was put aside is the ledger again; which has another truth than the broker by now, and is held against it.
    stop(&mut cluster).await;
    let aside = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'before_restore_%'";
    let aside: String = cluster.sql.query_one(aside, &[]).await.unwrap().get(0);
    let undo = told(
        "backup-and-restore",
        "DROP SCHEMA public CASCADE; ALTER SCHEMA before_restore_… RENAME TO public",
    );
    let undo = undo.replace("before_restore_…", &aside);
    done(&cluster, 0, &format!("psql \"$DATABASE_URL\" -v ON_ERROR_STOP=1 -1 -c '{undo}'")).await;
    cluster.sql = database::connect(&cluster.stores.database_url()).await;
    restart(&mut cluster, 0..3).await;
    let leader = cluster.leader().await;
    cluster.all_ready().await;
    assert!(cluster.epoch().await > epoch, "no epoch comes twice: {epoch}");
    let held = cluster.count("SELECT count(*) FROM position WHERE status = 'open'").await;
    assert_eq!(held, 2, "silver and copper, as when everything was stopped");
    done(&cluster, leader, "baton audit verify").await;
}
