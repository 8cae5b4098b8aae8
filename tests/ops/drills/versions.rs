//! Drills about versions, schemas and databases: a deployment and its way back, and what can be wrong with them.

use std::path::{Path, PathBuf};

use baton::ledger::migrate::known_version;
use rust_decimal::dec;

use super::{Pager, block, done, equipped, prints, shown, status_is, told, typed, with_a_position};
use crate::signals::{SILVER, SILVER_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::member::Member;
use crate::support::wait;

/// What the next version calls itself.
const NEXT: &str = "99.1.0";
/// What it adds.
const LATER: &str = "ALTER TABLE signal ADD COLUMN later text; CREATE TABLE later (id bigint PRIMARY KEY);";

/// The next version's migrations, in a folder.
fn later(folder: &Path) -> PathBuf {
    let folder = folder.join("later");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(format!("V{}__later.sql", known_version() + 1)), LATER).unwrap();
    folder
}

/// Makes a member that is to be started one of the next version, or of this one again.
fn become_next(member: &mut Member, migrations: Option<&Path>) {
    let env = &mut member.launch.env;
    match migrations {
        Some(folder) => env.extend([
            ("BATON_LATER_MIGRATIONS".to_owned(), folder.display().to_string()),
            ("BATON_LATER_VERSION".to_owned(), NEXT.to_owned()),
        ]),
        None => env.retain(|key, _| !key.starts_with("BATON_LATER_")),
    }
}

/// A deployment as the section tells it: followers first, the leader last, each only when the one before is ready. Between
/// two of them a signal is taken and acted on. Looks after the first with `half_way`.
async fn roll(cluster: &mut Cluster, pager: &Pager, to: Option<&Path>, half_way: impl AsyncFn(&Cluster)) {
    let leader = cluster.leader().await;
    told("rolling-deployment", "kill -TERM");
    for step in 1..=3 {
        let index = (leader + step) % 3;
        let pid = cluster.members[index].process.id();
        done(cluster, index, &format!("kill -TERM {pid}")).await;
        let status = cluster.members[index].process.exit(PATIENCE).await;
        assert!(status.success(), "{status}");
        become_next(&mut cluster.members[index], to);
        cluster.members[index].restart().await;
        told("rolling-deployment", "/readyz");
        prints(cluster, index, "curl -s $A/readyz", "ready").await;
        pager.follow_members(cluster);
        let id = format!("{step}-{}", to.is_some());
        let view = cluster.play(index, &base(&format!("in-{id}"), SILVER, 150_000)).await;
        assert_eq!(view["status"], "executed", "{view}");
        let view = cluster.play(index, &exit(&format!("out-{id}"), SILVER, "ALL", 150_000)).await;
        assert_eq!(view["status"], "executed", "{view}");
        if step == 1 {
            half_way(cluster).await;
        }
    }
}

// R: H6, H5
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_rolling_deployment_and_rollback() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let migrations = later(cluster.folder());
    let pager = Pager::beside(&cluster).await;
    let leader = cluster.leader().await;
    // First 60 seconds, and a backup.
    status_is(&cluster, leader, 0).await;
    done(&cluster, leader, told("rolling-deployment", "baton status")).await;
    let printed = done(&cluster, leader, &block("in-doubt-orders")).await;
    assert!(printed.contains("(0 rows)"), "{printed}");
    done(&cluster, leader, &block("backup-and-restore")).await;
    // The new version migrates while the old one runs.
    let next = format!("export BATON_LATER_MIGRATIONS='{}'\n", migrations.display());
    let said =
        done(&cluster, leader, &format!("{next}{}", told("rolling-deployment", "baton migrate"))).await;
    assert!(said.contains("later"), "{said}");

    let versions = told(
        "version-skew",
        "baton status -o json | jq -r '.cluster.instances[] | [.instance, .version] | @tsv'",
    );
    let both = async |cluster: &Cluster| {
        pager.hears("VersionSkew").await;
        prints(cluster, 0, versions, NEXT).await;
        prints(cluster, 0, versions, env!("CARGO_PKG_VERSION")).await;
    };
    roll(&mut cluster, &pager, Some(&migrations), both).await;
    wait::until("there is one version", PATIENCE, async || {
        // Its exit code is that of a cluster in which leadership has just moved.
        let output = typed(&cluster, 0, versions).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if printed.matches(NEXT).count() == 3 { Ok(()) } else { Err(printed) }
    })
    .await;
    pager.rests("VersionSkew").await;
    let printed = done(&cluster, 0, &block("signal-loss")).await;
    assert!(printed.contains("(0 rows)"), "every signal is final:\n{printed}");

    // rollback: the floor allows it.
    let floor = told("rollback", "psql \"$DATABASE_URL\" -c \"SELECT version FROM schema_floor\"");
    let printed = done(&cluster, 0, floor).await;
    let floor: i32 = printed.lines().nth(2).and_then(|line| line.trim().parse().ok()).expect("a number");
    assert!(floor <= known_version(), "{printed}");
    roll(&mut cluster, &pager, None, async |_| {}).await;
    let working = told("rollback", "SELECT id, key FROM signal WHERE status = 'working'");
    let printed = done(&cluster, 0, &format!("psql \"$DATABASE_URL\" -c \"{working}\"")).await;
    assert!(printed.contains("(0 rows)"), "{printed}");
    pager.rests("VersionSkew").await;
    status_is(&cluster, 0, 0).await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (13, 1), "{check:?}");
}

// R: H6, H3, B1
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_wrong_databases() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options { members: 2, ..Options::default() }).await;
    let (leader, odd) = (cluster.leader().await, cluster.follower().await);
    let state = "curl -s $A/healthz | jq .operational";

    // account_taken: a newcomer whose cluster's name is misspelt.
    let right = cluster.members[odd].launch.env["BATON_CLUSTER__NAME"].clone();
    cluster.members[odd].launch.env.insert("BATON_CLUSTER__NAME".to_owned(), "tset".to_owned());
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    prints(&cluster, odd, state, "ACCOUNT_TAKEN").await;
    let guard = told(
        "account_taken",
        "psql \"$DATABASE_URL\" -c \"SELECT account, cluster, registered_at FROM account_guard\"",
    );
    let printed = done(&cluster, odd, guard).await;
    assert!(printed.contains(&right) && !printed.contains("tset"), "{printed}");
    let printed = done(&cluster, odd, told("account_taken", "baton config show")).await;
    assert!(printed.contains("tset"), "{printed}");
    cluster.members[odd].launch.env.insert("BATON_CLUSTER__NAME".to_owned(), right);
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    cluster.all_ready().await;

    // migration_failed: somebody has made a table of the name that the next version wants.
    cluster.sql.batch_execute("CREATE TABLE later (note text)").await.unwrap();
    let migrations = later(cluster.folder());
    become_next(&mut cluster.members[odd], Some(&migrations));
    cluster.members[odd].process.kill().await;
    cluster.members[odd].restart().await;
    prints(&cluster, odd, state, "MIGRATION_FAILED").await;
    let output = typed(&cluster, odd, told("migration_failed", "baton migrate")).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("already exists"), "{said}");
    let users = told(
        "migration_failed",
        "psql \"$DATABASE_URL\" -c \"SELECT pid, backend_type, application_name, xact_start, query FROM pg_stat_activity \
         WHERE xact_start < now() - interval '10 s'\"",
    );
    done(&cluster, odd, users).await;
    assert!(cluster.members[leader].trades().await, "the version before goes on");
    cluster.sql.batch_execute("DROP TABLE later").await.unwrap();
    prints(&cluster, odd, told("migration_failed", "curl -s $A/startupz"), "started").await;
    cluster.all_ready().await;

    // schema-missing: a URL that names another database.
    let url = cluster.stores.create_database("empty").await.unwrap();
    let there = format!("export BATON_POSTGRES__URL='{url}' DATABASE_URL='{url}'\n");
    let output = typed(&cluster, leader, &format!("{there}baton recover --check")).await;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("baton migrate"), "{said}");
    let tables = told("schema-missing", "psql \"$DATABASE_URL\" -c '\\dt'");
    let printed = typed(&cluster, leader, &format!("{there}{tables}")).await;
    assert!(!String::from_utf8_lossy(&printed.stdout).contains("leadership"), "{printed:?}");
    let migrate = format!("{there}{}", told("schema-missing", "baton migrate"));
    done(&cluster, leader, &migrate).await;
    let said = done(&cluster, leader, &migrate).await;
    assert!(said.contains("already"), "{said}");
    done(&cluster, leader, &format!("{there}baton recover --check")).await;
    assert_eq!(cluster.leader().await, leader, "nothing of this moved the leader");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (1, 1), "{check:?}");
}

// R: H6, S7, rule 17
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_reduce_only_after_failover() {
    if !equipped() {
        return;
    }
    // Long enough under reduce-only for a person to look.
    let env = vec![("BATON_BROKER__SETTLE_MS", "60000".to_owned())];
    let mut cluster = with_a_position(Options { members: 2, env, ..Options::default() }).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let old = cluster.leader().await;
    // The last epoch was minted on a server of another timeline.
    cluster.sql.batch_execute("UPDATE leadership SET timeline = '0000007F'").await.unwrap();
    cluster.members[old].process.kill().await;
    let new = cluster.leader_within(PATIENCE, |index| index != old).await;
    shown("reduce-only-after-failover", &done(&cluster, new, &block("reduce-only-after-failover")).await);
    let view = cluster.play(new, &base("refused", SILVER, 150_000)).await;
    assert!(view["status"] == "refused" && view["reasons"].to_string().contains("REDUCE_ONLY"), "{view}");

    // Mitigation: every order of the day has an intent; the switch is cleared.
    done(&cluster, new, "baton reduce-only off --reason 'all orders are known' --yes").await;
    let view = cluster.play(new, &base("taken", SILVER, 150_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 2), "{check:?}");
}
