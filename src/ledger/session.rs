//! A pooled session in use, and what becomes of it afterwards.
//!
//! Whoever gives up on an answer drops the session with its statement, and the pool would hand it to the next one, who would wait behind
//! that statement: for good, if its process hangs. So a session that was out for long has to answer once more before it goes back, beside
//! whoever had it; one that does not is closed. Most are out for milliseconds: those go back as they are, at no cost.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio::runtime::Handle;

/// Nobody gives up on an answer sooner, and few statements take so long.
const LONG: Duration = Duration::from_millis(250);
/// How long a session may take to answer that has nothing to do: a busy machine is no reason to connect anew, and whoever waits for a
/// session does so for longer.
const ANSWERS: Duration = Duration::from_secs(1);

/// A session that goes back to its pool, or does not, when it is dropped.
pub(crate) struct Session {
    /// None only while it is dropped.
    object: Option<Object>,
    since: Instant,
}

impl Session {
    /// Takes a session into use.
    pub(super) fn new(object: Object) -> Self {
        Self { object: Some(object), since: Instant::now() }
    }
}

impl Deref for Session {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object.as_ref().expect("it is taken by the drop alone")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Object {
        self.object.as_mut().expect("it is taken by the drop alone")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if self.since.elapsed() < LONG {
            return;
        }
        // Without a runtime the process is at its end.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(give_back(object));
        }
    }
}

/// Gives it back once it answers. What waits for a session meanwhile gets another one, or one in its place.
async fn give_back(object: Object) {
    match tokio::time::timeout(ANSWERS, object.simple_query("")).await {
        Ok(Ok(_)) => drop(object),
        // A session that was closed is found out by the pool; it is the same to it.
        Ok(Err(_)) => drop(Object::take(object)),
        Err(_) => {
            tracing::warn!(
                "a session of the ledger's pool does not answer in {} ms: it is closed",
                ANSWERS.as_millis()
            );
            drop(Object::take(object));
        }
    }
}

#[cfg(test)]
mod tests {
    use local::Stores;

    use crate::ledger::Ledger;

    use super::*;

    /// Stops or continues a process of the database, as a host does that hangs.
    fn signal(pid: i32, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    async fn pid(ledger: &Ledger) -> i32 {
        let client = ledger.client().await.unwrap();
        client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_session_whose_process_hangs_is_waited_for_by_nobody_after_the_first() {
        let stores = Stores::temporary().await.expect("private stores start");
        // There is no other one to be had by chance.
        let ledger = Ledger::new(&stores.database_url(), 1, "baton-test").unwrap();
        let hangs = pid(&ledger).await;
        signal(hangs, rustix::process::Signal::STOP);
        let given_up = tokio::time::timeout(LONG * 2, ledger.ping()).await;
        assert!(given_up.is_err(), "its process was stopped");
        let next = tokio::time::timeout(ANSWERS * 10, pid(&ledger)).await.expect("it has another session");
        assert_ne!(next, hangs);
        signal(hangs, rustix::process::Signal::CONT);
        stores.stop().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_session_that_was_out_for_long_and_answers_is_kept() {
        let stores = Stores::temporary().await.expect("private stores start");
        let ledger = Ledger::new(&stores.database_url(), 1, "baton-test").unwrap();
        let first = pid(&ledger).await;
        let client = ledger.client().await.unwrap();
        client.batch_execute("SELECT pg_sleep(0.4)").await.unwrap();
        drop(client);
        assert_eq!(pid(&ledger).await, first);
        // One that was left with a statement which goes on is not.
        let left = async {
            ledger
                .client()
                .await
                .unwrap()
                .batch_execute("SET statement_timeout = 0; SELECT pg_sleep(60)")
                .await
        };
        tokio::time::timeout(LONG * 2, left).await.unwrap_err();
        let second = pid(&ledger).await;
        assert_ne!(second, first);
        // Nor does it go on at the server.
        let left = "SELECT FROM pg_stat_activity WHERE pid = $1";
        let begun = Instant::now();
        while ledger.client().await.unwrap().query_opt(left, &[&first]).await.unwrap().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "its statement takes a minute");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stores.stop().await.unwrap();
    }
}
