//! A private PostgreSQL with a migrated ledger.

use baton::ledger::Ledger;
use local::Stores;
use tokio_postgres::{Client, NoTls};

/// Stores of this test alone, and the ledger in them.
pub struct Database {
    pub stores: Stores,
    pub ledger: Ledger,
}

impl Database {
    /// Starts the stores and brings the schema up.
    pub async fn start() -> Self {
        Self::in_stores(stores(false).await).await
    }

    /// The same, with every commit synced to disk.
    pub async fn synced() -> Self {
        Self::in_stores(stores(true).await).await
    }

    async fn in_stores(stores: Stores) -> Self {
        let ledger = Ledger::new(&stores.database_url(), 16, "baton-test").unwrap();
        ledger.migrate().await.unwrap();
        Self { stores, ledger }
    }

    /// A session of its own.
    pub async fn connect(&self) -> Client {
        connect(&self.stores.database_url()).await
    }
}

/// Private stores, which sync every commit to disk or none.
pub async fn stores(synced: bool) -> Stores {
    let started = if synced { Stores::temporary_and_synced().await } else { Stores::temporary().await };
    started.expect("private stores start")
}

/// A plain session; its driver ends with it.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
