//! What was paid in and out, tampered with: each row goes back to what the audit log tells of it.

use crate::repairs::APPLY;
use crate::seeded::answer;
use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options};
use rust_decimal::dec;

const ROWS: &str = "SELECT jsonb_build_object(
    'movements', (SELECT jsonb_agg(to_jsonb(c) - '{id,at}'::text[] ORDER BY c.kind, c.amount) FROM cash_movement c),
    'ids', (SELECT jsonb_agg(c.id ORDER BY c.id) FROM cash_movement c WHERE c.kind <> 'opening'),
    'portfolio', (SELECT to_jsonb(s) - '{version,updated_at}'::text[] FROM portfolio_state s))::text";

// R: C8, C11: that the sum still fits says nothing of its parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_movement_that_was_tampered_with_goes_back_to_what_the_audit_log_tells() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    let address = &cluster.members[0].address.clone();
    for (way, amount) in [("deposit", "50000"), ("deposit", "20000"), ("withdraw", "30000.50")] {
        let moved = cluster
            .baton(&["cash", way, amount, "--reason", "transfer", "--yes", "--address", address])
            .await;
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    }
    cluster.members[0].process.kill().await;
    let rows = async || cluster.sql.query_one(ROWS, &[]).await.unwrap().get::<_, String>(0);
    let was = rows().await;
    let free = "ALTER TABLE cash_movement DISABLE TRIGGER cash_movement_rows";
    let mut wrong = Vec::new();
    for (damage, field) in [
        ("UPDATE cash_movement SET amount = amount + 1000 WHERE amount = 50000", "amount"),
        ("UPDATE cash_movement SET amount = amount + 1000 WHERE kind = 'opening'", "amount"),
        (
            "UPDATE cash_movement SET amount = amount + 1000 WHERE kind = 'opening';
             UPDATE cash_movement SET amount = amount - 1000 WHERE amount = 50000",
            "amount",
        ),
        ("UPDATE cash_movement SET why = 'a gift' WHERE amount = 50000", "why"),
        ("UPDATE cash_movement SET amount = 'NaN' WHERE kind <> 'withdrawal'", "amount"),
        ("DELETE FROM cash_movement WHERE amount = 50000", "row"),
        ("DELETE FROM cash_movement", "row"),
        (
            "INSERT INTO cash_movement (id, kind, amount, who, why) VALUES (gen_random_uuid(), 'deposit', 7, 'nobody', 'nothing')",
            "row",
        ),
        (
            "UPDATE cash_movement SET amount = amount + 1000 WHERE amount = 20000;
             UPDATE portfolio_state SET capital = capital + 1000, closed_equity = closed_equity + 1000,
                equity_high = equity_high + 1000",
            "amount",
        ),
    ] {
        cluster.sql.batch_execute(&format!("{free}; {damage}")).await.unwrap();
        let check = answer(&cluster.baton(&["recover", "--check", "-o", "json"]).await);
        let named = check["findings"].as_array().into_iter().flatten();
        let is_named = named.into_iter().any(|f| f["table"] == "cash_movement" && f["field"] == field);
        let made = cluster.baton(&APPLY).await;
        let said = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
        let (is, whole) = (rows().await, cluster.baton(&["recover", "--check"]).await);
        if !is_named || !made.status.success() || is != was || !whole.status.success() {
            wrong.push(format!("{damage}: {check}\n{said}\n{was}\n{is}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    // They are kept as they are again.
    cluster.sql.batch_execute("DELETE FROM cash_movement").await.unwrap_err();
}
