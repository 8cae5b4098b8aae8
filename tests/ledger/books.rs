//! History: what was closed and what it won, to the paisa, page by page while more is closed.

use std::collections::BTreeSet;
use std::str::FromStr;

use baton::ledger::books::{Filter, ORDERS, Page, Place, TRADES};
use baton::ledger::signals::SIGNALS;
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::rows::position;
use crate::support::database::Database;

fn start() -> DateTime<Utc> {
    "2026-08-10T04:00:00Z".parse().unwrap()
}

/// What the `n`th trade wins: no two the same, both signs, paise and less.
fn realised(n: i64) -> Decimal {
    Decimal::new((n * 7919 % 200_003 - 100_000) * 37, 3)
}

/// Closes another position, bought at 100 and sold in two fills; two trades share each time.
async fn closed(client: &Client, n: i64) -> Uuid {
    let id = position(client, "Long_1", 4).await;
    let (instrument, strategy) = (["GOLD_MINI", "COPPER"][n as usize % 2], ["a", "b", "c"][n as usize % 3]);
    let at = start() + TimeDelta::seconds(n / 2);
    client
        .execute(
            "UPDATE position SET status = 'closed', quantity = 0, realised = $2, closed_at = $3, instrument = $4,
                strategy = $5 WHERE id = $1",
            &[&id, &realised(n), &at, &instrument, &strategy],
        )
        .await
        .unwrap();
    client
        .execute(
            "INSERT INTO order_intent (id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
                quantity, price_type, product, price, trigger_price, strategy_tag, state, broker_order_id,
                filled_quantity, send_window_ms, order_watermark, journaled_at)
             VALUES ($1, $1, $2, 1, $1, 'exit', 'X', 'MCX', 'SELL', 4, 'MARKET', 'NRML', 0, 0, $1::uuid::text, 'filled',
                $1::uuid::text, 4, 1000, 0, $3)",
            &[&id, &instrument, &at],
        )
        .await
        .unwrap();
    let fills =
        "INSERT INTO fill (intent_id, cumulative, quantity, price) VALUES ($1, 1, 1, 101), ($1, 4, 3, 105)";
    client.execute(fills, &[&id]).await.unwrap();
    id
}

async fn every<T>(mut page: impl AsyncFnMut(Option<Place>) -> Page<T>, size: usize) -> Vec<T> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let got = page(after).await;
        assert!(got.rows.len() <= size && (got.next.is_none() || got.rows.len() == size));
        rows.extend(got.rows);
        let Some(next) = got.next else { return rows };
        // As a client gives it back.
        after = Some(Place::from_str(&next.to_string()).unwrap());
    }
}

// R: K2
#[tokio::test]
async fn the_equity_curve_is_the_sum_of_what_closed_positions_realised_to_the_paisa() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    assert!(ledger.realised().await.unwrap().is_none());
    for n in 0..31 {
        closed(&client, n).await;
    }
    // Held, with an exit in part: none of the curve's.
    let held = position(&client, "Long_1", 2).await;
    client.execute("UPDATE position SET realised = 12.34 WHERE id = $1", &[&held]).await.unwrap();
    let capital = Decimal::new(1_000_000_050, 2);
    let total: Decimal = (0..31).map(realised).sum();
    let equity = capital + total + Decimal::new(1234, 2);
    client
        .execute(
            "INSERT INTO portfolio_state (id, capital, closed_equity, equity_high, risk_amount, volatility_amount,
                margin_used) VALUES (1, $1, $2, 20000000, 0, 0, 0)",
            &[&capital, &equity],
        )
        .await
        .unwrap();
    let now = ledger.realised().await.unwrap().unwrap();
    assert_eq!(
        (now.capital, now.closed, now.held, now.closed_equity),
        (capital, total, Decimal::new(1234, 2), equity)
    );
    assert_eq!(now.capital + now.closed + now.held, now.closed_equity);

    let all = Filter::default();
    let points = every(async |after| ledger.equity(&all, after, 7).await.unwrap(), 7).await;
    assert_eq!(points.len(), 31);
    let mut sum = Decimal::ZERO;
    for point in points.iter().rev() {
        sum += point.realised;
        assert_eq!((point.cumulative, point.equity), (sum, Some(capital + sum)));
    }
    assert_eq!(sum, total);

    // Filtered by what it is of, the sum is of that alone; filtered by time, it still begins at the beginning.
    let copper = Filter { instrument: Some("COPPER".to_owned()), ..Filter::default() };
    let points = every(async |after| ledger.equity(&copper, after, 4).await.unwrap(), 4).await;
    let odd: Decimal = (0..31).filter(|n| n % 2 == 1).map(realised).sum();
    assert_eq!((points.len(), points[0].cumulative, points[0].equity), (15, odd, None));
    let (from, to) = (Some(start() + TimeDelta::seconds(5)), Some(start() + TimeDelta::seconds(10)));
    let some = Filter { from, to, ..Filter::default() };
    let points = every(async |after| ledger.equity(&some, after, 3).await.unwrap(), 3).await;
    assert_eq!(points.len(), 10, "n of 10 to 19");
    assert_eq!(points[0].cumulative, (0..20).map(realised).sum::<Decimal>());
}

#[tokio::test]
async fn pages_give_each_row_once_while_rows_are_added() {
    let database = Database::start().await;
    let (client, ledger) = (database.connect().await, &database.ledger);
    let mut there = BTreeSet::new();
    for n in 0..23 {
        there.insert(closed(&client, n).await);
    }
    let all = Filter::default();
    let mut n = 23;
    let trades = every(
        async |after| {
            closed(&client, n).await;
            n += 1;
            ledger.trades(&all, after, 3).await.unwrap()
        },
        3,
    )
    .await;
    let ids: Vec<Uuid> = trades.iter().map(|trade| trade.id).collect();
    let once: BTreeSet<Uuid> = ids.iter().copied().collect();
    assert_eq!(once.len(), ids.len(), "a row came twice");
    assert!(there.is_subset(&once), "a row did not come");
    assert!(trades.windows(2).all(|pair| (pair[0].closed_at, pair[0].id) > (pair[1].closed_at, pair[1].id)));
    // Of (101 + 3 · 105) / 4.
    assert!(trades.iter().all(|trade| trade.exit_price == Some(Decimal::from(104))), "{:?}", trades[0]);

    // A sale whose fill the ledger does not have leaves the price unknown.
    client.execute("DELETE FROM fill WHERE intent_id = $1 AND cumulative = 4", &[&ids[0]]).await.unwrap();
    let strategy = Some(trades[0].strategy.clone());
    let filter = Filter { strategy: strategy.clone(), ..Filter::default() };
    let ours = every(async |after| ledger.trades(&filter, after, 5).await.unwrap(), 5).await;
    assert!(ours.iter().all(|trade| Some(&trade.strategy) == strategy.as_ref()));
    assert_eq!(ours.iter().find(|trade| trade.id == ids[0]).unwrap().exit_price, None);

    let gold = Filter {
        instrument: Some("GOLD_MINI".to_owned()),
        states: Some(vec!["filled".to_owned()]),
        ..Filter::default()
    };
    let orders = every(async |after| ledger.orders(&gold, after, 2).await.unwrap(), 2).await;
    let once: BTreeSet<Uuid> = orders.iter().map(|order| order.id).collect();
    assert_eq!((orders.len(), once.len()), ((n as usize).div_ceil(2), orders.len()));
    let of_strategy = every(async |after| ledger.orders(&filter, after, 2).await.unwrap(), 2).await;
    assert_eq!(of_strategy.len(), ours.len(), "an exit's strategy is its position's");
    let none = Filter { states: Some(vec!["in_doubt".to_owned()]), ..Filter::default() };
    assert!(ledger.orders(&none, None, 2).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_page_walks_an_index_and_not_the_history() {
    let database = Database::start().await;
    let client = database.connect().await;
    let first = closed(&client, 0).await;
    client
        .execute(
            "INSERT INTO position (id, instrument, label, strategy, symbol, exchange, product, status, quantity,
                entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop,
                highest_close, entry_signal, entry_signal_seq, entry_bar_time, closed_at)
             SELECT gen_random_uuid(), instrument, label, strategy, symbol, exchange, product, status, quantity,
                entry_quantity, entry_price, lot_size, point_value, margin_per_lot, atr, initial_stop, current_stop,
                highest_close, entry_signal, entry_signal_seq, entry_bar_time, closed_at + n * interval '1 second'
             FROM position, generate_series(1, 5000) n WHERE id = $1",
            &[&first],
        )
        .await
        .unwrap();
    client
        .execute(
            "INSERT INTO order_intent (id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
                quantity, price_type, product, price, trigger_price, strategy_tag, state, broker_order_id,
                filled_quantity, send_window_ms, order_watermark, journaled_at)
             SELECT gen_random_uuid(), position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
                quantity, price_type, product, price, trigger_price, n::text, state, n::text, filled_quantity,
                send_window_ms, order_watermark, journaled_at + n * interval '1 second'
             FROM order_intent, generate_series(1, 5000) n WHERE id = $1",
            &[&first],
        )
        .await
        .unwrap();
    client
        .batch_execute(
            "INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, received_at)
             SELECT gen_random_uuid(), n::text, 'EXIT', 'a', 'GOLD_MINI', '{}', '', 'b1',
                timestamptz '2026-08-10T04:00:00Z' + n * interval '1 second'
             FROM generate_series(1, 5000) n",
        )
        .await
        .unwrap();
    client.batch_execute("ANALYZE position, order_intent, signal").await.unwrap();
    let none: Option<String> = None;
    let (never, at): (Option<DateTime<Utc>>, _) = (None, Some(start() + TimeDelta::seconds(2500)));
    let states: Option<Vec<String>> = None;
    let (id, limit) = (Some(first), 101_i64);
    let page: [&(dyn ToSql + Sync); 8] = [&none, &none, &never, &never, &at, &id, &limit, &states];
    for (sql, parameters, index, table) in [
        (TRADES, &page[..7], "position_closed", "Seq Scan on \"position\""),
        (&ORDERS, &page[..], "order_intent_journaled", "Seq Scan on order_intent"),
        (&SIGNALS, &page[..], "signal_received", "Seq Scan on signal"),
    ] {
        let plan = client.query(&format!("EXPLAIN {sql}"), parameters).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains(table), "{plan}");
    }
}
