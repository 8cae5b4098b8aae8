//! The fence under race: a stale leader's journal against takeovers, thousands of times (HA.md rule 8).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use baton::domain::order::OrderClass;
use baton::ledger::journal::JOURNAL;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::commit::{bare, script};
use crate::rows::{hold, journal, row};
use crate::support::database::Database;
use crate::support::seed::Seed;

/// Takeovers that the fenced statement must survive.
const ROUNDS: usize = 2000;
/// Takeovers within which the statement without its row lock must have failed.
const MUTANT_ROUNDS: usize = 3000;
/// Orders journaled together, as a busy leader does.
const BATCH: usize = 8;

/// What the rounds saw.
#[derive(Debug, Default)]
struct Tally {
    /// Takeovers with an intent of the old epoch that was not there at the takeover's commit.
    violated: usize,
    /// Intents that the stale leader got in before the takeover.
    journaled: usize,
    /// Rounds played.
    rounds: usize,
}

/// A takeover as `ha` does it: the row locked, the epoch raised, committed; then what the old epoch left is read.
async fn take_over(client: &Client, epoch: i64) -> HashSet<Uuid> {
    client.batch_execute("BEGIN").await.unwrap();
    let found: i64 =
        client.query_one("SELECT epoch FROM leadership WHERE id = 1 FOR UPDATE", &[]).await.unwrap().get(0);
    assert_eq!(found, epoch);
    client.execute("UPDATE leadership SET epoch = $1 WHERE id = 1", &[&(epoch + 1)]).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    of_epoch(client, epoch).await
}

async fn of_epoch(client: &Client, epoch: i64) -> HashSet<Uuid> {
    let rows = client.query("SELECT id FROM order_intent WHERE epoch = $1", &[&epoch]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// One stale leader journals as fast as it can, another session takes over at a random moment, again and again.
/// Ends early when `enough` violations were seen.
async fn race(database: &Database, sql: &str, rounds: usize, enough: usize, seed: &mut Seed) -> Tally {
    let (stale, candidate) = (database.connect().await, database.connect().await);
    candidate.execute("CREATE INDEX ON order_intent (epoch)", &[]).await.unwrap();
    hold(&candidate).await;
    let statement = stale.prepare(sql).await.unwrap();
    let mut tally = Tally::default();
    let first: i64 = candidate.query_one("SELECT epoch FROM leadership", &[]).await.unwrap().get(0);
    for epoch in (first..).take(rounds) {
        let journaling = async {
            let mut count = 0;
            loop {
                let rows = (0..BATCH).map(|_| row(OrderClass::Entry, Uuid::now_v7(), 1)).collect();
                match journal(&stale, &statement, epoch, rows).await {
                    Some(ids) => count += ids.len(),
                    None => return count,
                }
            }
        };
        // At a random moment of the journaling: it takes a millisecond or two.
        let moment = seed.duration(Duration::from_millis(3));
        let taking = async {
            let begun = Instant::now();
            while begun.elapsed() < moment {
                tokio::task::yield_now().await;
            }
            take_over(&candidate, epoch).await
        };
        let (count, seen) = tokio::join!(journaling, taking);
        let all = of_epoch(&candidate, epoch).await;
        assert!(seen.is_subset(&all));
        tally.rounds += 1;
        tally.journaled += count;
        tally.violated += usize::from(all.len() > seen.len());
        if tally.violated >= enough {
            break;
        }
    }
    tally
}

// R: B1, S3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_no_intent_of_an_old_epoch_commits_after_a_takeover() {
    let database = Database::start().await;
    let mut seed = Seed::drawn("race");
    let begun = Instant::now();
    let tally = race(&database, JOURNAL, ROUNDS, usize::MAX, &mut seed).await;
    println!("with FOR SHARE: {tally:?} in {:?}", begun.elapsed());
    assert_eq!((tally.violated, tally.rounds), (0, ROUNDS));
    // The race was real: the stale leader was at work when it was taken over.
    assert!(tally.journaled > ROUNDS, "{tally:?}");
}

// The test above can see what it looks for: without the row lock the same race goes wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_row_lock_a_stale_intent_slips_in() {
    let database = Database::start().await;
    let mut seed = Seed::drawn("race without the lock");
    let unlocked = JOURNAL.replace(" FOR SHARE", "");
    assert_ne!(unlocked, JOURNAL);
    let tally = race(&database, &unlocked, MUTANT_ROUNDS, 20, &mut seed).await;
    println!("without FOR SHARE: {tally:?}");
    assert!(tally.violated > 0, "{tally:?}");
}

// A halt is a hard line as well: its switch is a column of the same row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_commits_after_a_halt_returned() {
    let database = Database::start().await;
    let mut seed = Seed::drawn("halt");
    let (leader, operator) = (database.connect().await, database.connect().await);
    hold(&operator).await;
    let statement = leader.prepare(JOURNAL).await.unwrap();
    let in_all = || async {
        operator.query_one("SELECT count(*) FROM order_intent", &[]).await.unwrap().get::<_, i64>(0)
    };
    for _ in 0..300 {
        let halts = Arc::new(AtomicI64::new(0));
        let journaling = async {
            loop {
                let rows = vec![row(OrderClass::Entry, Uuid::now_v7(), 1)];
                let committed = journal(&leader, &statement, 0, rows).await.unwrap();
                if committed.is_empty() {
                    return;
                }
                assert!(halts.load(Ordering::SeqCst) < 2, "journaled after the halt had returned");
            }
        };
        let moment = seed.duration(Duration::from_millis(3));
        let halting = async {
            let begun = Instant::now();
            while begun.elapsed() < moment {
                tokio::task::yield_now().await;
            }
            operator.execute("UPDATE leadership SET halted = true", &[]).await.unwrap();
            let count = in_all().await;
            halts.fetch_add(1, Ordering::SeqCst);
            count
        };
        let ((), at_the_halt) = tokio::join!(journaling, halting);
        assert_eq!(in_all().await, at_the_halt);
        operator.execute("UPDATE leadership SET halted = false", &[]).await.unwrap();
    }
}

// R: S3, S16
// The same number under another holder: a PostgreSQL failover took the memory of it along, and Redis was away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_of_another_holder_fences_though_its_number_is_the_same() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = crate::rows::statement(&client).await;
    let entry = || vec![row(OrderClass::Entry, Uuid::now_v7(), 1)];
    assert_eq!(journal(&client, &statement, 0, entry()).await.unwrap().len(), 1);
    let sql = "UPDATE leadership SET holder_member = 'b2', holder_incarnation = $1";
    client.execute(sql, &[&Uuid::now_v7()]).await.unwrap();
    assert_eq!(journal(&client, &statement, 0, entry()).await, None);
}

// The benches compare with it, and run seldom.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bare_commit_of_the_benches_is_a_statement_of_this_schema() {
    let database = Database::start().await;
    let session = database.connect().await;
    let statement = session.prepare(&bare()).await.unwrap();
    let rows = vec![row(OrderClass::Entry, Uuid::now_v7(), 1)];
    assert_eq!(journal(&session, &statement, 0, rows).await.map(|ids| ids.len()), Some(1));
    session.batch_execute(&script()).await.unwrap();
}
