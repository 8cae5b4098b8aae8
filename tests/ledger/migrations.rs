//! Migrations: many starters at once, and a database of another version.

use baton::ledger::migrate::known_version;
use baton::ledger::{Ledger, LedgerError};
use local::Stores;

use crate::support::database::connect;

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
    connect(&url)
        .await
        .execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (999, 'later', '', '0')",
            &[],
        )
        .await
        .unwrap();
    for error in [ledger.check_schema().await.unwrap_err(), ledger.migrate().await.unwrap_err()] {
        assert!(matches!(error, LedgerError::SchemaTooNew { found: 999, .. }), "{error}");
        assert!(error.to_string().contains("run the newer baton"), "{error}");
    }
}
