//! The account's day as the ledger has it: what its sales realised, and which limits are latched.

use baton::domain::money::Rupees;
use baton::domain::sessions::day_start;
use chrono::{NaiveDate, TimeDelta};
use rust_decimal::{Decimal, dec};
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
