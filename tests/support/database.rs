//! A private PostgreSQL with a migrated ledger.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use baton::ledger::Ledger;
use local::Stores;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Stores of this test alone, and the ledger in them.
pub struct Database {
    pub stores: Stores,
    pub ledger: Ledger,
}

impl Database {
    /// Starts the stores and brings the schema up.
    pub async fn start() -> Self {
        Self::on(migrated_stores().await)
    }

    /// The same, with every commit synced to disk.
    pub async fn synced() -> Self {
        Self::on(synced_stores().await)
    }

    fn on(stores: Stores) -> Self {
        let ledger = Ledger::new(&stores.database_url(), 16, "baton-test").unwrap();
        Self { stores, ledger }
    }

    /// A session of its own.
    pub async fn connect(&self) -> Client {
        connect(&self.stores.database_url()).await
    }
}

/// The same stores, which sync every commit to disk: for figures, not for tests.
pub async fn synced_stores() -> Stores {
    let stores = Stores::temporary_and_synced().await.expect("private stores start");
    Ledger::new(&stores.database_url(), 1, "baton-test").unwrap().migrate().await.unwrap();
    stores
}

/// Stores of which the database has the ledger's schema. The migrations take longer than everything else about them, so
/// that they run once for each state of the folder `migrations`.
pub async fn migrated_stores() -> Stores {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let contents: BTreeMap<_, _> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    let migrate = async |url: String| Ledger::new(&url, 1, "baton-test")?.migrate().await.map(drop);
    Stores::temporary_filled(&format!("ledger {:016x}", hasher.finish()), migrate)
        .await
        .expect("private stores start")
}

/// A folder that the servers' account may enter: kept stores can be in it.
pub fn folder_for_stores() -> TempDir {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A plain session; its driver ends with it.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
