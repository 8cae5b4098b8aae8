//! What those left open, or untold, who are not there any more.

use baton::notify::{Census, Event, Kind};

use crate::double::Telegram;
use crate::instance::{Instance, PATIENCE, delivered, open};
use crate::support::database::Database;
use crate::support::wait;
use crate::throttle::{silent_for, there_for};

// Whoever leads knows from the ledger what holds: what a leader that died left open is over, what it did not live to tell is
// told, and what was seen once is left alone. One that leads no more says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_in_the_ledger_ends_what_was_left_open_and_tells_what_was_not_told() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let more = [("BATON_NOTIFY__NOTIFICATION_AGGREGATION_WINDOW", "0")];
    let dead = Instance::start(&database, &telegram, "b1", &more).await;
    for scope in ["over", "holds", "unsure"] {
        dead.notifier.from("engine").raise(Event::about(Kind::OrderInDoubt, scope, "in doubt"));
    }
    let kind = "ORDER_IN_DOUBT";
    open(&database, &[(kind, "holds"), (kind, "over"), (kind, "unsure")]).await;
    dead.end().await;

    let leader = Instance::start(&database, &telegram, "b2", &more).await;
    let census = |epoch: i64| Census {
        epoch,
        holds: ["holds", "untold"].map(|scope| (scope.to_owned(), "in doubt".to_owned())).into(),
        unsure: ["unsure".to_owned()].into(),
    };
    let engine = leader.notifier.from("engine");
    let client = database.connect().await;
    let epoch: i64 = client.query_one("SELECT epoch FROM leadership", &[]).await.unwrap().get(0);
    engine.census(Kind::OrderInDoubt, census(epoch));
    open(&database, &[(kind, "holds"), (kind, "unsure"), (kind, "untold")]).await;
    delivered(&telegram, "RECOVERED ORDER_IN_DOUBT over", 1).await;
    delivered(&telegram, "ORDER_IN_DOUBT untold", 1).await;
    assert_eq!(telegram.with("ORDER_IN_DOUBT holds").len(), 1, "{:#?}", telegram.delivered());

    // A successor leads: what this one last knew counts for nothing.
    client.execute("UPDATE leadership SET epoch = epoch + 1", &[]).await.unwrap();
    engine.census(Kind::OrderInDoubt, Census { epoch, ..Census::default() });
    engine.raise(Event::about(Kind::ForeignOrder, "1", "recorded before what holds"));
    delivered(&telegram, "FOREIGN_ORDER 1", 1).await;
    open(&database, &[(kind, "holds"), (kind, "unsure"), (kind, "untold")]).await;
    engine.census(Kind::OrderInDoubt, Census { epoch: epoch + 1, ..Census::default() });
    open(&database, &[]).await;
    leader.end().await;
}

// One that was paused for so long that the others ended its reports says them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_gone_and_comes_back_reports_again_what_it_has_not_taken_back() {
    let (database, telegram) = (Database::start().await, Telegram::start().await);
    let instance = Instance::start(&database, &telegram, "b1", &[]).await;
    instance.notifier.from("disk").raise(Event::about(Kind::HostError, "disk", "12 MB are free"));
    open(&database, &[("HOST_ERROR", "disk")]).await;
    // The instance marks itself meanwhile, too.
    wait::until("its report is ended", PATIENCE, async || {
        silent_for(&database, "b1", 10).await;
        there_for(&database, "b2", 10).await;
        match database.ledger.end_reports_of_the_gone(&["HOST_ERROR"], "b2").await.unwrap() {
            0 => Err(()),
            ended => Ok(ended),
        }
    })
    .await;
    open(&database, &[("HOST_ERROR", "disk")]).await;
    let row = &database.ledger.errors(true, 1).await.unwrap()[0];
    assert_eq!(row.open_count, 1, "{row:?}");
    instance.end().await;
}
