//! Halt and reduce-only hold in the journal statement itself, class by class.

use std::time::Duration;

use baton::domain::order::OrderClass;
use baton::ledger::switches::Switches;
use baton::ledger::switching::{Switch, SwitchChange};
use chrono::{TimeDelta, Utc};

use crate::rows::{journal, position, row, statement};
use crate::support::database::Database;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(20);

// R: B4, S13
#[tokio::test]
async fn s13_each_switch_blocks_its_classes_and_no_other() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let held = position(&client, "Long_1", 1000).await;
    for bits in 0..8u8 {
        let switches =
            Switches { halted: bits & 1 != 0, halt_all: bits & 2 != 0, reduce_only: bits & 4 != 0 };
        if switches.halt_all && !switches.halted {
            continue;
        }
        client
            .execute(
                "UPDATE leadership SET halted = $1, halt_all = $2, reduce_only = $3",
                &[&switches.halted, &switches.halt_all, &switches.reduce_only],
            )
            .await
            .unwrap();
        assert_eq!(database.ledger.switches().await.unwrap(), switches);
        for &class in OrderClass::ALL {
            let committed = journal(&client, &statement, 0, vec![row(class, held, 1)]).await.unwrap();
            assert_eq!(committed.len() == 1, switches.allow(class), "{class} under {switches:?}");
        }
    }
    // All at once in one statement: each for itself.
    client
        .execute("UPDATE leadership SET halted = true, halt_all = false, reduce_only = false", &[])
        .await
        .unwrap();
    let rows = OrderClass::ALL.iter().map(|class| row(*class, held, 1)).collect();
    let committed = journal(&client, &statement, 0, rows).await.unwrap();
    assert_eq!(committed.len(), 2, "protective and operator pass a halt, entry and exit do not");
}

#[tokio::test]
async fn halt_all_without_halt_cannot_be_stored() {
    let database = Database::start().await;
    let client = database.connect().await;
    assert!(client.execute("UPDATE leadership SET halt_all = true", &[]).await.is_err());
}

/// Turns a switch on, for so many milliseconds or until somebody ends it.
async fn on(database: &Database, switch: Switch, ms: Option<i64>) {
    let until = ms.map(|ms| Utc::now() + TimeDelta::milliseconds(ms));
    let (who, why) = ("asha".to_owned(), "a test".to_owned());
    database.ledger.set_switch(&SwitchChange { switch, on: true, who, why, until }).await.unwrap();
}

/// Waits until the time of `switch` was over, and gives what is in force then.
async fn after_the_end_of(database: &Database, switch: Switch) -> Switches {
    let mut ended = Vec::new();
    wait::until("its time is over", PATIENCE, async || {
        ended.extend(database.ledger.expire_switches().await.unwrap());
        if ended.contains(&switch) { Ok(()) } else { Err(ended.clone()) }
    })
    .await;
    database.ledger.switches().await.unwrap()
}

// R: B4
#[tokio::test]
async fn a_timed_halt_ends_none_that_has_no_end_nor_one_that_ends_later() {
    let (halt, all) = (Switch::Halted, Switch::HaltAll);
    let halted = Switches { halted: true, ..Switches::default() };
    let everything = Switches { halt_all: true, ..halted };
    const HOUR: Option<i64> = Some(3_600_000);

    let database = Database::start().await;
    for lasting in [None, HOUR] {
        on(&database, halt, lasting).await;
        on(&database, all, Some(600)).await;
        assert_eq!(database.ledger.switches().await.unwrap(), everything);
        assert_eq!(after_the_end_of(&database, all).await, halted, "the older halt ends at {lasting:?}");
    }
    // The other way round: a halt of everything is a halt for as long as it lasts.
    for lasting in [None, HOUR] {
        on(&database, all, lasting).await;
        on(&database, halt, Some(300)).await;
        let client = database.connect().await;
        let due = "SELECT count(*) FROM leadership WHERE halted_until < now() + interval '10 s'";
        let soon: i64 = client.query_one(due, &[]).await.unwrap().get(0);
        assert_eq!((soon, database.ledger.switches().await.unwrap()), (0, everything), "{lasting:?}");
    }
}

// R: B4
#[tokio::test]
async fn the_history_tells_of_both_halts_when_one_command_moved_both() {
    let database = Database::start().await;
    on(&database, Switch::HaltAll, Some(300)).await;
    after_the_end_of(&database, Switch::Halted).await;
    let client = database.connect().await;
    let rows =
        client.query("SELECT switch, value FROM switch_history ORDER BY at, switch", &[]).await.unwrap();
    let told: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let told: Vec<(&str, bool)> = told.iter().map(|(switch, value)| (switch.as_str(), *value)).collect();
    assert_eq!(told, [("halt_all", true), ("halted", true), ("halt_all", false), ("halted", false)]);
}
