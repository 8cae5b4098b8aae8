//! The equity curve as people read it: the session's closed positions in a real PostgreSQL, and the product's own statements
//! over them.

use chrono::TimeDelta;
use local::Stores;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::Session;
use crate::domain::money::Rupees;
use crate::ledger::Ledger;
use crate::ledger::books::{Filter, Realised};

const SIGNALS: &str = "
INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, status, finished_at)
SELECT p.entry_signal, p.entry_signal::text, 'BASE_ENTRY', p.strategy, p.instrument, '{}', '', 'b1', 'executed', now()
FROM jsonb_populate_recordset(NULL::\"position\", $1) p ON CONFLICT DO NOTHING";
const POSITIONS: &str = "INSERT INTO position SELECT * FROM jsonb_populate_recordset(NULL::\"position\", $1)";
const PORTFOLIO: &str = "
INSERT INTO portfolio_state (capital, closed_equity, equity_high, risk_amount, volatility_amount, margin_used)
VALUES ($1, $2, $3, 0, 0, 0)";

/// The last point's equity, and what the ledger says that equity is made of.
pub(super) async fn read(session: &Session) -> (Rupees, Realised) {
    let stores = Stores::temporary().await.expect("private stores start");
    let ledger = Ledger::new(&stores.database_url(), 2, "baton-test").unwrap();
    ledger.migrate().await.unwrap();
    let (sql, connection) =
        tokio_postgres::connect(&stores.database_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = &session.desk.rows;
    let closed = session.desk.closed.iter().enumerate().map(|(place, (id, _))| {
        let mut row = json!(rows.positions[id]);
        row["closed_at"] = json!(session.desk.begins + TimeDelta::seconds(i64::try_from(place).unwrap()));
        row
    });
    let closed: Value = closed.collect();
    for statement in [SIGNALS, POSITIONS] {
        sql.execute(statement, &[&closed]).await.unwrap();
    }
    let portfolio = rows.portfolio.expect("it was stored");
    let amounts: [&Decimal; 3] = [&portfolio.capital.0, &portfolio.closed_equity.0, &portfolio.equity_high.0];
    sql.execute(PORTFOLIO, &[amounts[0], amounts[1], amounts[2]]).await.unwrap();
    let page = ledger.equity(&Filter::default(), None, 1).await.unwrap();
    let last = page.rows[0].equity.expect("of all trades");
    let realised = ledger.realised().await.unwrap().expect("the portfolio is there");
    stores.stop().await.unwrap();
    (Rupees(last), realised)
}
