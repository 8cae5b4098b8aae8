//! Deposits and withdrawals as rows: the first portfolio opens the account, nothing is changed or taken away, and the equity
//! curve has the capital of each time.

use baton::domain::ids::MovementId;
use baton::domain::money::Rupees;
use baton::ledger::books::Filter;
use rust_decimal::{Decimal, dec};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::rows::position;
use crate::support::database::Database;

const OPEN: &str = "INSERT INTO portfolio_state (capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used)
    VALUES (5000, 5000, 5000, 0, 0, 0)
    ON CONFLICT (id) DO UPDATE SET capital = portfolio_state.capital";

async fn moves(client: &Client, kind: &str, amount: Decimal, at: &str) -> Uuid {
    let id = Uuid::now_v7();
    let sql = "INSERT INTO cash_movement (id, kind, amount, who, why, at) VALUES ($1, $2, $3, 'asha', 'a test', $4::text::timestamptz)";
    client.execute(sql, &[&id, &kind, &amount, &at]).await.unwrap();
    let sql = "UPDATE portfolio_state SET capital = capital + $1, closed_equity = closed_equity + $1, equity_high = equity_high + $1";
    client.execute(sql, &[&amount]).await.unwrap();
    id
}

// R: B17
#[tokio::test]
async fn the_first_portfolio_is_the_opening_and_what_moved_stays_as_it_was_written() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    assert_eq!(ledger.cash().await.unwrap(), None);
    client.batch_execute(OPEN).await.unwrap();
    client.batch_execute(OPEN).await.unwrap();
    let id = moves(&client, "withdrawal", dec!(-250.5), "2026-08-10 05:00:00Z").await;
    // As a repair does: a portfolio that is made again opens nothing.
    client.batch_execute("DELETE FROM portfolio_state").await.unwrap();
    client.batch_execute(OPEN).await.unwrap();
    client
        .batch_execute("UPDATE portfolio_state SET capital = 4749.5, closed_equity = 4749.5")
        .await
        .unwrap();
    let cash = ledger.cash().await.unwrap().unwrap();
    assert_eq!((cash.opening, cash.capital, cash.closed_equity), (dec!(5000), dec!(4749.5), dec!(4749.5)));
    assert_eq!(cash.opened_otherwise(Rupees(dec!(5000.00))), None);
    let warning = cash.opened_otherwise(Rupees(dec!(6000))).unwrap();
    assert!(warning.contains("trading.capital is 6000, and the account was opened with 5000"), "{warning}");

    let row = ledger.cash_movement(MovementId(id)).await.unwrap().unwrap();
    assert_eq!((row.kind.as_str(), row.amount, row.who.as_str()), ("withdrawal", dec!(-250.5), "asha"));
    assert_eq!(ledger.cash_movement(MovementId(Uuid::now_v7())).await.unwrap(), None);
    let kinds: Vec<String> =
        ledger.cash_movements(10).await.unwrap().into_iter().map(|row| row.kind).collect();
    assert!(kinds.len() == 2 && kinds.contains(&"opening".to_owned()), "{kinds:?}");
    for refused in [
        "UPDATE cash_movement SET amount = -1 WHERE kind = 'withdrawal'",
        "UPDATE cash_movement SET why = 'another'",
        "DELETE FROM cash_movement",
        "TRUNCATE cash_movement",
        "INSERT INTO cash_movement (id, kind, amount, who, why) VALUES (gen_random_uuid(), 'opening', 1, 'asha', '')",
        "INSERT INTO cash_movement (id, kind, amount, who, why) VALUES (gen_random_uuid(), 'deposit', -1, 'asha', '')",
        "INSERT INTO cash_movement (id, kind, amount, who, why) VALUES (gen_random_uuid(), 'withdrawal', 0, 'asha', '')",
        "INSERT INTO cash_movement SELECT * FROM cash_movement",
    ] {
        client.batch_execute(refused).await.expect_err(refused);
    }
}

// R: B17
#[tokio::test]
async fn a_point_of_the_equity_curve_has_the_capital_of_its_time() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    client.batch_execute(OPEN).await.unwrap();
    for (label, at, realised) in
        [("Long_1", "2026-08-10 04:00:00Z", dec!(10)), ("Long_2", "2026-08-10 06:00:00Z", dec!(-30))]
    {
        let id = position(&client, label, 10).await;
        let sql = "UPDATE position SET status = 'closed', quantity = 0, realised = $2, closed_at = $3::text::timestamptz WHERE id = $1";
        client.execute(sql, &[&id, &realised, &at]).await.unwrap();
    }
    moves(&client, "deposit", dec!(1000), "2026-08-10 05:00:00Z").await;
    let points = ledger.equity(&Filter::default(), None, 10).await.unwrap().rows;
    let equity: Vec<Option<Decimal>> = points.iter().map(|point| point.equity).collect();
    assert_eq!(equity, [Some(dec!(5980)), Some(dec!(5010))], "the newest first");
    assert_eq!(ledger.realised().await.unwrap().unwrap().capital, dec!(6000));
}
