//! What a repair brings back, what it leaves alone, and by which witness it knows.

use std::sync::Arc;
use std::time::Duration;

use baton::domain::instrument::Catalog;
use baton::domain::money::Rupees;
use baton::ledger::Ledger;
use baton::ledger::seals::Sealing;
use baton::recovery::CrashRecoveryManager;
use baton::telemetry::metrics::Metrics;
use serde_json::json;

use crate::damages::LATCH;
use crate::repairs::APPLY;
use crate::seeded::{Seeded, answer};

/// Everything of open state that a repair may write, but for what counts writes and tells their time.
const STATE: &str = "SELECT jsonb_build_object(
    'positions', (SELECT jsonb_agg(to_jsonb(p) - '{version,opened_at}'::text[] ORDER BY p.id) FROM position p),
    'portfolio', (SELECT to_jsonb(s) - '{version,updated_at}'::text[] FROM portfolio_state s),
    'pyramids', (SELECT jsonb_agg(to_jsonb(y) - 'updated_at' ORDER BY y.instrument) FROM pyramiding_state y),
    'charges', (SELECT jsonb_agg(jsonb_build_array(f.intent_id, f.cumulative, f.charges) ORDER BY f.intent_id, f.cumulative) FROM fill f),
    'filled', (SELECT jsonb_agg(jsonb_build_array(o.id, o.filled_quantity) ORDER BY o.id) FROM order_intent o),
    'orders', (SELECT jsonb_agg(to_jsonb(o) - '{state_at,journaled_at}'::text[] ORDER BY o.id) FROM order_intent o),
    'days', (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.day) FROM trading_day d),
    'latches', (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.day, l.code) FROM limit_latch l))::text";

const SILVER: &str = "WHERE state = 'acknowledged'";
const BASE: &str = "WHERE status <> 'closed' AND label = 'Long_1'";

// R: C11: a figure is never made to fit a row that was tampered with: what comes back is what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_brings_back_what_was_there() {
    let seeded = Seeded::start().await;
    let was: String = seeded.copy("whole").await.row(STATE).await.get(0);
    let mut wrong = Vec::new();
    for (name, damage) in [
        ("realised_held", "UPDATE position SET realised = realised + 1 {base}"),
        ("realised_closed", "UPDATE position SET realised = realised + 1 WHERE status = 'closed'"),
        ("closed_cause", "UPDATE position SET exit_cause = 'stop_loss' WHERE status = 'closed'"),
        ("closed_at", "UPDATE position SET closed_at = closed_at - interval '1 day' WHERE status = 'closed'"),
        ("charges_held", "UPDATE position SET charges = charges + 1 {base}"),
        ("charges_closed", "UPDATE position SET charges = charges + 1 WHERE status = 'closed'"),
        ("fills_charges", "UPDATE fill SET charges = charges + 1"),
        (
            "closed_fills_charges",
            "UPDATE fill SET charges = charges - 0.01 WHERE intent_id IN (SELECT id FROM order_intent WHERE instrument = 'COPPER')",
        ),
        ("charges_of_a_lost_row", "UPDATE fill SET charges = charges + 1; DELETE FROM position WHERE label = 'Long_2'"),
        ("all_charges", "UPDATE portfolio_state SET charges = charges + 1"),
        ("no_charges", "UPDATE fill SET charges = NULL; UPDATE position SET charges = 0"),
        ("capital", "UPDATE portfolio_state SET capital = capital + 1"),
        ("equity_high", "UPDATE portfolio_state SET equity_high = equity_high + 1"),
        ("portfolio", "DELETE FROM portfolio_state"),
        ("stop_up", "UPDATE position SET current_stop = current_stop + 1 {base}"),
        ("stop_with_risk", "UPDATE position SET current_stop = current_stop + 1 WHERE label = 'Long_2'"),
        (
            "stop_fitted",
            "UPDATE portfolio_state SET risk_amount = risk_amount - (SELECT quantity * point_value / lot_size FROM position
                WHERE label = 'Long_2');
             UPDATE position SET current_stop = current_stop + 1 WHERE label = 'Long_2'",
        ),
        ("highest", "UPDATE position SET highest_close = highest_close + 1 {base}"),
        ("take_profit", "UPDATE position SET take_profit = 1 {base}"),
        ("exit_cause", "UPDATE position SET exit_cause = 'stop_loss' {base}"),
        ("wish", "UPDATE position SET close_at = now(), close_by = 'nobody', close_why = 'nothing' {base}"),
        ("symbol", "UPDATE position SET symbol = 'GOLDM05JAN26FUT' {base}"),
        ("lot_size", "UPDATE position SET lot_size = lot_size * 2 {base}"),
        ("margin", "UPDATE position SET margin_per_lot = margin_per_lot + 1 {base}"),
        ("atr", "UPDATE position SET atr = atr + 1 {base}"),
        ("initial_stop", "UPDATE position SET initial_stop = initial_stop - 1 {base}"),
        ("entry_price", "UPDATE position SET entry_price = entry_price + 0.01 {base}"),
        ("row", "DELETE FROM position WHERE label = 'Long_2'"),
        ("base_row", "DELETE FROM pyramiding_state; DELETE FROM position {base}"),
        // Long over, so that only a look at all of history finds it.
        (
            "closed_row",
            "UPDATE order_intent SET journaled_at = now() - interval '9 days' WHERE instrument = 'COPPER';
             DELETE FROM position WHERE status = 'closed'",
        ),
        ("filled", "UPDATE order_intent SET filled_quantity = 1 WHERE state = 'acknowledged'"),
        ("order_state", "UPDATE order_intent SET state = 'cancelled' {silver}"),
        ("order_id", "UPDATE order_intent SET broker_order_id = 'another' {silver}"),
        ("order_tag", "UPDATE order_intent SET strategy_tag = 'another' {silver}"),
        ("order_day", "UPDATE order_intent SET trading_day = trading_day - 1 {silver}"),
        ("order_signal", "UPDATE order_intent SET signal_id = NULL {silver}"),
        ("order_instrument", "UPDATE order_intent SET instrument = 'COPPER' {silver}"),
        ("order_strategy", "UPDATE order_intent SET plan = plan || '{\"strategy\": \"mine\"}' {silver}"),
        (
            "order_twice",
            "UPDATE order_intent SET state = 'cancelled', broker_order_id = 'another' {silver}",
        ),
        ("opening", "UPDATE trading_day SET opening_equity = opening_equity - 1000, opened_at = opened_at - interval '1 h'"),
        ("opening_gone", "DELETE FROM trading_day"),
        ("another_day", "UPDATE trading_day SET day = day + 1"),
        ("nobodys_day", "INSERT INTO trading_day (day, opening_equity) VALUES ('2099-01-01', 1)"),
        ("nobodys_latch", "ALTER TABLE limit_latch DISABLE TRIGGER USER; {latch}"),
    ] {
        let copy = seeded.copy(name).await;
        copy.damage(&damage.replace("{base}", BASE).replace("{latch}", LATCH).replace("{silver}", SILVER)).await;
        let made = copy.baton(&APPLY).await;
        let said = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
        let is: String = copy.row(STATE).await.get(0);
        let check = copy.examined().await;
        if !made.status.success() || is != was || !check.ok {
            wrong.push(format!("{name}: {said}\n{check:?}\n{was}\n{is}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

// R: C11: where it cannot be known which side is wrong there is no proposal, nothing is written, and the check still fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_tells_how_to_mend_is_told_and_left_alone() {
    let seeded = Seeded::start().await;
    let unrecorded = "ALTER TABLE audit_log DISABLE TRIGGER USER;
        UPDATE audit_log SET payload = payload || ' ' WHERE seq = (SELECT max(seq) FROM audit_log)";
    for (name, damage, told) in [
        // The row agrees with the aggregates, and not with its plan.
        (
            "plan".to_owned(),
            "UPDATE order_intent SET plan = jsonb_set(plan, '{atr}', '\"1\"') WHERE class = 'entry' AND position_id =
                (SELECT id FROM position {base})"
                .to_owned(),
            "either may be wrong",
        ),
        // The fills are not all there.
        (
            "fills".to_owned(),
            "DELETE FROM fill WHERE intent_id = (SELECT id FROM order_intent WHERE class = 'entry' AND position_id =
                (SELECT id FROM position {base}))"
                .to_owned(),
            "quantity mismatch",
        ),
        // Nothing but the signal's decision knows the stop that the entry was sized by.
        (
            "order_stop".to_owned(),
            "UPDATE order_intent SET plan = plan || '{\"stop\": \"1\"}' WHERE state = 'acknowledged'".to_owned(),
            "baton orders resolve",
        ),
        // By its key it was journaled on another day: what time it was is told by nothing.
        (
            "order_time".to_owned(),
            "UPDATE order_intent SET journaled_at = journaled_at - interval '1 day' WHERE state = 'acknowledged'".to_owned(),
            "baton orders resolve",
        ),
        (
            "order_over".to_owned(),
            "UPDATE signal SET status = 'not_sent', finished_at = now() WHERE status = 'working';
             ALTER TABLE order_intent DISABLE TRIGGER USER;
             UPDATE order_intent SET state = 'not_sent' WHERE state = 'acknowledged'"
                .to_owned(),
            "it may rest at the broker",
        ),
        // The only other witness was tampered with, too.
        (
            "stop".to_owned(),
            format!("{unrecorded}; UPDATE position SET current_stop = current_stop + 1 WHERE label = 'Long_2'"),
            "does not tell where the stop",
        ),
        (
            "capital".to_owned(),
            format!("{unrecorded}; UPDATE portfolio_state SET capital = capital + 1, closed_equity = closed_equity - 2"),
            "nothing tells which",
        ),
    ] {
        let copy = seeded.copy(&name).await;
        copy.damage(&damage.replace("{base}", BASE)).await;
        let before: String = copy.row(STATE).await.get(0);
        let shown = copy.baton(&["recover", "--repair", "-o", "json"]).await;
        let plan = answer(&shown);
        assert!(shown.status.code() == Some(1) && plan["unsolved"].to_string().contains(told), "{name}: {plan}");
        assert_eq!(plan["proposals"], json!([]), "{name}");
        assert_eq!(copy.baton(&APPLY).await.status.code(), Some(1), "{name}");
        assert_eq!(copy.row(STATE).await.get::<_, String>(0), before, "{name}");
        assert_eq!(copy.baton(&["recover", "--check"]).await.status.code(), Some(1), "{name}");
    }

    // On a terminal it is shown and asked; without one nothing is done unasked.
    let copy = seeded.copy("unasked").await;
    copy.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    let unasked =
        copy.baton(&["recover", "--repair", "--apply", "--reason", "drill", "--operator", "asha"]).await;
    let said = String::from_utf8_lossy(&unasked.stderr).into_owned();
    assert!(unasked.status.code() == Some(1) && said.contains("add --yes"), "{said}");
    assert!(said.contains("Set 1 values of stored state on cluster ") && said.contains("(live)"), "{said}");
    assert!(String::from_utf8_lossy(&unasked.stdout).contains("risk_amount 999999.99"), "it is shown");
    let still = "SELECT count(*) FROM portfolio_state WHERE risk_amount = 999999.99";
    assert_eq!(copy.row(still).await.get::<_, i64>(0), 1);
}

// R: C4, B9: a takeover walks the audit log from its last seal on, and all the same knows where a stop was put before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_of_a_seal_proves_to_a_takeover_what_was_recorded_before_it() {
    let seeded = Seeded::start().await;
    for (name, damage, field) in [
        ("sealed_stop", "UPDATE position SET current_stop = current_stop + 1 {base}", "current_stop"),
        ("sealed_high", "UPDATE position SET highest_close = highest_close + 1 {base}", "highest_close"),
        ("sealed_capital", "UPDATE portfolio_state SET capital = capital + 1", "capital"),
        ("sealed_day", "UPDATE trading_day SET opening_equity = opening_equity - 1", "opening_equity"),
        ("sealed_day_gone", "DELETE FROM trading_day", "row"),
        (
            "sealed_wish",
            "UPDATE position SET close_at = now(), close_by = 'nobody', close_why = 'nothing' {base}",
            "close_at",
        ),
    ] {
        let copy = seeded.copy(name).await;
        let ledger = Ledger::new(&copy.url, 4, "baton-test").unwrap();
        let Sealing::Sealed(seal) = ledger.seal_audit("b1").await.unwrap() else {
            panic!("something came since the last seal")
        };
        assert_eq!(
            ledger.seal_audit("b1").await.unwrap(),
            Sealing::Unchanged,
            "its own row is sealed with it"
        );
        assert!(ledger.verify_audit().await.unwrap().ok);
        let capital = Rupees(copy.row("SELECT capital FROM portfolio_state").await.get(0));
        let manager = CrashRecoveryManager::new(
            ledger,
            Arc::new(Catalog::default()),
            capital,
            1,
            Duration::from_millis(1),
            Arc::new(Metrics::new()),
        );
        manager.recover().await.expect("it is whole");
        copy.damage(&damage.replace("{base}", BASE)).await;
        let error = manager.recover().await.unwrap_err();
        let found = error.findings().iter().any(|finding| finding.field == field);
        assert!(found, "{name}, sealed up to {}: {error}", seal.seq);
        // The row that says so is proven itself.
        let forged = format!(
            "ALTER TABLE audit_log DISABLE TRIGGER USER;
             UPDATE audit_log SET payload = replace(payload, '1', '2') WHERE seq = {}",
            seal.seq
        );
        copy.damage(&forged).await;
        let findings = match manager.recover().await {
            Ok(recovered) => recovered.warnings,
            Err(error) => error.findings().to_vec(),
        };
        assert!(findings.iter().any(|finding| finding.table == "audit_log"), "{name}: {findings:?}");
    }
}

// R: B3: the order rests at the broker, whatever somebody believes; a live order that is called ended would be doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_the_order_book_contradicts_is_not_taken() {
    let seeded = Seeded::start().await;
    let copy = seeded.copy("contradicted").await;
    let row =
        copy.row("SELECT id::text, broker_order_id FROM order_intent WHERE state = 'acknowledged'").await;
    let (id, order): (String, String) = (row.get(0), row.get(1));
    let word = [
        "orders",
        "resolve",
        &id,
        "--as",
        "cancelled",
        "--evidence",
        "a guess",
        "--operator",
        "asha",
        "--yes",
    ];
    let refused = copy.baton(&word).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains(&format!("order {order} (Open) may be it")),
        "{said}"
    );
    let still = "SELECT count(*) FROM order_intent WHERE state = 'acknowledged'";
    assert_eq!(copy.row(still).await.get::<_, i64>(0), 1);
    let taken = copy.baton(&[&word[..], &["--despite-books"]].concat()).await;
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert_eq!(copy.row(still).await.get::<_, i64>(0), 0);
}

// R: C11, B4: a latch goes back to what it was, and one that an operator lifted by hand stays lifted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latch_that_was_tampered_with_comes_back_and_one_that_was_lifted_does_not() {
    let seeded = Seeded::start().await;
    let copy = seeded.copy("latched").await;
    copy.damage(LATCH).await;
    let was: String = copy.row(STATE).await.get(0);
    for damage in [
        "UPDATE limit_latch SET sentence = 'nothing', at = at - interval '1 h'",
        "UPDATE limit_latch SET code = 'MAX_ORDERS_PER_DAY'",
        "TRUNCATE limit_latch",
        "UPDATE limit_latch SET at = 'infinity'",
    ] {
        copy.damage(damage).await;
        let check = copy.baton(&["recover", "--check", "-o", "json"]).await;
        let report = answer(&check);
        let is_named =
            report["findings"].as_array().unwrap().iter().any(|found| found["table"] == "limit_latch");
        assert!(check.status.code() == Some(1) && is_named, "{damage}: {report}");
        let made = copy.baton(&APPLY).await;
        assert!(made.status.success(), "{damage}: {}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(copy.row(STATE).await.get::<_, String>(0), was, "{damage}");
    }
    copy.damage("DELETE FROM limit_latch").await;
    for command in [["recover", "--check"], ["recover", "--repair"], ["audit", "verify"]] {
        let whole = copy.baton(&command).await;
        assert!(whole.status.success(), "{command:?}: {}", String::from_utf8_lossy(&whole.stdout));
    }
}
