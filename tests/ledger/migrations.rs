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
