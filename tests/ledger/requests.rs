//! Cancels and modifies: fenced, held back by the switches of what they make room for, and a stop only moves up.

use baton::domain::ids::{IntentId, SignalId};
use baton::domain::order::OrderClass::{self, Entry, Exit, Operator, Protective};
use baton::domain::request::RequestState;
use baton::ledger::requests::{CANCEL, MODIFY, RAISE_BID};
use rust_decimal::Decimal;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::rows::{journal, position, row, statement};
use crate::support::database::Database;

/// A stop of `quantity` units that rests at the broker, trigger 80, under a position whose stop is at 90.
async fn resting(client: &Client, quantity: i64) -> Uuid {
    let statement = statement(client).await;
    let held = position(client, "Long_1", quantity).await;
    let mut stop = row(Protective, held, quantity);
    (stop["price_type"], stop["price"], stop["trigger_price"]) = ("SL".into(), "79".into(), "80".into());
    let id = journal(client, &statement, 0, vec![stop]).await.unwrap()[0];
    become_(client, id, "acknowledged").await;
    id
}

async fn become_(client: &Client, id: Uuid, state: &str) {
    let sql = "UPDATE order_intent SET state = $2, broker_order_id = $1::uuid::text WHERE id = $1";
    client.execute(sql, &[&id, &state]).await.unwrap();
}

/// The request's id when the ledger took it; none of the row at all means fenced.
async fn ask(
    client: &Client,
    epoch: i64,
    intent: Uuid,
    class: OrderClass,
    to: Option<i64>,
) -> Option<Option<Uuid>> {
    let (id, me, class) = (Uuid::now_v7(), Uuid::nil(), class.as_str());
    let row = match to {
        None => client.query_opt(CANCEL, &[&epoch, &id, &me, &intent, &class]).await,
        Some(trigger) => {
            let (price, trigger) = (Decimal::from(trigger - 1), Decimal::from(trigger));
            client.query_opt(MODIFY, &[&epoch, &id, &me, &intent, &class, &price, &trigger]).await
        }
    };
    let order: Option<String> = row.unwrap()?.get(3);
    Some(order.map(|_| id))
}

async fn state(client: &Client, table: &str, id: Uuid) -> String {
    let sql = format!("SELECT state FROM {table} WHERE id = $1");
    client.query_one(&sql, &[&id]).await.unwrap().get(0)
}

async fn set_state(client: &Client, table: &str, id: Uuid, state: &str) {
    client.execute(&format!("UPDATE {table} SET state = $2 WHERE id = $1"), &[&id, &state]).await.unwrap();
}

// R: S3, S13
#[tokio::test]
async fn a_request_is_fenced_and_held_back_by_the_switches_of_its_class() {
    let database = Database::start().await;
    let client = database.connect().await;
    let stop = resting(&client, 10).await;
    for to in [None, Some(85)] {
        assert_eq!(ask(&client, 7, stop, Protective, to).await, None, "another epoch");
    }
    let allowed = async |class| ask(&client, 0, stop, class, None).await.unwrap().is_some();
    client.execute("UPDATE leadership SET halted = true", &[]).await.unwrap();
    let seen = (allowed(Exit).await, allowed(Protective).await, allowed(Operator).await);
    assert_eq!(seen, (false, true, true), "a halted EXIT does not take the stop away");
    client.execute("UPDATE leadership SET halt_all = true", &[]).await.unwrap();
    let seen = (allowed(Exit).await, allowed(Protective).await, allowed(Operator).await);
    assert_eq!(seen, (false, false, true));
    client.execute("UPDATE order_cancel SET state = 'void'", &[]).await.unwrap();
    assert_eq!(ask(&client, 0, stop, Protective, Some(85)).await, Some(None), "nor is it moved");
    client.execute("UPDATE leadership SET halted = false, halt_all = false", &[]).await.unwrap();
    assert!(ask(&client, 0, stop, Protective, Some(85)).await.unwrap().is_some());
    let gold = r#"UPDATE leadership SET instruments = '{"GOLD_MINI": {"halted": "infinity"}}'"#;
    client.batch_execute(&format!("UPDATE order_cancel SET state = 'void'; {gold}")).await.unwrap();
    let seen = (allowed(Exit).await, allowed(Protective).await, allowed(Operator).await);
    assert_eq!(seen, (false, true, true), "nor does one that is halted on its instrument alone");
    let other = "UPDATE leadership SET holder_member = 'b2', holder_incarnation = $1";
    client.execute(other, &[&Uuid::now_v7()]).await.unwrap();
    assert_eq!(ask(&client, 0, stop, Protective, None).await, None, "another holder of the same epoch");
}

#[tokio::test]
async fn a_stop_moves_up_only_one_move_at_a_time_and_not_while_it_is_cancelled() {
    let database = Database::start().await;
    let client = database.connect().await;
    let stop = resting(&client, 10).await;
    let raise = async |to| ask(&client, 0, stop, Protective, Some(to)).await.unwrap();
    assert_eq!(raise(80).await, None, "it is there already");
    assert_eq!(raise(91).await, None, "above the position's own stop");
    let first = raise(85).await.unwrap();
    assert_eq!(raise(86).await, None, "the first one may still arrive, and would undo it");
    set_state(&client, "order_modify", first, "in_doubt").await;
    assert_eq!(raise(86).await, None);
    set_state(&client, "order_modify", first, "applied").await;
    assert_eq!(raise(84).await, None, "down");
    let second = raise(88).await.unwrap();
    set_state(&client, "order_modify", second, "acknowledged").await;
    assert!(raise(88).await.is_some(), "what had no effect is asked again");
    client.execute("UPDATE order_modify SET state = 'void' WHERE state = 'journaled'", &[]).await.unwrap();
    let cancel = ask(&client, 0, stop, Exit, None).await.unwrap().unwrap();
    assert_eq!(raise(89).await, None, "it is on its way out");
    set_state(&client, "order_cancel", cancel, "rejected").await;
    assert!(raise(89).await.is_some());
    let row = client.query_one("SELECT quantity FROM order_intent WHERE id = $1", &[&stop]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 10, "a modify has no quantity to change");
}

#[tokio::test]
async fn nothing_is_asked_about_an_order_that_does_not_rest() {
    let database = Database::start().await;
    let client = database.connect().await;
    let stop = resting(&client, 10).await;
    become_(&client, stop, "partially_filled").await;
    assert_eq!(ask(&client, 0, stop, Protective, Some(85)).await, Some(None), "it has triggered");
    assert!(ask(&client, 0, stop, Protective, None).await.unwrap().is_some(), "its rest can be cancelled");
    become_(&client, stop, "cancelled").await;
    assert_eq!(ask(&client, 0, stop, Operator, None).await, Some(None));
    assert_eq!(ask(&client, 0, Uuid::now_v7(), Entry, None).await, Some(None));
}

/// A bid of 10 units at 80 that rests at the broker, of an entry whose last price is 90; with its signal.
async fn bid(client: &Client) -> (Uuid, Uuid) {
    let statement = statement(client).await;
    position(client, "Long_1", 1).await;
    let signal: Uuid = client.query_one("SELECT id FROM signal", &[]).await.unwrap().get(0);
    let mut bid = row(Entry, Uuid::now_v7(), 10);
    (bid["price_type"], bid["price"], bid["signal_id"]) =
        ("LIMIT".into(), "80".into(), signal.to_string().into());
    bid["plan"] =
        json!({ "strategy": "default", "bidding": { "units": 10, "prices": ["80", "85.5", "90"] } });
    let id = journal(client, &statement, 0, vec![bid]).await.unwrap()[0];
    become_(client, id, "acknowledged").await;
    (id, signal)
}

async fn raise(client: &Client, epoch: i64, intent: Uuid, to: i64) -> Option<Option<Uuid>> {
    let (id, me, to) = (Uuid::now_v7(), Uuid::nil(), Decimal::from(to));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&epoch, &id, &me, &intent, &Entry.as_str(), &to, &Decimal::ZERO];
    let order: Option<String> = client.query_opt(RAISE_BID, &values).await.unwrap()?.get(3);
    Some(order.map(|_| id))
}

// R: S3, S13
#[tokio::test]
async fn a_bid_rises_one_move_at_a_time_up_to_its_last_price_and_while_entries_are_let_through() {
    let database = Database::start().await;
    let client = database.connect().await;
    let (bid, _) = bid(&client).await;
    let raise = async |to| raise(&client, 0, bid, to).await.unwrap();
    assert_eq!(self::raise(&client, 7, bid, 85).await, None, "another epoch");
    assert_eq!(ask(&client, 0, bid, Entry, Some(85)).await, Some(None), "it is no stop");
    assert_eq!(raise(80).await, None, "it is there already");
    assert_eq!(raise(91).await, None, "beyond what was decided");
    let switch = async |halted: bool, halt_all: bool, reduce_only: bool| {
        let sql = "UPDATE leadership SET halted = $1, halt_all = $2, reduce_only = $3";
        client.execute(sql, &[&halted, &halt_all, &reduce_only]).await.unwrap();
    };
    for (halted, halt_all, reduce_only) in [(true, false, false), (true, true, false), (false, false, true)] {
        switch(halted, halt_all, reduce_only).await;
        assert_eq!(raise(85).await, None, "{halted} {halt_all} {reduce_only}");
    }
    switch(false, false, false).await;
    let disable = "UPDATE leadership SET strategies = $1";
    client.execute(disable, &[&json!({ "default": false })]).await.unwrap();
    assert_eq!(raise(85).await, None, "its strategy is disabled");
    client.execute(disable, &[&json!({ "default": true })]).await.unwrap();
    for switch in ["halted", "reduce_only"] {
        let of_instrument = "UPDATE leadership SET instruments = $1";
        client.execute(of_instrument, &[&json!({ "GOLD_MINI": { switch: "infinity" } })]).await.unwrap();
        assert_eq!(raise(85).await, None, "{switch} of its instrument");
        assert_eq!(ask(&client, 0, bid, Entry, None).await, Some(None), "nor is room made for another order");
        client.execute(of_instrument, &[&json!({ "COPPER": { switch: "infinity" } })]).await.unwrap();
    }
    let first = raise(85).await.unwrap();
    assert_eq!(raise(86).await, None, "the first one may still arrive, and would undo it");
    set_state(&client, "order_modify", first, "applied").await;
    assert_eq!(raise(85).await, None);
    let cancel = ask(&client, 0, bid, Entry, None).await.unwrap().unwrap();
    assert_eq!(raise(90).await, None, "it is on its way out");
    set_state(&client, "order_cancel", cancel, "rejected").await;
    let last = raise(90).await.unwrap();
    set_state(&client, "order_modify", last, "void").await;
    become_(&client, bid, "partially_filled").await;
    assert_eq!(raise(90).await, None, "a broker may read its quantity as what is left");
}

// R: S13: a bid that is never raised is known to be held back, too.
#[tokio::test]
async fn a_bid_that_stands_is_held_back_by_every_switch_that_an_entry_is() {
    let database = Database::start().await;
    let client = database.connect().await;
    let (bid, _) = bid(&client).await;
    let other = position(&client, "Long_2", 10).await;
    let stop =
        journal(&client, &statement(&client).await, 0, vec![row(Protective, other, 10)]).await.unwrap()[0];
    let asked = [IntentId(bid), IntentId(stop), IntentId(Uuid::now_v7())];
    let held_back = async || Vec::from_iter(database.ledger.entries_held_back(&asked).await.unwrap());
    assert_eq!(held_back().await, []);
    for (on, off) in [
        ("halted = true", "halted = false"),
        ("halted = true, halt_all = true", "halted = false, halt_all = false"),
        ("reduce_only = true", "reduce_only = false"),
        (r#"strategies = '{"default": false}'"#, r#"strategies = '{"default": true, "other": false}'"#),
        (r#"instruments = '{"GOLD_MINI": {"halted": "infinity"}}'"#, "instruments = '{}'"),
        (
            r#"instruments = '{"GOLD_MINI": {"reduce_only": "infinity"}}'"#,
            r#"instruments = '{"COPPER": {"halted": "infinity"}}'"#,
        ),
    ] {
        client.execute(&format!("UPDATE leadership SET {on}"), &[]).await.unwrap();
        assert_eq!(held_back().await, [IntentId(bid)], "{on}");
        client.execute(&format!("UPDATE leadership SET {off}"), &[]).await.unwrap();
        assert_eq!(held_back().await, [], "{off}");
    }
}

// R: S1: what follows an entry's order follows from the cancel that made room for it, and from no other.
#[tokio::test]
async fn an_entry_goes_on_after_the_cancel_that_made_room_and_after_no_other() {
    for (classes, goes_on) in
        [(&[Entry][..], true), (&[Operator], false), (&[Entry, Operator], false), (&[], false)]
    {
        let database = Database::start().await;
        let client = database.connect().await;
        let (bid, signal) = bid(&client).await;
        for class in classes {
            assert!(ask(&client, 0, bid, *class, None).await.unwrap().is_some());
        }
        let refused = ask(&client, 0, bid, Entry, None).await.unwrap().unwrap();
        set_state(&client, "order_cancel", refused, "rejected").await;
        become_(&client, bid, "cancelled").await;
        let found = database.ledger.was_cancelled_for_more(SignalId(signal)).await.unwrap();
        assert_eq!(found, goes_on, "{classes:?}");
    }
}

// R: S13: a switch that holds entries back lets nothing make room for one.
#[tokio::test]
async fn a_cancel_that_makes_room_for_an_entry_is_held_back_like_one() {
    let database = Database::start().await;
    let client = database.connect().await;
    let (bid, _) = bid(&client).await;
    client.execute("UPDATE leadership SET reduce_only = true", &[]).await.unwrap();
    assert_eq!(ask(&client, 0, bid, Entry, None).await, Some(None));
    assert!(ask(&client, 0, bid, Operator, None).await.unwrap().is_some());
}

// A cancel's or a modify's fate is known when its order's is.
#[tokio::test]
async fn the_end_of_an_order_settles_what_was_asked_about_it() {
    let database = Database::start().await;
    let client = database.connect().await;
    for (end, cancel_is) in [("cancelled", "applied"), ("rejected", "void")] {
        client
            .batch_execute("TRUNCATE order_cancel, order_modify, fill, order_intent, position CASCADE")
            .await
            .unwrap();
        let stop = resting(&client, 10).await;
        let modify = ask(&client, 0, stop, Protective, Some(85)).await.unwrap().unwrap();
        let lost = ask(&client, 0, stop, Exit, None).await.unwrap().unwrap();
        set_state(&client, "order_cancel", lost, "in_doubt").await;
        let open = ask(&client, 0, stop, Exit, None).await.unwrap().unwrap();
        become_(&client, stop, end).await;
        assert_eq!(state(&client, "order_modify", modify).await, "void", "{end}");
        assert_eq!(state(&client, "order_cancel", lost).await, cancel_is, "{end}");
        assert_eq!(state(&client, "order_cancel", open).await, cancel_is, "{end}: before its answer");
    }
}

// R: N4
#[tokio::test]
async fn a_request_moves_only_as_the_code_says() {
    let database = Database::start().await;
    let client = database.connect().await;
    let stop = resting(&client, 10).await;
    for &old in RequestState::ALL {
        for &new in RequestState::ALL {
            let allowed: bool = client
                .query_one("SELECT order_request_may_become($1, $2)", &[&old.as_str(), &new.as_str()])
                .await
                .unwrap()
                .get(0);
            assert_eq!(allowed, old.may_become(new), "{old} -> {new}");
            let id = Uuid::now_v7();
            let insert = "INSERT INTO order_cancel (id, intent_id, epoch, incarnation, order_id, state)
                VALUES ($1, $2, 1, $1, 'x', $3)";
            client.execute(insert, &[&id, &stop, &old.as_str()]).await.unwrap();
            let moved = client
                .execute("UPDATE order_cancel SET state = $2 WHERE id = $1", &[&id, &new.as_str()])
                .await;
            assert_eq!(moved.is_ok(), allowed || old == new, "{old} -> {new}: {moved:?}");
        }
    }
    let unknown = client.execute("UPDATE order_cancel SET state = 'BANANA'", &[]).await;
    assert!(unknown.is_err());
}
