//! What cannot be read goes back to what its witness says, proven with all the rest; what nobody else knows is told, with
//! what an operator can do, and left alone.

use serde_json::{Value, json};

use crate::damages::spelled;
use crate::repairs::APPLY;
use crate::seeded::{Seeded, answer};
use crate::support::cluster::PATIENCE;
use crate::support::{database, wait};

/// All rows that a repair may write, but for what counts writes and tells their time.
const ROWS: &str = "SELECT jsonb_build_object(
    'positions', (SELECT jsonb_agg(to_jsonb(p) - '{version,opened_at,closed_at}'::text[] ORDER BY p.id) FROM position p),
    'portfolio', (SELECT to_jsonb(s) - '{version,updated_at}'::text[] FROM portfolio_state s),
    'pyramids', (SELECT jsonb_agg(to_jsonb(y) - 'updated_at' ORDER BY y.instrument) FROM pyramiding_state y),
    'orders', (SELECT jsonb_agg(to_jsonb(o) - '{plan,state_at}'::text[] ORDER BY o.id) FROM order_intent o),
    'days', (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.day) FROM trading_day d),
    'fills', (SELECT jsonb_agg(to_jsonb(f) ORDER BY f.intent_id, f.cumulative) FROM fill f),
    'cash', (SELECT jsonb_agg(to_jsonb(c) ORDER BY c.id) FROM cash_movement c))::text";

// R: C4, C11: a cell that another witness knows is proposed, shown without a write, set, and proven with everything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_goes_back_to_what_its_witness_says() {
    let seeded = Seeded::start().await;
    let was: String = seeded.copy("whole").await.row(ROWS).await.get(0);
    let mut wrong = Vec::new();
    for (number, (damage, place)) in [
        ("UPDATE portfolio_state SET risk_amount = 'NaN'", "portfolio_state risk_amount"),
        ("UPDATE portfolio_state SET margin_used = 'NaN'", "portfolio_state margin_used"),
        ("UPDATE portfolio_state SET capital = 'NaN', volatility_amount = 'NaN'", "portfolio_state capital"),
        ("DROP portfolio_state; UPDATE portfolio_state SET closed_equity = 'NaN', equity_high = 'NaN'", "portfolio_state equity_high"),
        ("DROP position; UPDATE position SET product = 'CO' {base}", "position product"),
        ("DROP position; UPDATE position SET status = 'BANANA' {base}", "position status"),
        ("DROP position; UPDATE position SET status = 'BANANA' WHERE status = 'closed'", "position status"),
        ("UPDATE position SET entry_price = 'NaN' {base}", "position entry_price"),
        ("UPDATE position SET atr = 'NaN', point_value = 'NaN', take_profit = 'NaN' {base}", "position take_profit"),
        ("UPDATE position SET exit_cause = 'whim' {base}", "position exit_cause"),
        ("UPDATE position SET highest_close = 'NaN', current_stop = 'NaN' {base}", "position current_stop"),
        ("UPDATE position SET realised = 'NaN' {base}", "position realised"),
        ("UPDATE position SET realised = 'NaN' WHERE status = 'closed'", "position realised"),
        ("UPDATE position SET charges = 'NaN' {base}", "position charges"),
        ("UPDATE portfolio_state SET charges = 'NaN'", "portfolio_state charges"),
        ("UPDATE position SET charges = 'NaN'; UPDATE fill SET charges = 'NaN'", "fill charges"),
        ("UPDATE position SET entry_bar_time = 'infinity', opened_at = 'infinity' {base}", "position opened_at"),
        (
            "ALTER TABLE position ALTER COLUMN symbol DROP NOT NULL; UPDATE position SET symbol = NULL {base}",
            "position symbol",
        ),
        (
            "ALTER TABLE position ALTER COLUMN quantity DROP NOT NULL; UPDATE position SET quantity = NULL {base}",
            "position quantity",
        ),
        ("UPDATE pyramiding_state SET last_pyramid_price = 'NaN'", "pyramiding_state last_pyramid_price"),
        ("DROP order_intent; UPDATE order_intent SET class = 'BANANA' {silver}", "order_intent class"),
        ("DROP order_intent; UPDATE order_intent SET side = 'SIDEWAYS' {silver}", "order_intent side"),
        ("DROP order_intent; UPDATE order_intent SET price_type = 'ICEBERG' {silver}", "order_intent price_type"),
        ("UPDATE order_intent SET price = 'NaN' {silver}", "order_intent price"),
        ("UPDATE order_intent SET trigger_price = 'NaN' {silver}", "order_intent trigger_price"),
        ("DROP order_intent; UPDATE order_intent SET state = 'BANANA' {silver}", "order_intent state"),
        (
            "ALTER TABLE order_intent ALTER COLUMN filled_quantity DROP NOT NULL;
             UPDATE order_intent SET filled_quantity = NULL {silver}",
            "order_intent filled_quantity",
        ),
        ("UPDATE order_intent SET plan = plan - 'atr' {entries}", "order_intent plan"),
        ("UPDATE order_intent SET plan = plan || '{\"stop\": \"NaN\"}' {entries}", "order_intent plan"),
        ("UPDATE fill SET price = 'NaN'", "fill price"),
        ("DROP cash_movement; UPDATE cash_movement SET amount = 'NaN'", "cash_movement amount"),
        (
            "UPDATE fill SET price = 'NaN'; UPDATE position SET entry_price = 'NaN' {base};
             UPDATE portfolio_state SET risk_amount = 'NaN'",
            "position entry_price",
        ),
        (
            "UPDATE trading_day SET opening_equity = 'NaN', opened_at = 'infinity'",
            "trading_day opening_equity",
        ),
        // The plan's other members are held against the position as ever: what was tampered with beside is not taken over.
        (
            "UPDATE order_intent SET plan = plan - 'bar_time' {entries}; UPDATE position SET initial_stop = initial_stop - 1 {base}",
            "position initial_stop",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = seeded.copy(&format!("unreadable{number}")).await;
        copy.damage(&spelled(damage)).await;
        let shown = copy.baton(&["recover", "--repair", "-o", "json"]).await;
        let plan = answer(&shown);
        let proposed = plan["proposals"].as_array().into_iter().flatten();
        let is_named = proposed.into_iter().any(|p| {
            format!("{} {}", p["table"].as_str().unwrap(), p["field"].as_str().unwrap()) == place
        });
        let still = copy.examined().await;
        let made = copy.baton(&APPLY).await;
        let said = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
        let is: String = copy.row(ROWS).await.get(0);
        let check = copy.examined().await;
        if !is_named || still.ok || !made.status.success() || is != was || !check.ok {
            wrong.push(format!("{damage}: {plan}\n{said}\n{check:?}\n{was}\n{is}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

// R: C4, C11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_else_knows_is_told_with_what_can_be_done() {
    let seeded = Seeded::start().await;
    for (number, (damage, told)) in [
        (
            "DROP order_intent; UPDATE order_intent SET product = 'CO' {silver}",
            "the broker's order book shows",
        ),
        ("UPDATE order_intent SET plan = '{}' {silver}", "payload and decision of its signal"),
        (
            "ALTER TABLE audit_log DISABLE TRIGGER USER;
             UPDATE audit_log SET payload = payload || ' ' WHERE seq = (SELECT max(seq) FROM audit_log);
             UPDATE trading_day SET opening_equity = 'NaN'",
            "delete the day's row",
        ),
        ("ALTER TABLE position ALTER COLUMN version TYPE text", "give it back its type"),
        // Its only witness was tampered with, too.
        (
            "ALTER TABLE audit_log DISABLE TRIGGER USER;
             UPDATE audit_log SET payload = payload || ' ' WHERE seq = (SELECT max(seq) FROM audit_log);
             UPDATE position SET highest_close = 'NaN' {base}",
            "the audit log does not tell it, or is not whole",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = seeded.copy(&format!("unknown{number}")).await;
        copy.damage(&spelled(damage)).await;
        let before: String = copy.row(ROWS).await.get(0);
        let shown = copy.baton(&["recover", "--repair", "-o", "json"]).await;
        let plan = answer(&shown);
        assert_eq!(shown.status.code(), Some(1), "{plan}");
        assert_eq!(plan["proposals"], json!([]), "{damage}: {plan}");
        let unsolved: Vec<&Value> = plan["unsolved"].as_array().unwrap().iter().collect();
        assert!(unsolved.len() == 1 && unsolved[0].as_str().unwrap().contains(told), "{damage}: {plan}");
        assert_eq!(copy.baton(&APPLY).await.status.code(), Some(1), "{damage}");
        assert_eq!(copy.row(ROWS).await.get::<_, String>(0), before, "{damage}");
    }
}

// R: C11: a look waits for nobody for long, and nobody for it; a row that another wrote first is looked at again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_what_cannot_be_read_gives_way_to_whoever_writes() {
    let seeded = Seeded::start().await;
    let copy = seeded.copy("held").await;
    copy.damage("UPDATE portfolio_state SET risk_amount = 'NaN'").await;
    let leader = database::connect(&copy.url).await;
    // Of others, a transaction sees what they did when it looked first.
    let watcher = database::connect(&copy.url).await;
    let write = "BEGIN; UPDATE portfolio_state SET version = version + 1";
    let look = async || copy.baton(&["recover", "--repair", "-o", "json"]).await;

    leader.batch_execute(write).await.unwrap();
    let given_up = tokio::time::timeout(PATIENCE, look()).await.expect("it waits for ever");
    let said = String::from_utf8_lossy(&given_up.stderr).into_owned();
    assert!(!given_up.status.success() && said.contains("put back a cell that cannot be read"), "{said}");
    leader.batch_execute("COMMIT").await.unwrap();

    leader.batch_execute(write).await.unwrap();
    let written = async {
        wait::until("the look waits for the row", PATIENCE, async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            match watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) {
                0 => Err(()),
                _ => Ok(()),
            }
        })
        .await;
        leader.batch_execute("COMMIT").await.unwrap();
    };
    let (shown, ()) = tokio::join!(look(), written);
    let plan = answer(&shown);
    assert_eq!(plan["proposals"][0]["field"], "risk_amount", "{plan}");
    leader
        .batch_execute("SET lock_timeout = 1; UPDATE portfolio_state SET version = version + 1")
        .await
        .unwrap();
}

// R: C11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_tables_owner_may_set_is_told_and_the_rest_is_proposed() {
    let seeded = Seeded::start().await;
    let copy = seeded.copy("owned").await;
    copy.damage(&spelled(
        "DROP cash_movement; UPDATE cash_movement SET amount = 'NaN'; UPDATE portfolio_state SET risk_amount = 'NaN';
         CREATE ROLE clerk LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk",
    ))
    .await;
    let (_, place) = copy.url.split_once('@').unwrap();
    let shown =
        seeded.at(format!("postgresql://clerk@{place}")).baton(&["recover", "--repair", "-o", "json"]).await;
    let plan = answer(&shown);
    let unsolved = plan["unsolved"].as_array().unwrap();
    assert_eq!(unsolved.len(), 1, "{plan}");
    assert!(unsolved[0].to_string().contains("needs the table's owner"), "{plan}");
    assert_eq!(plan["proposals"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(plan["proposals"][0]["field"], "risk_amount", "{plan}");
}
