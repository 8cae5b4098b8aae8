//! Every table and column of open state, damaged one at a time: the check names it, and `baton recover --check` exits 1.

use std::collections::BTreeSet;

use baton::ledger::Ledger;
use baton::ledger::release::Seen;
use baton::ledger::snapshot::Depth;
use baton::ledger::switching::{Switch, SwitchChange};
use serde_json::{Value, json};

use crate::damages::{BID, DAMAGES, LATCH, spelled};
use crate::seeded::{Seeded, answer};

/// Tables without which nothing can be proven.
const TABLES: [&str; 16] = [
    "position",
    "order_intent",
    "order_cancel",
    "order_modify",
    "trading_day",
    "limit_latch",
    "fill",
    "portfolio_state",
    "pyramiding_state",
    "cash_movement",
    "broker_order_seen",
    "leadership",
    "signal",
    "audit_log",
    "audit_head",
    "audit_seal",
];

fn named(report: &Value, (table, field): (&str, &str)) -> bool {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings.into_iter().any(|finding| finding["table"] == table && finding["field"] == field)
}

/// A second exit of a closed position, for another reason, which the broker refused: its cause may be the row's, too.
const CAUSES: &str = "INSERT INTO order_intent SELECT put.* FROM position p
    JOIN order_intent o ON o.position_id = p.id AND o.class <> 'entry' CROSS JOIN LATERAL jsonb_populate_record(o, jsonb_build_object(
        'id', gen_random_uuid(), 'attempt', 7, 'strategy_tag', 'again', 'cause', 'operator', 'state', 'rejected',
        'broker_order_id', NULL, 'filled_quantity', 0)) AS put WHERE p.status = 'closed';
    UPDATE position SET exit_cause = 'operator' WHERE status = 'closed'";

// R: C3, C4, C8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_damaged_is_named_and_the_check_fails() {
    let seeded = Seeded::start().await;
    for (name, change) in
        [("whole", None), ("bids", Some(BID)), ("latched", Some(LATCH)), ("causes", Some(CAUSES))]
    {
        let whole = seeded.copy(name).await;
        if let Some(change) = change {
            whole.damage(&spelled(change)).await;
        }
        let output = whole.baton(&["recover", "--check", "-o", "json"]).await;
        let report = answer(&output);
        assert!(output.status.success(), "{name}: {report}");
        assert_eq!(
            (&report["ok"], &report["positions"], &report["open_intents"]),
            (&true.into(), &2.into(), &1.into())
        );
        assert_eq!(report["findings"], Value::Array(Vec::new()), "{name}: {report}");
    }

    let (mut missed, mut said, mut past) = (Vec::new(), BTreeSet::new(), Vec::new());
    for (number, damage) in DAMAGES.iter().enumerate() {
        let copy = seeded.copy(&format!("damaged{number}")).await;
        copy.damage(&spelled(damage.sql)).await;
        let report = json!(copy.examined().await);
        let right = report["ok"] == false && report["code"] == damage.code && named(&report, damage.place);
        if !right {
            missed.push(format!("{} ({:?}): {report}", damage.sql, damage.place));
        }
        if copy.proven(Depth::Open).await.ok {
            past.push(damage.sql);
        }
        // The program says the same, once for each code.
        if said.insert(damage.code) {
            let output = copy.baton(&["recover", "--check", "-o", "json"]).await;
            let told = answer(&output);
            assert_eq!(output.status.code(), Some(1), "{told}");
            let of = |report: &Value| ["ok", "code", "findings"].map(|member| report[member].clone());
            assert_eq!(of(&told), of(&report), "{}", damage.sql);
        }
    }
    assert!(missed.is_empty(), "{} of {} damages:\n{}", missed.len(), DAMAGES.len(), missed.join("\n"));
    assert_eq!(past, [""; 0], "a start would trade into these");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_read_is_named_and_never_taken_for_an_empty_one() {
    let seeded = Seeded::start().await;
    for table in TABLES {
        let copy = seeded.copy(&format!("without_{table}")).await;
        copy.damage(&format!("ALTER TABLE {table} RENAME TO moved_away")).await;
        let report = copy.examined().await;
        assert_eq!((report.ok, report.code), (false, Some("DATA_CORRUPT")), "{table}: {report:?}");
        let sentence = &report.findings[0].sentence;
        assert!(sentence.contains(table), "{table}: {sentence}");
    }
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_that_was_lifted_behind_its_historys_back_is_told_until_it_is_set_anew() {
    let seeded = Seeded::start().await;
    let copy = seeded.copy("lifted").await;
    let ledger = Ledger::new(&copy.url, 2, "baton-test").unwrap();
    let halt = SwitchChange {
        switch: Switch::Halted,
        on: true,
        who: "ops".to_owned(),
        why: "exchange problem".to_owned(),
        until: None,
        seen: Seen::default(),
    };
    ledger.set_switch(&halt).await.unwrap();
    assert!(copy.baton(&["recover", "--check"]).await.status.success(), "a halt is no damage");

    copy.damage("ALTER TABLE leadership DISABLE TRIGGER USER").await;
    copy.damage("UPDATE leadership SET halted = false").await;
    copy.damage("ALTER TABLE leadership ENABLE TRIGGER USER").await;
    let told = "leadership 1: halted mismatch: DB=off, Calculated=on, set by ops; set the switch anew or end it by its command";
    for arguments in [["recover", "--check"], ["recover", "--repair"]] {
        let output = copy.baton(&arguments).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(told), "{text}");
    }

    ledger.set_switch(&halt).await.unwrap();
    assert!(copy.proven(Depth::Open).await.ok, "it holds again");
    ledger.set_switch(&SwitchChange { on: false, ..halt }).await.unwrap();
    assert!(copy.proven(Depth::Open).await.ok, "it ended by its command");
}

// R: C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_speaks_to_people_too() {
    let seeded = Seeded::start().await;
    let whole = seeded.copy("whole").await;
    let output = whole.baton(&["recover", "--check"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("Stored state is whole: 2 open positions"), "{text}");

    let tampered = seeded.copy("tampered").await;
    tampered.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    let output = tampered.baton(&["recover", "--check"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.starts_with("Stored state is not whole (VALIDATION_FAILED): RUNBOOK.md#validation_failed"),
        "{text}"
    );
    assert!(text.contains("Risk amount mismatch: DB=999999.99, Calculated="), "{text}");

    let text = String::from_utf8(tampered.baton(&["recover"]).await.stderr).unwrap();
    assert!(text.contains("--check"), "{text}");
}
