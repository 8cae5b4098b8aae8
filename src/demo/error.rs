//! Why the private cluster, or its story, could not go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the private cluster, or its story, could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory for logs.
    #[error("cannot make a directory for the cluster's logs in {}; set TMPDIR to one that can be written", .dir.display())]
    Directory {
        /// Where.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// PostgreSQL or Redis does not run.
    #[error("the private stores do not run")]
    Stores(#[source] Box<local::Error>),
    /// This binary cannot be found or started once more.
    #[error("{name} cannot be started")]
    Start {
        /// Which process.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The process could not be made.
    #[error("{name} cannot be started")]
    Spawn {
        /// Which process.
        name: String,
        /// Why.
        source: local::process::Error,
    },
    /// A process did not say that it listens.
    #[error("{name} did not come up ({why}); its log {} ends with: {tail}", log.display())]
    NotUp {
        /// Which process.
        name: String,
        /// What was seen instead.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// No such member, or it does not run.
    #[error("{0} does not run")]
    NotRunning(String),
    /// Something did not come true in time.
    #[error("still not so after {} s: {what}", waited.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A question to the cluster failed.
    #[error("the cluster does not answer as it should")]
    Cluster(#[from] crate::replay::Error),
    /// The bridge's control port failed.
    #[error("the paper bridge's control port: {0}")]
    Bridge(String),
    /// The database could not be asked.
    #[error("the ledger cannot be read beside the cluster")]
    Audit(#[from] tokio_postgres::Error),
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client; see the cause")]
    Client(#[source] reqwest::Error),
}
