//! The account's day as the ledger has it: what its sales realised, and which limits are latched.

use baton::domain::money::Rupees;
use baton::domain::sessions::day_start;
use baton::ledger::snapshot::{Depth, Snapshot};
use chrono::{NaiveDate, TimeDelta};
use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::rows::position;
use crate::support::database::Database;

/// An order of a day for a position, filled in these parts (units, price).
async fn order(client: &Client, day: NaiveDate, position: Uuid, side: &str, parts: &[(i64, Decimal)]) {
    let id = Uuid::now_v7();
    let units: i64 = parts.iter().map(|(units, _)| units).sum();
    client
        .execute(
            "INSERT INTO order_intent (id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
                quantity, price_type, product, price, trigger_price, strategy_tag, state, broker_order_id,
                filled_quantity, send_window_ms, order_watermark, trading_day, plan)
             VALUES ($1, $2, 'GOLD_MINI', 1, $1, $5, 'X', 'MCX', $3, $4, 'MARKET', 'NRML', 0, 0, $1::uuid::text, 'filled',
                $1::uuid::text, $4, 1000, 0, $6, '{}')",
            &[&id, &position, &side, &units, &if side == "BUY" { "entry" } else { "exit" }, &day],
        )
        .await
        .unwrap();
    let mut cumulative = 0;
    for (units, price) in parts {
        cumulative += units;
        let fill = "INSERT INTO fill (intent_id, cumulative, quantity, price, charges) VALUES ($1, $2, $3, $4, 1.25)";
        client.execute(fill, &[&id, &cumulative, units, price]).await.unwrap();
    }
}

// R: B4
#[tokio::test]
async fn a_days_realised_profit_is_that_of_its_sales_and_of_no_others() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    let today = NaiveDate::from_ymd_opt(2026, 8, 11).unwrap();
    let yesterday = today - TimeDelta::days(1);
    let read = async || ledger.day(today, day_start(today)).await.unwrap();
    assert_eq!(read().await.realised, Rupees::ZERO);
    // Both were bought at 100, a unit is a rupee a point.
    let (one, other) = (position(&client, "Long_1", 10).await, position(&client, "Long_2", 10).await);
    order(&client, today, one, "BUY", &[(10, dec!(100))]).await;
    order(&client, yesterday, one, "SELL", &[(2, dec!(50))]).await;
    assert_eq!(read().await.realised, Rupees::ZERO);
    order(&client, today, one, "SELL", &[(1, dec!(101.25)), (2, dec!(90))]).await;
    order(&client, today, other, "SELL", &[(3, dec!(100.5))]).await;
    assert_eq!(read().await.realised, Rupees(dec!(-17.25)));
    // Four fills of the day's orders, bought or sold; one of an older version has none that are known.
    assert_eq!(read().await.charges, Rupees(dec!(5)));
    client.batch_execute("UPDATE fill SET charges = NULL WHERE price = 100.5").await.unwrap();
    assert_eq!(read().await.charges, Rupees(dec!(3.75)));
    // A sale of no position of the ledger's, by a custodian, has no cost to count against.
    order(&client, today, Uuid::now_v7(), "SELL", &[(5, dec!(1))]).await;
    assert_eq!(read().await.realised, Rupees(dec!(-17.25)));
}

#[tokio::test]
async fn latches_of_a_day_are_listed_with_their_times_the_oldest_first() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    client
        .batch_execute(
            "INSERT INTO limit_latch (day, code, sentence, at) VALUES
                ('2026-08-11', 'MAX_ORDERS_PER_DAY', 'five', '2026-08-11T06:00:00Z'),
                ('2026-08-11', 'MAX_DAILY_LOSS', 'much', '2026-08-11T05:00:00Z'),
                ('2026-08-10', 'MAX_DRAWDOWN', 'deep', '2026-08-10T05:00:00Z')",
        )
        .await
        .unwrap();
    let today = NaiveDate::from_ymd_opt(2026, 8, 11).unwrap();
    let latched = ledger.latches(today).await.unwrap();
    let codes: Vec<&str> = latched.iter().map(|latch| latch.code.as_str()).collect();
    assert_eq!(codes, ["MAX_DAILY_LOSS", "MAX_ORDERS_PER_DAY"]);
    assert_eq!(latched[0].at.to_rfc3339(), "2026-08-11T05:00:00+00:00");
    let day = ledger.day(today, day_start(today)).await.unwrap();
    assert_eq!(day.latched.len(), 2);
    assert_eq!((day.latched[0].code, day.latched[0].sentence.as_str()), ("MAX_DAILY_LOSS", "much"));
}

/// What the chain was told of days, without who told it and when.
async fn told(client: &Client) -> Vec<Value> {
    let sql = "SELECT payload::jsonb - '{session,at}'::text[] FROM audit_log WHERE kind = 'day' ORDER BY seq";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn read(database: &Database) -> Snapshot {
    database.ledger.snapshot(Depth::Open, &Default::default()).await.unwrap()
}

const OPENED: &str = "INSERT INTO trading_day (day, opening_equity) SELECT (now() AT TIME ZONE INTERVAL '05:30')::date, 5000000";
const LATCHED: &str =
    "INSERT INTO limit_latch (day, code, sentence) SELECT day, 'MAX_DRAWDOWN', 'deep' FROM trading_day";

// R: B9, C8: whatever opens a day, latches a limit or lifts it is told by the database; whatever writes one of them anew is not.
#[tokio::test]
async fn the_audit_chain_is_told_of_days_and_latches_and_not_of_what_is_written_over_them() {
    let database = Database::start().await;
    let client = database.connect().await;
    client.batch_execute(OPENED).await.unwrap();
    client.batch_execute(LATCHED).await.unwrap();
    let today: String = client.query_one("SELECT day::text FROM trading_day", &[]).await.unwrap().get(0);
    let opened = |equity: &str| json!({ "day": today, "opening": equity });
    let latched = json!({ "day": today, "latch": "MAX_DRAWDOWN", "sentence": "deep" });
    assert_eq!(told(&client).await, [opened("5000000"), latched.clone()]);
    let snapshot = read(&database).await;
    assert_eq!(snapshot.recorded.day.opening, snapshot.days.openings.values().next().copied());
    let (stored, recorded) = (snapshot.days.latches.values().next(), &snapshot.recorded.day.latches);
    assert_eq!(stored, recorded.get("MAX_DRAWDOWN"));
    assert_eq!((recorded.len(), snapshot.recorded.day.complete), (1, true));

    // As a deposit of any version does, and as nobody else does.
    let deposit = "INSERT INTO cash_movement (id, kind, amount, who, why) VALUES (gen_random_uuid(), 'deposit', 500.5, 'asha', 'a test');
        UPDATE trading_day SET opening_equity = opening_equity + 500.5";
    client.batch_execute(&format!("BEGIN; {deposit}; COMMIT")).await.unwrap();
    for unasked in [
        "UPDATE trading_day SET opening_equity = opening_equity + 500.5",
        "UPDATE trading_day SET opened_at = now(), day = day + 1",
        "INSERT INTO trading_day (day, opening_equity) VALUES ('2099-01-01', 1), ('infinity', 1)",
        "UPDATE limit_latch SET sentence = 'shallow'",
        "DELETE FROM trading_day",
    ] {
        client.batch_execute(unasked).await.unwrap();
    }
    client.batch_execute("DELETE FROM limit_latch").await.unwrap();
    let lifted = json!({ "day": today, "lifted": "MAX_DRAWDOWN" });
    assert_eq!(told(&client).await, [opened("5000000"), latched, opened("5000500.5"), lifted]);
    assert!(database.ledger.verify_audit().await.unwrap().ok);
}

// R: B9: rows from before the schema that tells of them are told when it comes; an older version's seal leaves the rest open.
#[tokio::test]
async fn a_day_that_was_opened_before_it_could_be_told_is_told_by_the_migration() {
    let database = Database::start().await;
    let client = database.connect().await;
    let undo = "DROP FUNCTION trading_day_audit CASCADE; DROP FUNCTION limit_latch_audit CASCADE;
        DROP FUNCTION trading_day_told; DROP FUNCTION limit_latch_told; DROP FUNCTION account_day_append;
        ALTER TABLE fill DROP COLUMN charges; ALTER TABLE position DROP COLUMN charges;
        ALTER TABLE portfolio_state DROP COLUMN charges; DELETE FROM refinery_schema_history WHERE version >= 31";
    client.batch_execute(undo).await.unwrap();
    client.batch_execute(OPENED).await.unwrap();
    client.batch_execute(LATCHED).await.unwrap();
    client
        .batch_execute("INSERT INTO trading_day (day, opening_equity) VALUES ('2026-01-05', 1)")
        .await
        .unwrap();
    assert_eq!(told(&client).await, [Value::Null; 0]);
    let applied = database.ledger.migrate().await.unwrap().applied;
    assert_eq!(applied.len(), 2, "{applied:?}");
    assert_eq!(told(&client).await.len(), 2);
    let snapshot = read(&database).await;
    let today = *snapshot.days.openings.keys().next_back().unwrap();
    assert_eq!(snapshot.recorded.day.day, Some(today));
    assert_eq!(snapshot.recorded.day.opening, snapshot.days.openings.get(&today).copied());
    assert!(database.ledger.verify_audit().await.unwrap().ok);
}
