//! The bridge as a witness: it looks each order up in PostgreSQL when it arrives, before it does anything with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton::paper::{Arrival, ArrivalHook, Verb};
use tokio_postgres::{Client, NoTls};

/// A look that takes longer says nothing: the database is away.
const PATIENCE: Duration = Duration::from_millis(500);

/// What has been seen so far.
#[derive(Clone, Default)]
pub struct Witness(Arc<State>);

#[derive(Default)]
struct State {
    url: String,
    session: tokio::sync::Mutex<Option<Client>>,
    seen: Mutex<Seen>,
}

/// Orders by what the ledger knew of them when they arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Their intent was committed.
    pub committed: usize,
    /// The database could not be asked.
    pub unknown: usize,
    /// Tags of those whose intent was not committed: violations of S2.
    pub early: Vec<String>,
}

impl Witness {
    /// Looks into this database, in a session of its own.
    pub fn of(database_url: String) -> Self {
        Self(Arc::new(State { url: database_url, ..State::default() }))
    }

    /// What was seen.
    pub fn seen(&self) -> Seen {
        self.0.seen.lock().unwrap().clone()
    }

    /// For the bridge.
    pub fn hook(&self) -> ArrivalHook {
        let witness = self.clone();
        ArrivalHook(Arc::new(move |arrival| {
            let witness = witness.clone();
            Box::pin(async move { witness.look(&arrival).await })
        }))
    }

    async fn look(&self, arrival: &Arrival) {
        if arrival.verb != Verb::PlaceOrder {
            return;
        }
        let tag = arrival.body["strategy"].as_str().unwrap_or_default();
        let committed = tokio::time::timeout(PATIENCE, self.is_committed(tag)).await.ok().flatten();
        let mut seen = self.0.seen.lock().unwrap();
        match committed {
            Some(true) => seen.committed += 1,
            Some(false) => seen.early.push(tag.to_owned()),
            None => seen.unknown += 1,
        }
    }

    async fn is_committed(&self, tag: &str) -> Option<bool> {
        let mut session = self.0.session.lock().await;
        if session.as_ref().is_none_or(Client::is_closed) {
            let (client, connection) = tokio_postgres::connect(&self.0.url, NoTls).await.ok()?;
            tokio::spawn(connection);
            *session = Some(client);
        }
        let sql = "SELECT 1 FROM order_intent WHERE strategy_tag = $1";
        Some(session.as_ref()?.query_opt(sql, &[&tag]).await.ok()?.is_some())
    }
}
