//! Migrations: many starters at once, and a database of another version.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use baton::ledger::migrate::known_version;
use baton::ledger::{Ledger, LedgerError};
use local::Stores;
use tokio::net::TcpListener;

use crate::support::database::connect;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(30);
/// The migration that makes `schema_floor`.
const FLOOR: u32 = 27;

// R: H3; STACK gotcha 1: refinery takes no lock of its own
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_migrators_at_once_all_succeed() {
    let stores = Stores::temporary().await.unwrap();
    for round in 0..5 {
        let url = stores.create_database(&format!("fresh_{round}")).await.unwrap();
        let migrators: Vec<_> = (0..8)
            .map(|_| {
                let ledger = Ledger::new(&url, 2, "migrator").unwrap();
                tokio::spawn(async move { ledger.migrate().await })
            })
            .collect();
        let mut applied = 0;
        for migrator in migrators {
            let migrated = migrator.await.unwrap().unwrap();
            assert_eq!(migrated.version, known_version());
            applied += migrated.applied.len();
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let written = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(applied, written, "each migration was applied once");
    }
}

// R: K4: one handle for all, made before its database is there; whoever uses it first connects, however many do at once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_many_use_first_at_once_has_no_more_connections_than_it_may() {
    let nowhere = Ledger::new("postgres://nobody@127.0.0.1:1/none", 2, "early").unwrap();
    assert!(
        nowhere.ping().await.unwrap_err().is_transient(),
        "it is made without a database, and may be used again"
    );

    let stores = Stores::temporary().await.unwrap();
    let ledger = Ledger::new(&stores.database_url(), 2, "shared").unwrap();
    let sql = connect(&stores.database_url()).await;
    let open = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shared'";
        sql.query_one(count, &[]).await.unwrap().get(0)
    };
    assert_eq!(open().await, 0, "nobody has used it");
    let users: Vec<_> = (0..32)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.ping().await })
        })
        .collect();
    for user in users {
        user.await.unwrap().unwrap();
    }
    assert!((1..=2).contains(&open().await), "{}", open().await);
}

// A stopped server, or a proxy without one behind it: a start says that its database is away, and does not hang.
#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_is_away() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://baton@{}/baton", silent.local_addr().unwrap());
    let ledger = Ledger::new(&url, 1, "baton-test").unwrap();
    let migrating = tokio::time::timeout(Duration::from_secs(20), ledger.migrate()).await;
    let error = migrating.expect("it gives up").unwrap_err();
    assert!(matches!(error, LedgerError::TimedOut { .. }) && error.is_transient(), "{error}");
    drop(silent);
}

#[tokio::test]
async fn another_version_is_refused_with_what_to_do() {
    let stores = Stores::temporary().await.unwrap();
    let url = stores.create_database("other").await.unwrap();
    let ledger = Ledger::new(&url, 2, "test").unwrap();
    let error = ledger.check_schema().await.unwrap_err();
    assert!(matches!(error, LedgerError::SchemaTooOld { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("run `baton migrate`"), "{error}");

    ledger.migrate().await.unwrap();
    ledger.check_schema().await.unwrap();
    // A version that only added takes this binary, as an upgrade that rolls, and a step back from it, need.
    let sql = connect(&url).await;
    let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (999, 'later', '', '0')";
    sql.execute(later, &[]).await.unwrap();
    ledger.check_schema().await.unwrap();
    let migrated = ledger.migrate().await.unwrap();
    assert_eq!((migrated.applied, migrated.version), (vec![], 999));

    // One that took something away does not, whether it says so or the row is gone.
    for (change, floor) in [
        (format!("UPDATE schema_floor SET version = {}", known_version() + 1), known_version() + 1),
        ("DELETE FROM schema_floor".to_owned(), 999),
    ] {
        sql.execute(&change, &[]).await.unwrap();
        for error in [ledger.check_schema().await.unwrap_err(), ledger.migrate().await.unwrap_err()] {
            let refused =
                matches!(error, LedgerError::SchemaTooNew { found: 999, floor: told, .. } if told == floor);
            assert!(refused && error.to_string().contains("run the newer baton"), "{error}");
        }
    }
}

// An instance of the version before that restarts while a migration is tried again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_misses_nothing_of_the_schema_waits_for_no_migrator() {
    let stores = Stores::temporary().await.unwrap();
    let url = stores.create_database("migrated").await.unwrap();
    let ledger = Ledger::new(&url, 2, "old").unwrap();
    ledger.migrate().await.unwrap();
    let sql = connect(&url).await;
    sql.batch_execute(&format!("SELECT pg_advisory_lock({})", ha::locks::MIGRATION)).await.unwrap();
    let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (999, 'later', '', '0')";
    for version in [known_version(), 999] {
        let migrated = tokio::time::timeout(PATIENCE, ledger.migrate()).await.expect("it waits for nobody");
        assert_eq!(migrated.unwrap().version, version);
        sql.batch_execute(&format!("{later} ON CONFLICT DO NOTHING")).await.unwrap();
    }
}

// A restore puts the ledger aside that is there: whoever started on it would go on with what is restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_starts_during_a_restore_waits_for_it_and_finds_what_was_restored() {
    let stores = Stores::temporary().await.unwrap();
    let url = stores.create_database("restored").await.unwrap();
    Ledger::new(&url, 2, "before").unwrap().migrate().await.unwrap();
    let (mut restore, sql) = (connect(&url).await, connect(&url).await);
    let held = restore.transaction().await.unwrap();
    held.batch_execute(
        "LOCK TABLE leadership IN ACCESS EXCLUSIVE MODE; ALTER SCHEMA public RENAME TO aside; CREATE SCHEMA public;
         CREATE TABLE leadership (); CREATE TABLE schema_floor AS SELECT 1 AS version;
         CREATE TABLE refinery_schema_history AS SELECT 999 AS version",
    )
    .await
    .unwrap();
    let starter = Ledger::new(&url, 2, "starter").unwrap();
    let starting = tokio::spawn(async move { starter.migrate().await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'starter' AND wait_event_type = 'Lock'";
    wait::until("the starter waits", PATIENCE, async || {
        let waiting: i64 = sql.query_one(waits, &[]).await.unwrap().get(0);
        if waiting > 0 { Ok(()) } else { Err(starting.is_finished()) }
    })
    .await;
    held.commit().await.unwrap();
    let migrated = tokio::time::timeout(PATIENCE, starting).await.expect("it goes on").unwrap().unwrap();
    assert_eq!(migrated.version, 999, "what was restored, and not what was there before");
}

// The role of the database owns its database and nothing more.
#[tokio::test]
async fn a_role_that_may_not_have_autovacuum_give_way_migrates_all_the_same() {
    let stores = Stores::temporary().await.unwrap();
    let url = stores.create_database("plain").await.unwrap();
    let sql = connect(&url).await;
    let role = "CREATE ROLE plain LOGIN PASSWORD 'plain'; ALTER DATABASE plain OWNER TO plain";
    sql.batch_execute(role).await.unwrap();
    let (_, place) = url.split_once('@').unwrap();
    let url = format!("postgres://plain:plain@{place}");
    let may = connect(&url).await.batch_execute("SET deadlock_timeout = 100").await;
    assert!(may.is_err(), "{may:?}");
    let migrated = Ledger::new(&url, 2, "plain").unwrap().migrate().await.unwrap();
    assert_eq!(migrated.version, known_version());
}

/// Runs `baton migrate` as the next version would, which only adds a column.
fn next_version(url: &str, folder: &std::path::Path) -> tokio::process::Child {
    let name = format!("V{}__later.sql", known_version() + 1);
    std::fs::write(folder.join(name), "ALTER TABLE signal ADD COLUMN later text").unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_baton"));
    command.arg("migrate").env_clear().env("DATABASE_URL", url).env("BATON_LATER_MIGRATIONS", folder);
    for (key, value) in [
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("OPENALGO_API_KEY", "k"),
        ("BATON_TRADING__CAPITAL", "1000000"),
    ] {
        command.env(key, value);
    }
    command
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

// A backup holds its tables for minutes. A migration that waited for one would have every signal wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_table_keeps_nobody_from_it() {
    let stores = Stores::temporary().await.unwrap();
    let url = stores.create_database("busy").await.unwrap();
    Ledger::new(&url, 2, "test").unwrap().migrate().await.unwrap();
    let (mut backup, sql) = (connect(&url).await, connect(&url).await);
    let held = backup.transaction().await.unwrap();
    held.execute("SELECT FROM signal", &[]).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let migrator = next_version(&url, folder.path());
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE NOT l.granted AND l.mode = 'AccessExclusiveLock' AND a.application_name = 'baton/migrate'";
    wait::until("the migration waits for the table", PATIENCE, async || {
        let waiting: i64 = sql.query_one(waits, &[]).await.unwrap().get(0);
        if waiting > 0 { Ok(()) } else { Err(()) }
    })
    .await;
    let read = sql.query("SELECT FROM signal", &[]);
    tokio::time::timeout(PATIENCE, read).await.expect("it makes way while the backup goes on").unwrap();

    let free = format!("SELECT pg_try_advisory_lock({})", ha::locks::MIGRATION);
    wait::until("it frees the migration lock from one try to the next", PATIENCE, async || {
        if sql.query_one(&free, &[]).await.unwrap().get(0) { Ok(()) } else { Err(()) }
    })
    .await;
    let freed = format!("SELECT pg_advisory_unlock({})", ha::locks::MIGRATION);
    sql.batch_execute(&freed).await.unwrap();

    held.commit().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, migrator.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && said.contains("__later"), "{ended:?}");
    sql.query("SELECT later FROM signal", &[]).await.unwrap();
}

// It gives way only to who has waited deadlock_timeout for it, a second, and no migration waits for so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autovacuum_gives_way_to_a_migration() {
    let stores = Stores::temporary().await.unwrap();
    let url = stores.create_database("vacuumed").await.unwrap();
    Ledger::new(&url, 2, "test").unwrap().migrate().await.unwrap();
    let sql = connect(&url).await;
    sql.batch_execute("ALTER SYSTEM SET autovacuum_naptime = '1s'").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // At least a tenth of a second for each of more than three hundred pages: longer than is waited for it here.
    sql.batch_execute(
        "ALTER TABLE signal SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
            autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
         INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by)
         SELECT gen_random_uuid(), n::text, 'EXIT', 'test', 'GOLD_MINI', '{}', convert_to(repeat('x', 1000), 'UTF8'), 'b1'
         FROM generate_series(1, 3000) n;
         DELETE FROM signal",
    )
    .await
    .unwrap();
    let works = "SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'autovacuum worker' AND query LIKE 'autovacuum: VACUUM%public.signal'";
    wait::until("autovacuum works on the table", PATIENCE, async || {
        let working: i64 = sql.query_one(works, &[]).await.unwrap().get(0);
        if working > 0 { Ok(()) } else { Err(()) }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let migrator = next_version(&url, folder.path());
    let ended =
        tokio::time::timeout(PATIENCE, migrator.wait_with_output()).await.expect("it gives way").unwrap();
    assert!(ended.status.success(), "{ended:?}");
    sql.query("SELECT later FROM signal", &[]).await.unwrap();
}

fn texts(folder: &str) -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn number(path: &str) -> u32 {
    let name = path.rsplit('/').next().unwrap();
    name[1..].split("__").next().unwrap().parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

// A number that is there twice, or that a later release puts below one that is applied, stops every start.
#[test]
fn migrations_have_numbers_of_their_own_and_nothing_speaks_of_one_that_is_not_there() {
    let migrations = texts("migrations");
    let numbers: BTreeSet<u32> = migrations.iter().map(|(path, _)| number(path)).collect();
    assert_eq!(numbers.len(), migrations.len(), "two migrations have one number");
    assert!(numbers.contains(&FLOOR), "{numbers:?}");
    for (path, text) in &migrations {
        let statements = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        for line in statements.filter(|line| line.contains("schema_floor")) {
            let floors =
                line.split(|letter: char| !letter.is_ascii_digit()).filter(|floor| !floor.is_empty());
            for floor in floors {
                assert!(numbers.contains(&floor.parse().unwrap()), "{path}: {line}");
            }
        }
    }
    let root = ["CHANGELOG.md", "ARCHITECTURE.md", "RUNBOOK.md"].map(|name| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        (name.to_owned(), std::fs::read_to_string(path).unwrap())
    });
    for (path, text) in migrations.into_iter().chain(texts("docs/adr")).chain(root) {
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            let spoken = word.strip_prefix('V').and_then(|digits| digits.parse().ok());
            assert!(spoken.is_none_or(|spoken| numbers.contains(&spoken)), "{path} speaks of {word}");
        }
    }
}

// ADR 42: a rolling upgrade has the version before beside it.
#[test]
fn a_migration_that_takes_away_says_which_binaries_it_still_takes() {
    let takes_away = ["DROP TABLE", "DROP COLUMN", "RENAME ", "SET NOT NULL", " TYPE "];
    for (name, text) in texts("migrations") {
        let version = number(&name);
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let code = code.join("\n").to_uppercase();
        let found: Vec<_> = takes_away.iter().filter(|words| code.contains(**words)).collect();
        assert!(
            version <= FLOOR || found.is_empty() || code.contains("UPDATE SCHEMA_FLOOR"),
            "{name} has {found:?} and does not raise schema_floor"
        );
    }
}
