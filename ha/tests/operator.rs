//! What operators do: fence a member, lift it, read the history.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use ha::operator::{OperatorError, Request};
use ha::{Epoch, Member, Role};
use support::{T, World, eventually};

fn request(epoch: Option<Epoch>) -> Request {
    Request { who: "asha".to_owned(), why: "it misbehaves".to_owned(), epoch }
}

fn member(name: &str) -> Member {
    Member::new(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_leader_loses_its_epoch_at_once_and_never_stands_again() {
    let world = World::new().await;
    let first = world.member("b1").await;
    let old = first.leads().await;
    let second = world.member("b2").await;
    second.sees_leader().await;

    let asked = Instant::now();
    let outcome = second.handle.fence_member(&member("b1"), &request(Some(old.epoch()))).await.unwrap();
    assert_eq!(outcome.ended, old.epoch().next());
    let new = second.leads().await;
    println!("fence to new leader: {:?}", asked.elapsed());
    assert!(new.epoch() > outcome.ended.unwrap());
    assert!(old.check().is_err(), "the old fence is closed");
    let again = second.handle.fence_member(&member("b1"), &request(None)).await.unwrap();
    assert!(again.already && again.ended.is_none());

    // It recovers, is the only one left, and still does not lead.
    eventually("b1 follows and is active again", async || {
        if let Role::Follower { .. } = first.role() {
            first.handle.set_status(ha::Status::Active).await;
            return first.handle.stats().borrow().waiting.contains("fenced").then_some(());
        }
        None
    })
    .await;
    let epoch = new.epoch();
    second.handle.leave().await;
    tokio::time::sleep(T * 2).await;
    assert!(first.fence().is_none(), "a fenced member leads");

    assert!(first.handle.unfence_member(&member("b1"), &request(None)).await.unwrap());
    assert!(!first.handle.unfence_member(&member("b1"), &request(None)).await.unwrap());
    let last = first.leads().await;
    assert!(last.epoch() > epoch);

    let history = first.handle.history(None, 100).await.unwrap();
    let reasons: Vec<&str> = history.iter().rev().map(|reign| reign.reason.as_str()).collect();
    assert_eq!(reasons, ["first_start", "fenced", "vacant", "vacant"]);
    let began = history.last().unwrap();
    assert_eq!(began.end_reason.as_deref(), Some("fenced"));
    assert_eq!(began.commands.len(), 1);
    assert_eq!((began.commands[0].who.as_str(), began.commands[0].why.as_str()), ("asha", "it misbehaves"));
    let page = first.handle.history(Some(history[1].epoch), 1).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].epoch, history[2].epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_a_fenced_member_whatever_it_believes() {
    let world = World::new().await;
    let first = world.member("b1").await;
    first.leads().await;
    let sql = world.sql().await;
    sql.batch_execute("INSERT INTO member_fence (member, who, why) VALUES ('b2', 'sql', 'test')")
        .await
        .unwrap();
    let promote = "UPDATE leadership SET epoch = epoch + 1, holder_member = 'b2', holder_incarnation = gen_random_uuid()";
    let refused = sql.batch_execute(promote).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("member b2 is fenced"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_command_and_an_unknown_member_are_refused() {
    let world = World::new().await;
    let first = world.member("b1").await;
    let fence = first.leads().await;
    let stale = first.handle.fence_member(&member("b1"), &request(Some(Epoch::new(99)))).await;
    assert!(matches!(stale, Err(OperatorError::Stale { found, .. }) if found == fence.epoch()), "{stale:?}");
    let unknown = first.handle.fence_member(&member("b9"), &request(None)).await;
    assert!(matches!(unknown, Err(OperatorError::Unknown(_))), "{unknown:?}");
    let unknown = first.handle.unfence_member(&member("b9"), &request(None)).await;
    assert!(matches!(unknown, Err(OperatorError::Unknown(_))), "{unknown:?}");
    assert!(fence.check().is_ok(), "nothing was done");
}

// A fence against one that is about to be promoted: either it finds the promotion and ends it, or the promotion finds
// the fence and is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_and_a_promotion_cannot_miss_each_other() {
    let world = World::new().await;
    let clerk = world.member_with("b0", |config| config.priority = 0).await;
    let first = world.member("b1").await;
    first.leads().await;
    let sql = world.sql().await;
    let until = Instant::now() + Duration::from_secs(6);
    let mut rounds = 0;
    while Instant::now() < until && rounds < 25 {
        rounds += 1;
        clerk.handle.fence_member(&member("b1"), &request(None)).await.unwrap();
        let holder: Option<String> =
            sql.query_one("SELECT holder_member FROM leadership", &[]).await.unwrap().get(0);
        assert_eq!(holder, None, "a fenced member holds the epoch");
        clerk.handle.unfence_member(&member("b1"), &request(None)).await.unwrap();
        if let Role::Follower { .. } = first.role() {
            first.handle.set_status(ha::Status::Active).await;
        }
        tokio::time::sleep(Duration::from_millis(rounds * 11 % 90)).await;
    }
    println!("{rounds} fences");
}
