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
        let stores = Stores::temporary().await.expect("private stores start");
        let ledger = Ledger::new(&stores.database_url(), 16, "baton-test").unwrap();
        ledger.migrate().await.unwrap();
        Self { stores, ledger }
    }

    /// A session of its own.
    pub async fn connect(&self) -> Client {
        connect(&self.stores.database_url()).await
    }
}

/// A plain session; its driver ends with it.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
