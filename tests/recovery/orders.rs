//! A thousand open orders, one in a hundred of which is not as the ledger has it: how long a start takes to see that, and
//! that it sees nothing else. `make bench-recovery`; a hundred in each `make test`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use chrono::{DateTime, Utc};
use reqwest::Client;
use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};
use tokio_postgres::Client as Sql;

use crate::support::cluster::{Options, PATIENCE, client, independent, launch, write_instruments};
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::paper::{KEY, Paper};
use crate::support::wait;

/// What becomes of an order while nobody looks, and what the ledger has to make of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    /// It rests as before.
    Rests,
    /// It filled.
    Filled,
    /// Somebody cancelled it.
    Cancelled,
    /// The ledger never heard of its acknowledgement.
    Unheard,
    /// It never reached the broker.
    NeverSent,
}

impl Fate {
    /// One in a hundred is not as the ledger has it, each kind in turn.
    fn of(number: usize) -> Self {
        match (number % 100, number / 100 % 4) {
            (0, 0) => Self::Filled,
            (0, 1) => Self::Cancelled,
            (0, 2) => Self::Unheard,
            (0, _) => Self::NeverSent,
            _ => Self::Rests,
        }
    }

    fn stored(self) -> &'static str {
        if matches!(self, Self::Unheard | Self::NeverSent) { "in_doubt" } else { "acknowledged" }
    }

    /// Its state after the reconciliation; what never arrived stays in doubt until its absence is proven.
    fn found(self) -> &'static str {
        match self {
            Self::Rests | Self::Unheard => "acknowledged",
            Self::Filled => "filled",
            Self::Cancelled => "cancelled",
            Self::NeverSent => "in_doubt",
        }
    }
}

fn terms(symbol: &str) -> Value {
    json!({
        "apikey": KEY, "strategy": symbol, "symbol": symbol, "exchange": "MCX", "action": "BUY", "product": "NRML",
        "pricetype": "LIMIT", "quantity": 10, "price": 990, "trigger_price": 0,
    })
}

async fn ask(client: &Client, paper: &Paper, route: &str, body: &Value) -> Value {
    let request = client.post(format!("{}/api/v1/{route}", paper.http)).json(body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "success", "{route}: {answer}");
    answer
}

/// Places the orders at the bridge and stores what the ledger knows of them.
async fn open(sql: &Sql, client: &Client, paper: &Paper, count: usize) {
    let mut orders: Vec<Option<String>> = Vec::new();
    for number in 0..count {
        let id = match Fate::of(number) {
            Fate::NeverSent => None,
            _ => {
                let answer = ask(client, paper, "placeorder", &terms(&format!("I{number}FUT"))).await;
                Some(answer["orderid"].as_str().unwrap().to_owned())
            }
        };
        orders.push(id);
    }
    for (number, order) in orders.iter().enumerate() {
        match (Fate::of(number), order) {
            (Fate::Filled, _) => paper.set_price(&format!("I{number}FUT"), "MCX", dec!(989)).await,
            (Fate::Cancelled, Some(order)) => {
                ask(
                    client,
                    paper,
                    "cancelorder",
                    &json!({ "apikey": KEY, "strategy": "s", "orderid": order }),
                )
                .await;
            }
            _ => {}
        }
    }
    let states: Vec<&str> = (0..count).map(|number| Fate::of(number).stored()).collect();
    let known: Vec<Option<&String>> = orders
        .iter()
        .zip(&states)
        .map(|(order, state)| order.as_ref().filter(|_| *state == "acknowledged"))
        .collect();
    // A position is referred to in the statement that makes its order.
    sql.batch_execute("ALTER TABLE order_intent DROP CONSTRAINT order_intent_signal_id_fkey").await.unwrap();
    sql.execute(
        "WITH n AS (
            SELECT (ordinality - 1)::int AS n, state, broker FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u (state, broker, ordinality)
        ), s AS (
            INSERT INTO signal (id, key, type, strategy, instrument, payload, raw_body, received_by, status)
            SELECT gen_random_uuid(), 'k' || n, 'BASE_ENTRY', 'default', 'I' || n, jsonb_build_object('key', 'k' || n,
                'strategy', 'default', 'instrument', 'I' || n, 'sent_at', now(), 'bar_time', now(), 'action',
                jsonb_build_object('BASE_ENTRY', jsonb_build_object('label', 'Long_1', 'price', '990', 'stop', '980', 'atr',
                '5', 'er', '0.8'))), '', 'b1', 'working'
            FROM n RETURNING id, seq, instrument
        )
        INSERT INTO order_intent (id, signal_id, position_id, instrument, epoch, incarnation, class, symbol, exchange, side,
            quantity, price_type, product, price, trigger_price, strategy_tag, plan, state, broker_order_id, send_window_ms,
            order_watermark, journaled_at, trading_day)
        SELECT s.id, s.id, gen_random_uuid(), s.instrument, 0, gen_random_uuid(), 'entry', s.instrument || 'FUT',
            'MCX', 'BUY', 10, 'LIMIT', 'NRML', 990, 0, 'default:' || s.id, jsonb_build_object('label', 'Long_1', 'strategy',
            'default', 'lot_size', 10, 'point_value', '10', 'margin_per_lot', '100', 'atr', '5', 'stop', '980',
            'planned_price', '990', 'signal_seq', s.seq, 'bar_time', now()), n.state, n.broker, 600000, 0, now() - interval '1 minute',
            ((now() - interval '1 minute') AT TIME ZONE INTERVAL '05:30')::date
        FROM s JOIN n ON s.instrument = 'I' || n.n",
        &[&states, &known],
    )
    .await
    .unwrap();
}

/// The moment of the last line of a log that says this.
fn said(log: &Path, what: &str) -> Option<DateTime<Utc>> {
    let text = std::fs::read_to_string(log).unwrap();
    let line = text.lines().rfind(|line| line.contains(what))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn requests(paper: &Paper) -> BTreeMap<String, u64> {
    serde_json::from_value(paper.get("requests").await["requests"].clone()).unwrap()
}

/// Starts a member on `count` open orders; gives how often the bridge was asked for orders and positions until it traded.
pub async fn reconcile(count: usize) -> BTreeMap<String, u64> {
    let database = Database::start().await;
    let sql = database.connect().await;
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..count).map(|number| format!("I{number}")).collect();
    let symbols = write_instruments(folder.path(), &names);
    let client = client();
    let paper = Paper::start(folder.path(), "live", symbols.as_deref(), client.clone()).await;
    open(&sql, &client, &paper, count).await;

    // What never arrived stays in doubt.
    let mut env = independent();
    env.push(("BATON_BROKER__SETTLE_MS", "600000".to_owned()));
    let options = Options { env, ..Options::default() };
    let launch = launch("b1", &database.stores, &paper, &options, folder.path());
    let before = requests(&paper).await;
    let begun = Instant::now();
    let member = Member::start("b1", launch, client).await;
    wait::until("it has reconciled", PATIENCE, async || {
        if said(&member.process.log, "reconciled with the broker's books").is_some() {
            Ok(())
        } else {
            Err(member.process.tail())
        }
    })
    .await;
    let took = begun.elapsed();
    let mut asked = requests(&paper).await;
    asked
        .retain(|verb, _| ["orderbook", "tradebook", "positionbook", "orderstatus"].contains(&verb.as_str()));
    for (verb, count) in &mut asked {
        *count -= before.get(verb).copied().unwrap_or(0);
    }
    let read = said(&member.process.log, "Crash recovery completed successfully").unwrap();
    let reconciled = said(&member.process.log, "reconciled with the broker's books").unwrap() - read;
    println!(
        "{count:>6} open orders: reconciled in {} ms, {took:.1?} from the start, {} kB resident, asked {asked:?}",
        reconciled.num_milliseconds(),
        member.process.most_memory_kib(),
    );

    // Not one is resolved wrongly, and each that changed is resolved: a cancel is believed at a second look.
    let settled = wait::until("every order is as the bridge has it", PATIENCE, async || {
        let rows =
            sql.query("SELECT instrument, state, filled_quantity FROM order_intent", &[]).await.unwrap();
        let mut open = Vec::new();
        for row in &rows {
            let number: usize = row.get::<_, &str>(0)[1..].parse().unwrap();
            let (fate, state, filled): (_, &str, i64) = (Fate::of(number), row.get(1), row.get(2));
            assert!([fate.stored(), fate.found()].contains(&state), "order {number}, {fate:?}: {state}");
            assert_eq!(filled, if state == "filled" { 10 } else { 0 }, "order {number}: {fate:?}");
            if state != fate.found() {
                open.push((number, fate));
            }
        }
        if open.is_empty() { Ok(rows.len()) } else { Err(open) }
    })
    .await;
    assert_eq!(settled, count);
    let held = "SELECT count(*), coalesce(sum(quantity * entry_price), 0) FROM position";
    let held = sql.query_one(held, &[]).await.unwrap();
    let filled = (0..count).filter(|number| Fate::of(*number) == Fate::Filled).count();
    assert_eq!(held.get::<_, i64>(0), i64::try_from(filled).unwrap());
    assert_eq!(held.get::<_, Decimal>(1), Decimal::from(filled) * dec!(9900));
    asked
}

// R: C1; the figures are the benchmark's, how often the bridge is asked is no matter of the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_four_hundred_open_orders_resolves_each_rightly_and_asks_the_bridge_a_handful_of_times() {
    let asked = reconcile(400).await;
    // Once to reconcile, and then as the loop goes on while this test looks.
    assert!(asked.values().all(|times| *times <= 20), "{asked:?}");
}
