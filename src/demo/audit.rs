//! The auditor: reads the ledger's tables beside the cluster, over a session of its own.
//!
//! The story's claims are about what was written, so they are checked where it was written and not by the instances
//! that wrote it. Its villain is here, too: [`tamper`].

use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::error::Error;

/// A read-only session.
#[derive(Debug)]
pub(super) struct Audit {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
}

/// How a term of leadership began.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) epoch: i64,
    pub(super) member: String,
    pub(super) reason: String,
    /// Milliseconds without a leader, as the new one measured.
    pub(super) gap_ms: Option<i64>,
}

/// An order intent, as far as the story needs it.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    pub(super) tag: String,
    pub(super) state: String,
    pub(super) epoch: i64,
    pub(super) incarnation: Uuid,
    pub(super) class: String,
    pub(super) cause: Option<String>,
    pub(super) instrument: String,
}

impl Intent {
    /// Whether an order must be at the bridge for it.
    pub(super) fn was_sent(&self) -> bool {
        !matches!(self.state.as_str(), "not_sent" | "abandoned")
    }
}

impl Audit {
    pub(super) async fn connect(url: &str) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the auditor's session ended");
            }
        });
        client.batch_execute("SET default_transaction_read_only = on").await?;
        Ok(Self { client, driver })
    }

    /// The newest term.
    pub(super) async fn term(&self) -> Result<Term, Error> {
        let statement =
            "SELECT epoch, member, reason, gap_ms FROM leadership_history ORDER BY epoch DESC LIMIT 1";
        let row = self.client.query_one(statement, &[]).await?;
        Ok(Term { epoch: row.get(0), member: row.get(1), reason: row.get(2), gap_ms: row.get(3) })
    }

    /// Every intent, oldest first.
    pub(super) async fn intents(&self) -> Result<Vec<Intent>, Error> {
        let statement =
            "SELECT strategy_tag, state, epoch, incarnation, class, cause, instrument FROM order_intent
             ORDER BY journaled_at";
        let rows = self.client.query(statement, &[]).await?;
        let intent = |row: &tokio_postgres::Row| Intent {
            tag: row.get(0),
            state: row.get(1),
            epoch: row.get(2),
            incarnation: row.get(3),
            class: row.get(4),
            cause: row.get(5),
            instrument: row.get(6),
        };
        Ok(rows.iter().map(intent).collect())
    }

    /// How many signals there are, and how many are not final.
    pub(super) async fn signals(&self) -> Result<(i64, i64), Error> {
        let statement = "SELECT count(*), count(*) FILTER (WHERE finished_at IS NULL) FROM signal";
        let row = self.client.query_one(statement, &[]).await?;
        Ok((row.get(0), row.get(1)))
    }
}

/// What somebody does who has a session on the database and should not: changes a stored figure.
pub(super) async fn tamper(url: &str) -> Result<(), Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let done = client.batch_execute("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    driver.abort();
    Ok(done?)
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
