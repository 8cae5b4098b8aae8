//! Switches of one instrument hold in the journal statement itself, there alone, and the stricter wins.

use std::time::Duration;

use baton::domain::order::OrderClass;
use baton::ledger::instrument_switches::OF_INSTRUMENTS;
use baton::ledger::release::Seen;
use baton::ledger::switches::Switches;
use baton::ledger::switching::{Switch, SwitchChange};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::rows::{journal, position, row, statement};
use crate::support::database::Database;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(20);
const GOLD: &str = "GOLD_MINI";

fn order(instrument: &str, class: OrderClass, held: Uuid) -> Value {
    let mut row = row(class, held, 1);
    row["instrument"] = instrument.into();
    row
}

async fn set(database: &Database, switch: Switch, on: bool, until: Option<DateTime<Utc>>) {
    let (who, why) = ("asha".to_owned(), "a test".to_owned());
    let change = SwitchChange { switch, on, who, why, until, seen: Seen::default() };
    database.ledger.set_instrument_switch(GOLD, &change).await.unwrap();
}

// R: B4, S13
#[tokio::test]
async fn s13_a_switch_of_one_instrument_blocks_its_classes_there_alone_and_the_stricter_wins() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let held = position(&client, "Long_1", 10_000).await;
    for cluster in [
        Switches::default(),
        Switches { reduce_only: true, ..Switches::default() },
        Switches { halted: true, ..Switches::default() },
        Switches { halted: true, halt_all: true, ..Switches::default() },
    ] {
        let sql = "UPDATE leadership SET halted = $1, halt_all = $2, reduce_only = $3";
        client.execute(sql, &[&cluster.halted, &cluster.halt_all, &cluster.reduce_only]).await.unwrap();
        for (halted, reduce_only) in [(false, false), (false, true), (true, false), (true, true)] {
            for (switch, on) in [(Switch::Halted, halted), (Switch::ReduceOnly, reduce_only)] {
                set(&database, switch, on, None).await;
            }
            let own = Switches { halted, halt_all: false, reduce_only };
            assert_eq!(database.ledger.instrument_switches(GOLD).await.unwrap(), own);
            for &class in OrderClass::ALL {
                // In one statement each is judged by its own instrument.
                let both = vec![order(GOLD, class, held), order("COPPER", class, held)];
                let committed = journal(&client, &statement, 0, both).await.unwrap().len();
                let elsewhere = cluster.allow(class);
                let expected = usize::from(elsewhere) + usize::from(elsewhere && own.allow(class));
                assert_eq!(committed, expected, "{class} under {cluster:?}, gold under {own:?}");
            }
        }
    }
}

// R: B4
#[tokio::test]
async fn they_are_shown_and_told_and_end_by_themselves() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    let all = ledger.switch_views().await.unwrap().len();
    set(&database, Switch::Halted, true, None).await;
    set(&database, Switch::ReduceOnly, true, Some(Utc::now() + TimeDelta::milliseconds(300))).await;
    let views = ledger.switch_views().await.unwrap().split_off(all);
    let shown: Vec<_> = views
        .iter()
        .map(|view| (view.instrument.as_deref(), view.switch, view.until.is_some(), view.who.as_deref()))
        .collect();
    let of = |switch, ends| (Some(GOLD), switch, ends, Some("asha"));
    assert_eq!(shown, [of(Switch::Halted, false), of(Switch::ReduceOnly, true)]);

    wait::until("its time is over", PATIENCE, async || {
        match ledger.expire_instrument_switches().await.unwrap().as_slice() {
            [(instrument, switch)] if instrument == GOLD && switch == "reduce_only" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let halted = Switches { halted: true, ..Switches::default() };
    assert_eq!(ledger.instrument_switches(GOLD).await.unwrap(), halted, "the other one stays");
    assert!(ledger.expire_instrument_switches().await.unwrap().is_empty());
    set(&database, Switch::Halted, false, None).await;
    assert_eq!(ledger.switch_views().await.unwrap().len(), all);
    let column: Value = client.query_one("SELECT instruments FROM leadership", &[]).await.unwrap().get(0);
    assert_eq!(column, serde_json::json!({}), "nothing is left of an instrument without switches");

    // Whoever writes the column directly is told, too.
    let by_hand = r#"UPDATE leadership SET instruments = '{"COPPER": {"reduce_only": "infinity"}}'"#;
    client.execute(by_hand, &[]).await.unwrap();
    let rows = client
        .query("SELECT instrument, switch, value, who FROM instrument_switch_history ORDER BY id", &[])
        .await
        .unwrap();
    let told: Vec<(String, String, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let told: Vec<(&str, &str, bool)> =
        told.iter().map(|(instrument, switch, on)| (instrument.as_str(), switch.as_str(), *on)).collect();
    assert_eq!(
        told,
        [
            (GOLD, "halted", true),
            (GOLD, "reduce_only", true),
            (GOLD, "reduce_only", false),
            (GOLD, "halted", false),
            ("COPPER", "reduce_only", true)
        ]
    );
    let who: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
    assert_eq!(who[..4], ["asha", "asha", "baton", "asha"]);
    let audited = "SELECT count(*) FROM audit_log WHERE kind = 'switch'";
    assert_eq!(client.query_one(audited, &[]).await.unwrap().get::<_, i64>(0), 5);
    assert!(ledger.verify_audit().await.unwrap().ok);
}

#[tokio::test]
async fn an_instrument_has_no_other_switch() {
    let database = Database::start().await;
    let client = database.connect().await;
    for switch in Switch::ALL.iter().filter(|switch| !OF_INSTRUMENTS.contains(switch)) {
        let (who, why) = ("asha".to_owned(), "a test".to_owned());
        let change = SwitchChange { switch: *switch, on: true, who, why, until: None, seen: Seen::default() };
        assert!(database.ledger.set_instrument_switch(GOLD, &change).await.is_err(), "{switch}");
    }
    for odd in [
        r#"[]"#,
        r#"{"A": true}"#,
        r#"{"A": {"halted": true}}"#,
        r#"{"A": {"paused": "infinity"}}"#,
        r#"{"A": {"halted": "forever"}}"#,
    ] {
        let sql = "UPDATE leadership SET instruments = $1::text::jsonb";
        assert!(client.execute(sql, &[&odd]).await.is_err(), "{odd}");
    }
}

// What no check keeps out is no reason to answer nothing: a time that there is not, of a switch that holds all the same.
#[tokio::test]
async fn an_end_that_is_no_time_leaves_its_switch_on_and_the_others_as_they_are() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    let column = r#"{"A": {"halted": "2026-13-45T99:99:99Z"}, "B": {"halted": "2026-01-01T00:00:00Z"}}"#;
    client.execute("UPDATE leadership SET instruments = $1::text::jsonb", &[&column]).await.unwrap();
    let ended = ledger.expire_instrument_switches().await.unwrap();
    assert_eq!(ended, [("B".to_owned(), "halted".to_owned())]);
    let views = ledger.switch_views().await.unwrap();
    let odd = views.iter().find(|view| view.instrument.as_deref() == Some("A")).unwrap();
    assert!(odd.on && odd.until.is_none(), "{odd:?}");
    assert!(odd.why.as_deref().unwrap().contains("is no time"), "{odd:?}");
    assert!(ledger.instrument_switches("A").await.unwrap().halted);
    let change = SwitchChange {
        switch: Switch::Halted,
        on: false,
        who: "asha".to_owned(),
        why: "a test".to_owned(),
        until: None,
        seen: Seen::default(),
    };
    ledger.set_instrument_switch("A", &change).await.unwrap();
    assert!(!ledger.instrument_switches("A").await.unwrap().halted);
}
