//! Never more out than in: exit quantity out never exceeds what is held (HA.md rule 11), in the statement itself.

use baton::domain::order::OrderClass::{Entry, Exit, Operator, Protective};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::rows::{journal, position, row, statement};
use crate::support::database::Database;

async fn set(client: &Client, id: Uuid, state: &str, filled: i64) {
    client
        .execute(
            "UPDATE order_intent SET state = $2, filled_quantity = $3, broker_order_id = $1::uuid::text WHERE id = $1",
            &[&id, &state, &filled],
        )
        .await
        .unwrap();
}

// R: S15
#[tokio::test]
async fn s15_exits_out_never_exceed_what_is_held() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let held = position(&client, "Long_1", 100).await;
    let other = position(&client, "Long_2", 5).await;
    let try_one = async |class, position, quantity| {
        let committed = journal(&client, &statement, 0, vec![row(class, position, quantity)]).await.unwrap();
        committed.first().copied()
    };

    assert_eq!(try_one(Exit, held, 101).await, None);
    let first = try_one(Exit, held, 60).await.unwrap();
    let status: String =
        client.query_one("SELECT status FROM position WHERE id = $1", &[&held]).await.unwrap().get(0);
    assert_eq!(status, "closing", "the exit's journaling marks its position");
    // Every class counts, whatever asks: 60 are out.
    for class in [Exit, Protective, Operator] {
        assert_eq!(try_one(class, held, 41).await, None, "{class}");
    }
    let second = try_one(Protective, held, 40).await.unwrap();
    assert_eq!(try_one(Operator, held, 1).await, None);
    // Another position has its own room, and entries are not exits.
    assert!(try_one(Exit, other, 5).await.is_some());
    assert!(try_one(Entry, held, 500).await.is_some());

    // In doubt still counts; ended does not; filled units have left the position and the order alike.
    set(&client, first, "in_doubt", 0).await;
    assert_eq!(try_one(Exit, held, 1).await, None);
    set(&client, second, "cancelled", 0).await;
    assert_eq!(try_one(Exit, held, 41).await, None);
    set(&client, first, "partially_filled", 30).await;
    client.execute("UPDATE position SET quantity = 70 WHERE id = $1", &[&held]).await.unwrap();
    assert_eq!(try_one(Exit, held, 41).await, None);
    assert!(try_one(Exit, held, 40).await.is_some());
    assert_eq!(try_one(Exit, held, 1).await, None);
}

#[tokio::test]
async fn exits_of_one_statement_count_together() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let held = position(&client, "Long_1", 100).await;
    let rows = vec![row(Exit, held, 60), row(Protective, held, 60)];
    assert_eq!(journal(&client, &statement, 0, rows).await.unwrap(), Vec::<Uuid>::new());
    let rows = vec![row(Exit, held, 60), row(Protective, held, 40)];
    assert_eq!(journal(&client, &statement, 0, rows).await.unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_is_sold_from_a_position_that_is_not_there() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    for class in [Exit, Protective, Operator] {
        let rows = vec![row(class, Uuid::now_v7(), 1)];
        assert_eq!(journal(&client, &statement, 0, rows).await.unwrap(), Vec::<Uuid>::new(), "{class}");
    }
}

#[tokio::test]
async fn a_leg_has_one_intent_per_attempt() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let signal: Uuid = {
        position(&client, "Long_1", 1).await;
        client.query_one("SELECT id FROM signal", &[]).await.unwrap().get(0)
    };
    let of_signal = |attempt: i32| {
        let mut row = row(Entry, Uuid::now_v7(), 1);
        row["signal_id"] = signal.to_string().into();
        row["attempt"] = attempt.into();
        vec![row]
    };
    let first = journal(&client, &statement, 0, of_signal(0)).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(journal(&client, &statement, 0, of_signal(0)).await.unwrap().len(), 0);
    assert_eq!(
        journal(&client, &statement, 0, of_signal(1)).await.unwrap().len(),
        0,
        "the first may still buy"
    );
    set(&client, first[0], "not_sent", 0).await;
    assert_eq!(journal(&client, &statement, 0, of_signal(0)).await.unwrap().len(), 0);
    assert_eq!(journal(&client, &statement, 0, of_signal(1)).await.unwrap().len(), 1);
}

// R: S1: an entry's orders never buy more together than was decided.
#[tokio::test]
async fn s1_another_order_of_an_entry_has_the_room_that_proven_ends_leave() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let signal: Uuid = {
        position(&client, "Long_1", 1).await;
        client.query_one("SELECT id FROM signal", &[]).await.unwrap().get(0)
    };
    let order = async |attempt: i32, quantity: i64| {
        let mut row = row(Entry, Uuid::now_v7(), quantity);
        row["signal_id"] = signal.to_string().into();
        row["attempt"] = attempt.into();
        row["plan"] = serde_json::json!({ "bidding": { "units": 100 } });
        journal(&client, &statement, 0, vec![row]).await.unwrap().first().copied()
    };
    assert_eq!(order(0, 101).await, None, "more than was decided");
    let first = order(0, 100).await.unwrap();
    for (state, filled) in [
        ("journaled", 0_i64),
        ("in_doubt", 0),
        ("acknowledged", 0),
        ("partially_filled", 40),
        ("abandoned", 40),
        ("cancelled", 40),
    ] {
        let sql =
            "UPDATE order_intent SET state = $2, filled_quantity = $3, broker_order_id = 'L' WHERE id = $1";
        client.batch_execute("ALTER TABLE order_intent DISABLE TRIGGER order_intent_state").await.unwrap();
        client.execute(sql, &[&first, &state, &filled]).await.unwrap();
        client.batch_execute("ALTER TABLE order_intent ENABLE TRIGGER order_intent_state").await.unwrap();
        assert_eq!(order(1, 61).await, None, "{state}");
        if state != "cancelled" {
            assert_eq!(order(1, 60).await, None, "{state}: it may still buy the rest");
        }
    }
    let rest = order(1, 60).await.unwrap();
    assert_eq!(order(2, 1).await, None, "the second one may buy all of it");
    set(&client, rest, "cancelled", 10).await;
    assert_eq!(order(2, 51).await, None);
    assert!(order(2, 50).await.is_some());
}

// Live books return no id of ours: two unresolved orders of the same terms could not be told apart.
#[tokio::test]
async fn no_two_unresolved_orders_look_alike() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let twin = || {
        let mut row = row(Entry, Uuid::now_v7(), 7);
        row["symbol"] = "GOLDM".into();
        row
    };
    let first = twin();
    let id: Uuid = first["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(journal(&client, &statement, 0, vec![first]).await.unwrap(), [id]);
    assert_eq!(journal(&client, &statement, 0, vec![twin()]).await.unwrap(), Vec::<Uuid>::new());
    set(&client, id, "acknowledged", 0).await;
    assert_eq!(journal(&client, &statement, 0, vec![twin()]).await.unwrap().len(), 1);
}
