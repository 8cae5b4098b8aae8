//! Halt and reduce-only hold in the journal statement itself, class by class.

use std::time::Duration;

use baton::domain::order::OrderClass;
use baton::ledger::release::Seen;
use baton::ledger::strategies::StrategyChange;
use baton::ledger::switches::Switches;
use baton::ledger::switching::{Switch, SwitchChange};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

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
    database
        .ledger
        .set_switch(&SwitchChange { switch, on: true, who, why, until, seen: Seen::default() })
        .await
        .unwrap();
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

fn say(strategy: &str, enabled: bool) -> StrategyChange {
    let (who, why) = ("asha".to_owned(), "a test".to_owned());
    StrategyChange { strategy: strategy.to_owned(), enabled, who, why, seen: Seen::default() }
}

fn entry_of(strategy: &str) -> Value {
    let mut row = row(OrderClass::Entry, uuid::Uuid::now_v7(), 1);
    row["plan"] = json!({ "strategy": strategy });
    row
}

// R: K8
#[tokio::test]
async fn no_entry_of_a_disabled_strategy_is_journaled_and_everything_else_is() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    let statement = statement(&client).await;
    let held = position(&client, "Long_1", 1000).await;
    let entries = async |expected: [bool; 2]| {
        for (strategy, expected) in ["default", "vwap"].into_iter().zip(expected) {
            let committed = journal(&client, &statement, 0, vec![entry_of(strategy)]).await.unwrap();
            assert_eq!(committed.len() == 1, expected, "{strategy}");
        }
    };
    entries([true, true]).await;
    ledger.set_strategy(&say("default", false)).await.unwrap();
    entries([false, true]).await;
    for &class in OrderClass::ALL.iter().filter(|class| **class != OrderClass::Entry) {
        let committed = journal(&client, &statement, 0, vec![row(class, held, 1)]).await.unwrap();
        assert_eq!(committed.len(), 1, "{class}");
    }
    // In one statement each is judged by its own strategy.
    let both = vec![entry_of("default"), entry_of("vwap")];
    assert_eq!(journal(&client, &statement, 0, both).await.unwrap().len(), 1);
    ledger.set_strategy(&say("vwap", false)).await.unwrap();
    ledger.set_strategy(&say("default", true)).await.unwrap();
    entries([true, false]).await;
    let said = ledger.strategies_said().await.unwrap();
    assert_eq!(
        said.into_iter().collect::<Vec<_>>(),
        [("default".to_owned(), true), ("vwap".to_owned(), false)]
    );
    client.execute("UPDATE leadership SET strategies = '{\"vwap\": true}'", &[]).await.unwrap();
    entries([true, true]).await;
    let rows =
        client.query("SELECT strategy, enabled, who FROM strategy_history ORDER BY id", &[]).await.unwrap();
    let history: Vec<(String, bool, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get::<_, &str>(2) == "asha")).collect();
    let told =
        [("default", false, true), ("vwap", false, true), ("default", true, true), ("vwap", true, false)];
    let told: Vec<_> = told.iter().map(|(name, on, by)| ((*name).to_owned(), *on, *by)).collect();
    assert_eq!(history, told, "whoever writes the column directly is told, too");
    let audited =
        client.query_one("SELECT count(*) FROM audit_log WHERE kind = 'strategy'", &[]).await.unwrap();
    assert_eq!(audited.get::<_, i64>(0), 4);
    assert!(ledger.verify_audit().await.unwrap().ok);
    for odd in ["{\"a\": \"false\"}", "[]", "{\"a\": null}"] {
        let sql = "UPDATE leadership SET strategies = $1::text::jsonb";
        assert!(client.execute(sql, &[&odd]).await.is_err(), "{odd}");
    }
}

// R: K8
#[tokio::test]
async fn a_strategy_is_shown_with_what_it_did_and_what_was_said_of_it() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    position(&client, "Long_1", 1000).await;
    client.execute("UPDATE signal SET received_at = now() - interval '2 days'", &[]).await.unwrap();
    ledger.set_strategy(&say("gone", false)).await.unwrap();
    let today = Utc::now() - TimeDelta::hours(24);
    let rows = ledger.strategy_rows(&["default".to_owned()], today).await.unwrap();
    let [default, gone, test] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((default.name.as_str(), default.said, default.signals_today), ("default", None, 0));
    assert!(default.last_signal.is_none() && default.who.is_none());
    assert_eq!(
        (gone.said, gone.who.as_deref(), gone.why.as_deref()),
        (Some(false), Some("asha"), Some("a test"))
    );
    assert_eq!((test.name.as_str(), test.signals_today, test.open_positions), ("test", 0, 1));
    assert_eq!(test.last_signal.as_ref().unwrap().kind, "BASE_ENTRY");
    position(&client, "Long_2", 1000).await;
    let rows = ledger.strategy_rows(&[], today).await.unwrap();
    assert_eq!((rows[1].signals_today, rows[1].open_positions), (1, 2), "{rows:?}");
}
